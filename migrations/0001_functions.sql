-- What the tables of the following migrations are made with. The schema itself exists: the table that records the
-- migrations lives in it.

revoke all on schema billsync from public;

-- UUIDv7 (RFC 9562): the ids of rows made later are greater, so that they land at the right end of their index.
create function billsync.uuid_v7() returns uuid
language sql volatile parallel safe
as $$
    select encode(
        set_bit(
            set_bit(
                overlay(uuid_send(gen_random_uuid())
                    placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                    from 1 for 6),
                52, 1),
            53, 1),
        'hex')::uuid
$$;

create function billsync.set_updated_at() returns trigger
language plpgsql
as $$
begin
    new.updated_at := pg_catalog.now();
    return new;
end
$$;

-- Supabase grants everything in `public` to these roles by default privileges, and publishes it by REST: a table that
-- nobody took back from them is readable by everyone. Row-level security does not stop TRUNCATE, so both are needed.
create function billsync.unpublish(relation regclass) returns void
language plpgsql
as $$
declare
    grantee text;
begin
    execute format('revoke all on %s from public', relation);
    foreach grantee in array array['anon', 'authenticated'] loop
        if exists (select from pg_catalog.pg_roles where rolname = grantee) then
            execute format('revoke all on %s from %I', relation, grantee);
        end if;
    end loop;
    if (select relkind from pg_catalog.pg_class where oid = relation) in ('r', 'p') then
        execute format('alter table %s enable row level security', relation);
    end if;
end
$$;

-- A server without lz4 keeps its default compression.
create function billsync.compress_with_lz4(relation regclass, column_name text) returns void
language plpgsql
as $$
begin
    execute format('alter table %s alter column %I set compression lz4', relation, column_name);
exception
    when feature_not_supported or invalid_parameter_value then
        null;
end
$$;

-- Seconds since the epoch, as Stripe writes instants. Anything else is NULL, so that one odd object cannot fail a view.
create function billsync.stripe_time(seconds jsonb) returns timestamptz
language sql immutable parallel safe
as $$
    select case
        when jsonb_typeof(seconds) = 'number' and seconds::numeric between -2e11 and 2e11
            then to_timestamp(seconds::numeric::double precision)
    end
$$;

-- Milliseconds since the epoch, as Clerk writes instants; a value below 1e11 is seconds.
create function billsync.clerk_time(milliseconds jsonb) returns timestamptz
language sql immutable parallel safe
as $$
    select case
        when jsonb_typeof(milliseconds) <> 'number' or milliseconds::numeric not between -2e14 and 2e14 then null
        when milliseconds::numeric < 1e11 then to_timestamp(milliseconds::numeric::double precision)
        else to_timestamp((milliseconds::numeric / 1000)::double precision)
    end
$$;

-- A reference is an id or an expanded object.
create function billsync.reference_id(reference jsonb) returns text
language sql immutable parallel safe
as $$
    select case jsonb_typeof(reference)
        when 'string' then reference #>> '{}'
        when 'object' then reference ->> 'id'
    end
$$;

-- The default of every `id` column runs with the rights of whoever inserts, the application too.
revoke execute on all functions in schema billsync from public;
grant execute on function billsync.uuid_v7() to public;

do $$
declare
    grantee text;
begin
    foreach grantee in array array['anon', 'authenticated'] loop
        if exists (select from pg_catalog.pg_roles where rolname = grantee) then
            execute format('revoke all on schema billsync from %I', grantee);
            execute format('alter default privileges in schema billsync revoke all on tables from %I', grantee);
            execute format('alter default privileges in schema billsync revoke all on sequences from %I', grantee);
            execute format('alter default privileges in schema billsync revoke all on functions from %I', grantee);
            execute format('revoke execute on all functions in schema billsync from %I', grantee);
        end if;
    end loop;
    alter default privileges in schema billsync revoke all on tables from public;
    alter default privileges in schema billsync revoke all on functions from public;
end
$$;
