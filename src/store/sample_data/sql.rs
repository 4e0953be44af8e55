//! The SQL of a sample data set. Row n of a table follows from n, the number of users ($3) and the set's time ($4) alone, so
//! that every run makes the same rows; a statement makes rows $1 to $2. Rows are made in the order of their times, as they are
//! when an application runs, so that those of one user lie far apart.

/// What each statement begins with: `g`, the set; and of each row its number `n`.
macro_rules! rows {
    ($of:literal) => {
        concat!(
            "with g as (select $3::int8 as users, $4::timestamptz as at, $3::int8 * ",
            $of,
            " as total), n as (select n from generate_series($1::int8, $2::int8) n)"
        )
    };
}

/// A UUIDv7 of that time, table and row.
macro_rules! id {
    ($table:literal, $at:expr, $n:expr) => {
        concat!(
            "(lpad(to_hex(floor(extract(epoch from ",
            $at,
            ") * 1000)::int8), 12, '0') || '7",
            $table,
            "8' || lpad(to_hex(",
            $n,
            "), 15, '0'))::uuid"
        )
    };
}

/// When row `n` of `total` was made, over that many days.
macro_rules! at {
    ($days:literal, $n:expr, $total:expr) => {
        concat!("(g.at - make_interval(secs => 86400.0 * ", $days, " * (", $total, " - (", $n, ")) / ", $total, "))")
    };
}

macro_rules! user_at {
    ($n:expr) => {
        at!("730", $n, "g.users")
    };
}

macro_rules! user_id {
    ($n:expr) => {
        id!("001", user_at!($n), $n)
    };
}

/// Whose a row is: a hundredth is the first user's, a tenth that of the first hundredth of users, the rest is spread over all.
macro_rules! owner {
    ($n:expr) => {
        concat!(
            "(case when ",
            $n,
            " % 100 = 0 then 1 when ",
            $n,
            " % 10 = 5 then 1 + (",
            $n,
            " / 10) % greatest(g.users / 100, 1) \
            else 1 + (",
            $n,
            " * 2147483647) % g.users end)"
        )
    };
}

macro_rules! campaign_at {
    ($n:expr) => {
        at!("365", $n, "(g.users * 10)")
    };
}

macro_rules! campaign_id {
    ($n:expr) => {
        id!("002", campaign_at!($n), $n)
    };
}

/// Jobs are as many as campaigns, each begun a minute after its own.
macro_rules! job_at {
    ($n:expr) => {
        concat!("(", campaign_at!($n), " + interval '1 minute')")
    };
}

macro_rules! job_id {
    ($n:expr) => {
        id!("003", job_at!($n), $n)
    };
}

macro_rules! list_at {
    ($n:expr) => {
        at!("365", $n, "(g.users * 2)")
    };
}

macro_rules! list_id {
    ($n:expr) => {
        id!("005", list_at!($n), $n)
    };
}

/// People `p`: four in ten do not pay, the others are in every state of paying.
macro_rules! people {
    () => {
        concat!(
            rows!("1"),
            ", p as materialized ( \
            select n.n, g.at, g.users, ",
            user_at!("n.n"),
            " as created_at, ",
            user_id!("n.n"),
            " as id, t.status, \
                t.status <> 'none' as pays, n.n % 50 = 49 as is_deleted, \
                case when t.status in ('active', 'trialing', 'past_due') \
                    then (array['glow_up', 'viral_surge', 'fame_flex'])[1 + n.n % 3] else 'free' end as plan, \
                g.at - make_interval(days => (n.n % 28)::int4) as period_start, \
                g.at - make_interval(days => (n.n % 28)::int4) + interval '1 month' as period_end \
            from g, n, lateral (select case when n.n = 1 then 'active' when n.n % 100 < 40 then 'none' \
                when n.n % 100 < 80 then 'active' when n.n % 100 < 88 then 'trialing' when n.n % 100 < 92 then 'past_due' \
                when n.n % 100 < 98 then 'canceled' when n.n % 100 = 98 then 'unpaid' else 'incomplete' end as status) t)"
        )
    };
}

/// Events `e`, over ninety days, each of some user's customer or of the user.
macro_rules! events {
    () => {
        concat!(
            rows!("10"),
            ", e as materialized ( \
            select n.n, t.event_type, 'evt_bench_' || n.n as event_id, ",
            at!("90", "n.n", "g.total"),
            " as received_at, \
                case when t.event_type = 'user.updated' then 'clerk' else 'stripe' end as provider, \
                case when t.event_type = 'user.updated' then 'user_bench_' else 'cus_bench_' end || ",
            owner!("n.n"),
            " as owner_id, \
                case when n.n % 1000 = 1 then 'failed' when n.n % 100 = 2 then 'unlinked' when n.n % 20 = 6 then 'stale' \
                    when t.event_type = 'charge.succeeded' then 'ignored' else 'applied' end as outcome \
            from g, n, lateral (select case when n.n % 1000 = 7 then 'customer.subscription.trial_will_end' \
                when n.n % 20 = 3 then 'user.updated' when n.n % 10 < 5 then 'customer.subscription.updated' \
                when n.n % 10 < 8 then 'invoice.paid' when n.n % 10 = 8 then 'payment_method.attached' \
                else 'charge.succeeded' end as event_type) t)"
        )
    };
}

statements! {
    HAS_OWN_ROWS = "select exists (select from public.users) or exists (select from billsync.webhook_events) \
        or exists (select from billsync.provider_objects)";

    MAKE_SAMPLE_PLANS = "\
        insert into public.subscription_plans (plan_key, plan_name, campaigns_limit, creators_limit, features, price_monthly, \
            stripe_price_id_monthly, stripe_product_id, display_order) \
        values ('free', 'Free', 0, 0, '{}', 0, null, null, 0), \
            ('glow_up', 'Glow Up', 3, 1000, '{\"csv_export\": true}', 99, 'price_glow_up', 'prod_glow_up', 1), \
            ('viral_surge', 'Viral Surge', 10, 10000, '{\"csv_export\": true}', 249, 'price_viral_surge', 'prod_viral_surge', 2), \
            ('fame_flex', 'Fame Flex', -1, -1, '{\"csv_export\": true}', 499, 'price_fame_flex', 'prod_fame_flex', 3) \
        on conflict (plan_key) do nothing";

    /// Some share an address: it signed up again.
    MAKE_SAMPLE_USERS = concat!(people!(), ", \
        u as (insert into public.users (id, user_id, email, full_name, business_name, industry, onboarding_step, created_at, \
                updated_at, deleted_at) \
            select id, 'user_bench_' || n, \
                case when not is_deleted then 'bench.' || case when n % 1000 = 2 then n - 1 else n end || '@example.com' end, \
                case when not is_deleted then 'Sample ' || n end, 'Business ' || n % 1000, \
                (array['beauty', 'fitness', 'food', 'travel'])[1 + n % 4], \
                (array['pending', 'step-1', 'step-2', 'completed', 'completed'])[1 + n % 5], created_at, created_at, \
                case when is_deleted then at end from p), \
        s as (insert into public.user_subscriptions (id, user_id, current_plan, subscription_status, trial_status, \
                trial_start_date, trial_end_date, subscription_renewal_date, billing_sync_status, created_at, updated_at) \
            select id, id, plan, status, case when status = 'trialing' then 'active' when pays then 'converted' else 'pending' end, \
                case when status = 'trialing' then at - interval '7 days' when pays then created_at end, \
                case when status = 'trialing' then at + interval '7 days' when pays then created_at + interval '14 days' end, \
                case when status in ('active', 'past_due') then period_end end, \
                case when pays then 'synced' else 'not_linked' end, created_at, created_at from p), \
        b as (insert into public.user_billing (id, user_id, stripe_customer_id, stripe_subscription_id, payment_method_id, \
                card_last_4, card_brand, card_exp_month, card_exp_year, billing_address_city, billing_address_country, \
                created_at, updated_at) \
            select id, id, case when pays then 'cus_bench_' || n end, case when pays then 'sub_bench_' || n end, \
                case when pays then 'pm_bench_' || n end, case when pays then '4242' end, case when pays then 'visa' end, \
                case when pays then 1 + n % 12 end, case when pays then 2030 end, case when pays then 'Berlin' end, \
                case when pays then 'DE' end, created_at, created_at from p), \
        y as (insert into public.user_usage (id, user_id, plan_campaigns_limit, plan_creators_limit, plan_features, \
                usage_campaigns_current, usage_creators_current_month, enrichments_current_month, usage_reset_date, usage_anchor, \
                usage_period_start, created_at, updated_at) \
            select p.id, p.id, c.campaigns_limit, c.creators_limit, c.features, p.n % 4, p.n % 100, p.n % 10, p.period_end, \
                p.period_start, p.period_start, p.created_at, p.created_at \
            from p join public.subscription_plans c on c.plan_key = p.plan) \
        insert into public.user_system_data (id, user_id, signup_timestamp, email_schedule_status, last_webhook_event, \
            last_webhook_timestamp, created_at, updated_at) \
        select id, id, created_at, jsonb_build_object('welcome:user_bench_' || n, \
                jsonb_build_object('due_at', created_at, 'active', true, 'sent_at', created_at)), \
            'customer.subscription.updated', at, created_at, created_at from p");

    MAKE_SAMPLE_OWNERS = concat!(people!(), ", \
        c as (insert into billsync.owners (owner_id, clerk_user_id, linked_by, newest_type, newest_id, newest_at, has_facts, emails) \
            select 'cus_bench_' || n, 'user_bench_' || n, 'customer_metadata', 'customer.subscription.updated', \
                'evt_bench_sub_' || n, at, true, array['bench.' || n || '@example.com'] from p where pays) \
        insert into billsync.owners (owner_id, newest_type, newest_id, newest_at, emails) \
        select 'user_bench_' || n, 'user.created', 'evt_bench_user_' || n, created_at, \
            case when is_deleted then '{}' else array['bench.' || n || '@example.com'] end from p");

    MAKE_SAMPLE_OBJECTS = concat!(people!(), " \
        insert into billsync.provider_objects (provider, object_id, object_type, owner_id, as_of, terminal, event_id, winner, \
            fact, object, deleted_at) \
        select o.provider, o.object_id, o.object_type, o.owner_id, p.at, o.object_type = 'subscription' and p.status = 'canceled', \
            'evt_bench_' || o.object_type || '_' || p.n, '{\"type_rank\": \"other\", \"names_owner\": true}', \
            o.fact || jsonb_build_object('type', o.object_type), \
            jsonb_build_object('id', o.object_id, 'object', o.object_type, 'livemode', false) || o.fact, \
            case when p.is_deleted and o.object_type = 'user' then p.at end \
        from p cross join lateral (values \
            ('clerk', 'user_bench_' || p.n, 'user', 'user_bench_' || p.n, \
                jsonb_build_object('created_at', p.created_at, 'email', 'bench.' || p.n || '@example.com')), \
            ('stripe', 'cus_bench_' || p.n, 'customer', 'cus_bench_' || p.n, \
                jsonb_build_object('created', p.created_at, 'clerk_user_id', 'user_bench_' || p.n, \
                    'default_payment_method', 'pm_bench_' || p.n)), \
            ('stripe', 'pm_bench_' || p.n, 'payment_method', 'cus_bench_' || p.n, \
                jsonb_build_object('customer', 'cus_bench_' || p.n)), \
            ('stripe', 'sub_bench_' || p.n, 'subscription', 'cus_bench_' || p.n, \
                jsonb_build_object('customer', 'cus_bench_' || p.n, 'status', p.status, 'created', p.created_at, \
                    'current_period_start', p.period_start, 'current_period_end', p.period_end, \
                    'items', jsonb_build_array(jsonb_build_object('id', 'si_bench_' || p.n, \
                        'price', jsonb_build_object('id', 'price_' || p.plan)))))) \
            as o(provider, object_id, object_type, owner_id, fact) \
        where p.pays or o.provider = 'clerk'");

    /// The last year of each user, a month a row.
    MAKE_SAMPLE_PERIODS = concat!(people!(), " \
        insert into billsync.usage_periods (user_id, period_start, period_end, usage_campaigns_current, \
            usage_creators_current_month, enrichments_current_month, closed_at) \
        select p.id, p.period_start - make_interval(months => m), p.period_start - make_interval(months => m - 1), p.n % 4, \
            (p.n + m) % 1000, m, p.period_start - make_interval(months => m - 1) from p, generate_series(1, 12) m");

    MAKE_SAMPLE_CAMPAIGNS = concat!(rows!("10"), " \
        insert into public.campaigns (id, user_id, name, description, search_type, status, created_at, updated_at) \
        select ", campaign_id!("n.n"), ", 'user_bench_' || ", owner!("n.n"), ", 'Campaign ' || n.n, \
            case when n.n % 3 = 0 then 'Creators for season ' || n.n % 12 end, \
            (array['keyword', 'similar', 'profile'])[1 + n.n % 3], \
            (array['draft', 'active', 'active', 'completed', 'completed', 'archived'])[1 + n.n % 6], \
            t.created_at, t.created_at \
        from g, n, lateral (select ", campaign_at!("n.n"), " as created_at) t");

    /// The newest hundredth has yet to end. A fifth of all jobs share a keyword, one in a thousand another.
    MAKE_SAMPLE_JOBS = concat!(rows!("10"), " \
        insert into public.scraping_jobs (id, user_id, run_id, status, keywords, platform, region, campaign_id, target_username, \
            search_params, processed_runs, processed_results, target_results, cursor, progress, started_at, completed_at, \
            timeout_at, error, created_at, updated_at) \
        select ", job_id!("n.n"), ", 'user_bench_' || ", owner!("n.n"), ", 'run_' || n.n, t.status, \
            jsonb_build_array((array['beauty', 'fitness', 'food', 'travel', 'fashion'])[1 + n.n % 5], 'keyword ' || n.n % 1000), \
            case when n.n % 10 < 6 then 'tiktok' when n.n % 10 < 9 then 'instagram' else 'youtube' end, \
            (array['US', 'GB', 'DE'])[1 + n.n % 3], case when n.n % 4 <> 0 then ", campaign_id!("n.n"), " end, \
            case when n.n % 7 = 0 then 'creator_' || n.n % 5000 end, \
            jsonb_build_object('min_followers', 1000 * (n.n % 50), 'language', 'en') \
                || case when n.n % 100 = 9 then jsonb_build_object('hashtag', 'tag' || n.n % 500) else '{}' end, \
            1, 50, 100, 50, case when t.status = 'completed' then 100 else 50 end, t.created_at, \
            case when t.status in ('completed', 'error', 'timeout') then t.created_at + interval '2 minutes' end, \
            t.created_at + interval '1 hour', case when t.status = 'error' then 'the platform refused' end, t.created_at, t.created_at \
        from g, n, lateral (select ", job_at!("n.n"), " as created_at, case \
            when n.n > g.total - greatest(g.total / 100, 1) then (array['pending', 'processing'])[1 + n.n % 2] \
            when n.n % 20 = 4 then 'error' when n.n % 50 = 8 then 'timeout' else 'completed' end as status) t");

    /// One a job, but for a hundredth, which is all of one job.
    MAKE_SAMPLE_RESULTS = concat!(rows!("10"), " \
        insert into public.scraping_results (id, job_id, creators, created_at, updated_at) \
        select ", id!("004", "t.created_at", "n.n"), ", case when n.n % 100 = 0 then ", job_id!("100"), " else ", job_id!("n.n"), " end, \
            (select jsonb_agg(jsonb_build_object('handle', 'creator_' || (n.n * 5 + c) % 5000, 'platform', 'tiktok', \
                'followers', 1000 * c)) from generate_series(0, n.n % 4) c), t.created_at, t.created_at \
        from g, n, lateral (select ", job_at!("n.n"), " + interval '1 minute' as created_at) t");

    MAKE_SAMPLE_LISTS = concat!(rows!("2"), " \
        insert into public.creator_lists (id, user_id, name, is_archived, created_at, updated_at) \
        select ", list_id!("n.n"), ", ", user_id!("o.n"), ", 'List ' || n.n, n.n % 10 = 0, t.created_at, t.created_at \
        from g, n, lateral (select ", owner!("n.n"), " as n) o, lateral (select ", list_at!("n.n"), " as created_at) t");

    /// A hundredth is on the first list.
    MAKE_SAMPLE_ITEMS = concat!(rows!("10"), " \
        insert into public.list_items (id, list_id, platform, creator_handle, creator, position, created_at, updated_at) \
        select ", id!("006", "t.created_at", "n.n"), ", ", list_id!("l.n"), ", \
            (array['tiktok', 'instagram', 'youtube'])[1 + n.n % 3], 'creator_' || n.n, \
            jsonb_build_object('followers', 1000 * (n.n % 100), 'bio', 'Sample creator ' || n.n), n.n, t.created_at, t.created_at \
        from g, n, lateral (select case when n.n % 100 = 0 then 1 else 1 + (n.n * 2147483647) % (g.users * 2) end as n) l, \
            lateral (select ", at!("365", "n.n", "g.total"), " as created_at) t");

    MAKE_SAMPLE_EVENTS = concat!(events!(), ", \
        w as (insert into billsync.webhook_events (provider, event_id, event_type, object_id, owner_id, occurred_at, received_at, \
                api_version, livemode, source, outcome, reason) \
            select provider, event_id, event_type, 'obj_bench_' || n, owner_id, received_at - interval '2 seconds', received_at, \
                case when provider = 'stripe' then '2025-09-30.clover' end, case when provider = 'stripe' then false end, \
                case when n % 50 = 0 then 'reconcile' else 'webhook' end, outcome, \
                case when outcome = 'failed' then 'a sample of a failure' end from e) \
        insert into billsync.webhook_payloads (received_at, provider, event_id, payload, effects) \
        select received_at, provider, event_id, jsonb_build_object('id', event_id, 'object', 'event', 'type', event_type, \
                'livemode', false, 'data', jsonb_build_object('object', jsonb_build_object('id', 'obj_bench_' || n, \
                    'customer', owner_id))), \
            case when outcome = 'applied' then jsonb_build_array(jsonb_build_object('user_id', owner_id, \
                'table', 'user_subscriptions', 'column', 'subscription_renewal_date', 'old', null, 'new', received_at)) end \
        from e");

    MAKE_SAMPLE_CONSUME_KEYS = concat!(rows!("1"), " \
        insert into billsync.consume_keys (user_id, idempotency_key, meter, amount, answer, created_at) \
        select ", user_id!("n.n"), ", 'key_' || n.n, 'creators', 1, \
            '{\"allowed\": true, \"used\": 1, \"limit\": null, \"resets_at\": null}', g.at - interval '1 hour' from g, n");
}
