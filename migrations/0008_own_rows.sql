-- What a signed-in user of Supabase's REST API may read: their own rows, by the `sub` of the JWT that PostgREST has verified.
-- Nothing may be written, and `anon` still sees nothing.

-- Run it again once the role has been made: policies and grants need it to exist.
create function billsync.publish_own_rows() returns boolean
language plpgsql
as $$
declare
    -- Evaluated once a statement rather than once a row.
    own_id constant text := '(select nullif(current_setting(''request.jwt.claims'', true), '''')::jsonb ->> ''sub'')';
    own_row constant text := '(select u.id from public.users u where u.user_id = ' || own_id || ')';
    published record;
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'authenticated') then
        return false;
    end if;
    for published in
        select * from (values
            ('users', 'user_id = ' || own_id),
            ('user_subscriptions', 'user_id = ' || own_row),
            ('user_billing', 'user_id = ' || own_row),
            ('user_usage', 'user_id = ' || own_row),
            ('user_system_data', 'user_id = ' || own_row),
            ('campaigns', 'user_id = ' || own_id),
            ('scraping_jobs', 'user_id = ' || own_id),
            ('scraping_results',
                'exists (select from public.scraping_jobs j where j.id = job_id and j.user_id = ' || own_id || ')'),
            ('creator_lists', 'user_id = ' || own_row),
            ('list_items',
                'exists (select from public.creator_lists l where l.id = list_id and l.user_id = ' || own_row || ')')
        ) as t(name, condition)
    loop
        execute format('drop policy if exists own_rows on public.%I', published.name);
        execute format('create policy own_rows on public.%I for select to authenticated using (%s)',
            published.name, published.condition);
        execute format('grant select on public.%I to authenticated', published.name);
    end loop;
    return true;
end
$$;
revoke execute on function billsync.publish_own_rows() from public;
select billsync.publish_own_rows();
