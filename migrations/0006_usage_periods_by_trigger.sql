-- A foreign key locks the user's row once per archived period, a fifth of what a reset costs. Periods are made from the usage
-- row of a user, which has such a key and is locked meanwhile, so all that is left to do is to end them with their user.

alter table billsync.usage_periods drop constraint usage_periods_user_id_fkey;

-- With the rights of its owner: the application may delete users, and sees nothing of this schema.
create function billsync.delete_usage_periods() returns trigger
language plpgsql
security definer
set search_path = pg_catalog
as $$
begin
    delete from billsync.usage_periods where user_id = old.id;
    return null;
end
$$;
revoke execute on function billsync.delete_usage_periods() from public;

create trigger delete_usage_periods after delete on public.users for each row
    execute function billsync.delete_usage_periods();
