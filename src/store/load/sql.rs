//! The two loads, a statement each: reading many things at once costs one round trip. The first gives already what the second
//! would, as far as it is known beforehand. Every branch gives the same columns; what is no object gives its instants in
//! three of them and the rest as JSON.

use crate::store::users_sql::locked_users;

/// A row's kind and an object's columns, in the order in which [`ObjectRow`](crate::store::facts::ObjectRow) reads them, but
/// for `object`.
macro_rules! object_columns {
    ($kind:literal) => {
        concat!(
            $kind,
            ", o.provider, o.account, o.object_id, o.object_type, o.owner_id, o.owner_evidence::text, o.as_of, o.terminal, \
             o.event_id, o.winner::text, o.fact::text, o.contenders::text, o.ambiguous, o.deleted_at"
        )
    };
}

/// Something else: its kind, its instants, the rest.
macro_rules! other {
    ($kind:literal, $at:literal, $second_at:literal, $rest:literal) => {
        concat!(
            "select ",
            $kind,
            ", null, null, null, null, null, null, ",
            $at,
            ", null, null, null, null, null, null, ",
            $second_at,
            ", null, null, ",
            $rest,
            " "
        )
    };
}

/// By key. The object itself only where a snapshot of the batch shares the winner's key and has to be compared with it. The
/// first branch: it gives the columns their types.
macro_rules! objects_by_key {
    ($providers:literal, $accounts:literal, $ids:literal, $terminals:literal, $times:literal) => {
        concat!(
            "select ",
            object_columns!("'object'"),
            ", \
            case when o.terminal = k.terminal and o.as_of = k.as_of then o.object::text end, null::timestamptz[], null::text \
        from unnest(",
            $providers,
            "::text[], ",
            $accounts,
            "::text[], ",
            $ids,
            "::text[], ",
            $terminals,
            "::bool[], ",
            $times,
            "::timestamptz[]) as k(provider, account, object_id, terminal, as_of) \
        join billsync.provider_objects o \
          on o.provider = k.provider and o.account = k.account and o.object_id = k.object_id "
        )
    };
}

/// The facts of `customers (id, is_late)`, beside the objects of the batch, which are read by key: everything that is few; of
/// invoices and payment intents the newest that names a user; two attached cards, which tell "exactly one" from "several".
///
/// Each branch looks owners up one by one in the index on them, and nothing else can be made of it: `offset 0` keeps the
/// further conditions out, which would let a planner without statistics read the primary key from end to end.
macro_rules! facts_of_customers {
    ($batch:literal) => {
        concat!("\
        select ", of_customer!(), ", null, null, null from customers c \
        cross join (values ('customer'), ('subscription'), ('subscription_schedule'), ('checkout.session')) as t(object_type) \
        cross join lateral (select * from billsync.provider_objects f \
            where f.owner_id = c.id and f.object_type = t.object_type offset 0) o \
        where o.account = '' and o.provider = 'stripe' and o.object_id <> all(", $batch, ") \
        union all \
        select ", of_customer!(), ", null, null, null from customers c \
        cross join lateral (select * from billsync.provider_objects r where r.owner_id = c.id and r.read_singly offset 0) o \
        where o.object_id <> all(", $batch, ") \
        union all \
        select ", of_customer!(), ", null, null, null from customers c \
        cross join (values ('invoice'), ('payment_intent')) as t(object_type) \
        cross join lateral (select * from billsync.provider_objects e \
            where e.owner_id = c.id and e.object_type = t.object_type and e.evidence_created_at is not null \
              and e.object_id <> all(", $batch, ") \
            order by e.evidence_created_at desc, e.object_id collate \"C\" limit 1) o \
        union all \
        select ", of_customer!(), ", null, null, null from customers c \
        cross join lateral (select m.* from (values ('payment_method'), ('card'), ('source')) as t(object_type) \
            cross join lateral (select * from billsync.provider_objects p \
                where p.owner_id = c.id and p.object_type = t.object_type and p.account || '' = '' and p.deleted_at is null \
                  and p.fact ? 'card' and p.fact ->> 'customer' = c.id and not p.fact ? 'detached' \
                  and p.object_id <> all(", $batch, ") limit 2) m \
            limit 2) o ")
    };
}

macro_rules! of_customer {
    () => {
        object_columns!("case when c.is_late then 'late object' else 'object' end")
    };
}

/// The further customers of the Clerk users `$users`: those that are not among the `$locked`.
macro_rules! further_customers {
    ($users:literal, $locked:literal) => {
        concat!(
            "select w.owner_id as id, true as is_late from billsync.owners w \
            where w.clerk_user_id = any(",
            $users,
            "::text[]) and w.owner_id <> all(",
            $locked,
            "::text[])"
        )
    };
}

/// The facts of the Clerk users, which of the ids are erased, and the users' rows, locked.
macro_rules! of_users {
    ($users:literal, $hashes:literal) => {
        concat!(
            "select ",
            object_columns!("'late object'"),
            ", null, null, null from unnest(",
            $users,
            "::text[]) as c(id) \
        cross join lateral (select * from billsync.provider_objects f where f.owner_id = c.id offset 0) o \
        where o.account = '' and o.provider in ('clerk', 'import') \
        union all select ",
            object_columns!("'late object'"),
            ", null, null, null from unnest(",
            $users,
            ") as c(id) \
        cross join (values ('clerk'), ('import')) as p(provider) \
        cross join lateral (select * from billsync.provider_objects i \
            where i.provider = p.provider and i.account = '' and i.object_id = c.id offset 0) o \
        where o.owner_id is distinct from o.object_id \
        union all ",
            other!("'erased'", "null", "null", "e.id_hash"),
            "from billsync.erasures e where e.id_hash = any(",
            $hashes,
            "::text[]) \
        union all select 'user', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, \
            l.times, l.rest from locked_users l "
        )
    };
}

statements! {
    /// Events ($1, $2), objects ($3 to $7), customers ($8), those and the Clerk users named ($9), test clocks ($10), the
    /// batch's own objects ($11), the Clerk users expected ($12), ids by hash ($13): which events the ledger has; the objects;
    /// the customers' facts and what the operator says of them; the owners named, who claims or imports the customers, and who
    /// lives by the clocks; where the plans' rows are and which transactions wrote them, which tells one catalog from another;
    /// and of the users expected, what the second load would give. Nobody is locked for events that the ledger has.
    LOAD_FIRST = concat!("with ", locked_users!("$12", "(cardinality($1::text[]) = 0 or exists (select from unnest($1, $2::text[]) as k(provider, event_id) \
            where not exists (select from billsync.webhook_events e \
                where e.provider = k.provider and e.event_id = k.event_id and e.outcome <> 'failed')))"), ", \
        customers as materialized ( \
            select c.id, false as is_late from unnest($8::text[]) as c(id) \
            union all ", further_customers!("$12", "$8"), " \
        ) ",
        objects_by_key!("$3", "$4", "$5", "$6", "$7"),
        "union all ", other!("'event'", "e.received_at", "null",
            "json_build_object('provider', e.provider, 'id', e.event_id, 'failed', e.outcome = 'failed')::text"),
        "from unnest($1::text[], $2::text[]) as k(provider, event_id) \
        join billsync.webhook_events e on e.provider = k.provider and e.event_id = k.event_id \
        union all ", facts_of_customers!("$11::text[]"),
        "union all ", other!("'link'", "null", "null", "row_to_json(l)::text"),
        "from billsync.operator_links l where l.customer_id = any($8) \
        union all ", other!("case when o.owner_id = any($9) or o.claimed_customer_id = any($9) or o.imported_customer_id = any($9) \
                or o.test_clock = any($10) then 'owner' else 'late owner' end", "o.newest_at", "null", "row_to_json(o)::text"),
        "from billsync.owners o where o.owner_id = any($9::text[]) or o.claimed_customer_id = any($9) \
            or o.imported_customer_id = any($9) or o.test_clock = any($10::text[]) \
            or o.owner_id = any($12) or o.clerk_user_id = any($12) \
        union all ", other!("'catalog'", "null", "null",
            "coalesce(string_agg(p.ctid::text || p.xmin::text, ' ' order by p.plan_key), '')"),
        "from public.subscription_plans p \
        union all ", of_users!("$12", "$13"));

    /// Clerk users ($1), locked customers ($2), the batch's objects ($3), further objects ($4 to $8), trials ($9 to $11) and
    /// what of their invoices is loaded ($12), ids by hash ($13): the users' rows, locked, and every customer linked to them;
    /// the facts of the users and of the customers that are not locked; the further objects; per trial the earliest payment of
    /// its other invoices; which of the ids are erased.
    LOAD_SECOND = concat!("with ", locked_users!("$1", "true"), ", customers as materialized (", further_customers!("$1", "$2"), ") ",
        objects_by_key!("$4", "$5", "$6", "$7", "$8"),
        "union all ", facts_of_customers!("$3::text[]"),
        "union all ", other!("'late owner'", "o.newest_at", "null", "row_to_json(o)::text"),
        "from billsync.owners o where o.owner_id = any($1) or o.clerk_user_id = any($1) and o.owner_id <> all($2) \
        union all ", other!("'summary'", "s.since", "i.summed_conversion_at",
            "json_build_object('customer_id', s.customer_id, 'subscription', s.subscription)::text"),
        "from unnest($9::text[], $10::text[], $11::timestamptz[]) as s(customer_id, subscription, since) \
        cross join lateral (select v.summed_conversion_at from billsync.provider_objects v \
            where v.summed_subscription = s.subscription and v.owner_id = s.customer_id and v.summed_start_at >= s.since \
              and v.object_id <> all($12::text[]) \
            order by v.summed_conversion_at limit 1) i \
        union all ", of_users!("$1", "$13"));
}
