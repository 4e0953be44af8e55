-- The service's own tables. Schema `billsync` is never published.

-- The ledger: every event once, narrow, never pruned.
create table billsync.webhook_events (
    provider text not null check (provider in ('stripe', 'clerk', 'import')),
    event_id text not null,
    event_type text not null,
    object_id text,
    owner_id text,
    -- The provider's clock.
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    api_version text,
    livemode boolean,
    source text not null check (source in ('webhook', 'replay', 'catch_up', 'reconcile', 'job')),
    outcome text not null check (outcome in ('applied', 'unlinked', 'stale', 'ignored', 'failed')),
    reason text,
    primary key (provider, event_id)
);
create index webhook_events_received_at_idx on billsync.webhook_events (received_at, event_id);
create index webhook_events_owner_id_idx on billsync.webhook_events (owner_id, occurred_at) where owner_id is not null;
create index webhook_events_failed_idx on billsync.webhook_events (received_at) where outcome = 'failed';

-- The key begins with the time, so that the ledger's row leads to it and inserts stay at the right end of the index.
create table billsync.webhook_payloads (
    received_at timestamptz not null,
    provider text not null,
    event_id text not null,
    payload jsonb,
    -- JSON text that jsonb refuses: a lone surrogate, a number beyond numeric, too deep.
    payload_raw bytea,
    -- The columns that the event changed, old and new.
    effects jsonb,
    primary key (received_at, provider, event_id)
) partition by range (received_at);
select billsync.compress_with_lz4('billsync.webhook_payloads', c) from unnest(array['payload', 'payload_raw', 'effects']) c;
-- Where an event goes whose month was not made ahead: none is lost for that.
create table billsync.webhook_payloads_default partition of billsync.webhook_payloads default;
select billsync.compress_with_lz4('billsync.webhook_payloads_default', c)
from unnest(array['payload', 'payload_raw', 'effects']) c;

-- Makes the partition of the month of `first` and those of the following months, moving rows out of the default one.
-- Attaching (rather than `create table … partition of`) lets inserts into the other partitions go on.
create function billsync.ensure_payload_partitions(first timestamptz, months_ahead integer) returns setof text
language plpgsql
as $$
declare
    starts timestamp;
    ends timestamp;
    partition text;
begin
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('billsync.webhook_payloads'));
    for starts in
        select date_trunc('month', first at time zone 'utc') + make_interval(months => m)
        from generate_series(0, months_ahead) m
    loop
        ends := starts + interval '1 month';
        partition := 'webhook_payloads_' || to_char(starts, 'YYYY_MM');
        continue when to_regclass(format('billsync.%I', partition)) is not null;
        execute format('create table billsync.%I (like billsync.webhook_payloads including all)', partition);
        execute format(
            'with moved as (delete from billsync.webhook_payloads_default where received_at >= %L and received_at < %L '
            'returning received_at, provider, event_id, payload, payload_raw, effects) insert into billsync.%I '
            '(received_at, provider, event_id, payload, payload_raw, effects) select * from moved',
            starts at time zone 'utc', ends at time zone 'utc', partition);
        execute format(
            'alter table billsync.webhook_payloads attach partition billsync.%I for values from (%L) to (%L)',
            partition, starts at time zone 'utc', ends at time zone 'utc');
        perform billsync.unpublish(format('billsync.%I', partition)::regclass);
        return next partition;
    end loop;
end
$$;

-- Drops the partitions that end before `keep_from`.
create function billsync.drop_payload_partitions(keep_from timestamptz) returns setof text
language plpgsql
as $$
declare
    partition text;
begin
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('billsync.webhook_payloads'));
    for partition in
        select c.relname
        from pg_catalog.pg_inherits i
        join pg_catalog.pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'billsync.webhook_payloads'::regclass
          and c.relname ~ '^webhook_payloads_\d{4}_\d{2}$'
          and (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') at time zone 'utc' <= keep_from
        order by c.relname
    loop
        execute format('drop table billsync.%I', partition);
        return next partition;
    end loop;
end
$$;

-- The facts: the winning snapshot of every object that an event has carried.
create table billsync.provider_objects (
    provider text not null check (provider in ('stripe', 'clerk', 'import')),
    -- The Connect account, or empty for the account itself.
    account text not null default '',
    object_id text not null,
    object_type text not null,
    owner_id text,
    -- NULL while nothing but the object's deletion is known, as are `terminal`, `event_id` and `winner`.
    as_of timestamptz,
    deleted_at timestamptz,
    -- What of an invoice or payment intent is looked up without reading it, see the indexes. NULL everywhere else.
    evidence_created_at timestamptz,
    summed_start_at timestamptz,
    summed_conversion_at timestamptz,
    summed_subscription text,
    terminal boolean,
    ambiguous boolean not null default false,
    read_singly boolean not null default false,
    event_id text,
    owner_evidence jsonb,
    winner jsonb,
    -- The narrow decoded values: all that linking and projection ever load.
    fact jsonb,
    contenders jsonb,
    -- The provider's whole object, redacted.
    object jsonb,
    primary key (provider, account, object_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
select billsync.compress_with_lz4('billsync.provider_objects', c) from unnest(array['object', 'fact', 'contenders', 'winner']) c;
create index provider_objects_owner_id_idx on billsync.provider_objects (owner_id, object_type);
-- The next three hold a customer's cost down when it has ten thousand invoices. Their columns change at most once in an
-- object's life, so that updates stay heap-only.
create index provider_objects_read_singly_idx on billsync.provider_objects (owner_id) where read_singly;
-- The newest invoice or payment intent that names a Clerk user.
create index provider_objects_evidence_idx
    on billsync.provider_objects (owner_id, object_type, evidence_created_at desc, object_id collate "C")
    where evidence_created_at is not null;
-- The earliest payment of an invoice of a subscription.
create index provider_objects_summed_idx on billsync.provider_objects (summed_subscription, summed_conversion_at)
    where summed_subscription is not null;

-- Objects that the provider has to be asked about: a work list, not a source of truth.
create table billsync.refetch_queue (
    object_id text primary key,
    after timestamptz not null,
    reason text not null,
    attempts integer not null default 0
);
create index refetch_queue_after_idx on billsync.refetch_queue (after);

-- A derived cache: whose a customer is, what a customer or Clerk user is found by, and its newest event.
create table billsync.owners (
    owner_id text primary key,
    clerk_user_id text,
    linked_by text,
    newest_type text,
    newest_id text,
    newest_at timestamptz,
    newest_failed boolean not null default false,
    has_facts boolean not null default false,
    claimed_customer_id text,
    imported_customer_id text,
    test_clock text,
    emails text[] not null default '{}'
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
create index owners_clerk_user_id_idx on billsync.owners (clerk_user_id) where clerk_user_id is not null;
create index owners_claimed_customer_id_idx on billsync.owners (claimed_customer_id) where claimed_customer_id is not null;
create index owners_imported_customer_id_idx on billsync.owners (imported_customer_id)
    where imported_customer_id is not null;
create index owners_test_clock_idx on billsync.owners (test_clock) where test_clock is not null;
create index owners_emails_idx on billsync.owners using gin (emails);

create table billsync.operator_links (
    customer_id text primary key,
    -- NULL: nobody.
    clerk_user_id text,
    reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index operator_links_clerk_user_id_idx on billsync.operator_links (clerk_user_id);
create trigger set_updated_at before update on billsync.operator_links for each row
    when (old.* is distinct from new.*) execute function billsync.set_updated_at();

-- The counters of the periods that have ended.
create table billsync.usage_periods (
    user_id uuid not null references public.users (id) on delete cascade,
    period_start timestamptz not null,
    period_end timestamptz not null,
    usage_campaigns_current integer not null,
    usage_creators_current_month integer not null,
    enrichments_current_month integer not null,
    -- Whole periods after this one that nothing was archived for.
    periods_skipped integer not null default 0,
    closed_at timestamptz not null default now(),
    primary key (user_id, period_start)
);

create table billsync.schedule_runs (
    id bigint generated always as identity primary key,
    name text not null,
    started_at timestamptz not null,
    finished_at timestamptz,
    -- NULL while it runs, and for ever if its process died.
    succeeded boolean,
    summary jsonb,
    error text
);
create index schedule_runs_name_idx on billsync.schedule_runs (name, started_at desc);

-- One runner at a time across processes; a row rather than a session's lock, which would not survive a pooler.
create table billsync.schedule_leases (
    name text primary key,
    holder text not null,
    expires_at timestamptz not null
);

create table billsync.sync_cursors (
    name text primary key,
    position jsonb not null,
    updated_at timestamptz not null default now()
);
create trigger set_updated_at before update on billsync.sync_cursors for each row
    when (old.* is distinct from new.*) execute function billsync.set_updated_at();

create table billsync.consume_keys (
    user_id uuid not null references public.users (id) on delete cascade,
    idempotency_key text not null,
    meter text not null,
    amount integer not null,
    -- What was answered, to be answered again.
    answer jsonb not null,
    created_at timestamptz not null default now(),
    primary key (user_id, idempotency_key)
);
create index consume_keys_created_at_idx on billsync.consume_keys (created_at);

select billsync.ensure_payload_partitions(now(), 3);

do $$
declare
    relation regclass;
begin
    for relation in
        select oid from pg_catalog.pg_class
        where relnamespace = 'billsync'::regnamespace and relkind in ('r', 'p', 'S')
    loop
        perform billsync.unpublish(relation);
    end loop;
end
$$;

revoke execute on all functions in schema billsync from public;
grant execute on function billsync.uuid_v7() to public;
