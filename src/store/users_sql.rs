//! The SQL of the five tables. Every statement is set-based and names the projection's columns alone: whatever else is in
//! a row belongs to the application. The updates are parts of the one write of a batch.

/// Locks and reads the rows of the Clerk users `$users` who have all five, if `$condition`, as `locked_users (times, rest)`; instants apart, since
/// JSON has no form for every instant of Postgres. Locked until commit, so that a mailer's `sent_at` or a counter that is
/// written meanwhile is not lost. In the order of the index that finds them: any other would have the index of that order read
/// from end to end.
macro_rules! locked_users {
    ($users:literal, $condition:literal) => {
        concat!("locked_users as materialized ( \
        select array[u.created_at, u.deleted_at, s.trial_start_date, s.trial_end_date, s.trial_conversion_date, \
                s.subscription_cancel_date, s.subscription_renewal_date, s.next_change_at, s.requested_at, g.usage_reset_date, \
                g.usage_anchor, g.usage_period_start, d.signup_timestamp, d.last_webhook_timestamp]::timestamptz[] as times, \
            json_build_object('id', u.id, 'user_id', u.user_id, 'email', u.email, 'full_name', u.full_name, \
                'current_plan', s.current_plan, 'intended_plan', s.intended_plan, \
                'subscription_status', s.subscription_status, 'trial_status', s.trial_status, \
                'billing_sync_status', s.billing_sync_status, 'requested_plan', s.requested_plan, \
                'stripe_customer_id', b.stripe_customer_id, 'stripe_subscription_id', b.stripe_subscription_id, \
                'payment_method_id', b.payment_method_id, 'card_last_4', b.card_last_4, 'card_brand', b.card_brand, \
                'card_exp_month', b.card_exp_month, 'card_exp_year', b.card_exp_year, \
                'billing_address_city', b.billing_address_city, 'billing_address_country', b.billing_address_country, \
                'billing_address_postal_code', b.billing_address_postal_code, \
                'plan_campaigns_limit', g.plan_campaigns_limit, 'plan_creators_limit', g.plan_creators_limit, \
                'plan_features', g.plan_features, 'reset_held', g.reset_held, \
                'early_reset_subscription', g.early_reset_subscription, \
                'email_schedule_status', d.email_schedule_status, 'last_webhook_event', d.last_webhook_event)::text as rest \
        from public.users u \
        join public.user_subscriptions s on s.user_id = u.id \
        join public.user_billing b on b.user_id = u.id \
        join public.user_usage g on g.user_id = u.id \
        join public.user_system_data d on d.user_id = u.id \
        where u.user_id = any(", $users, ") and ", $condition, " \
        order by u.user_id \
        for no key update of u, s, b, g, d)")
    };
}
pub(crate) use locked_users;

statements! {
    /// The application may have made the row meanwhile: then the projection's columns are set.
    INSERT_USERS = "\
        insert into public.users (id, user_id, created_at, email, full_name, deleted_at) \
        select x.id, x.user_id, $6, x.email, x.full_name, x.deleted_at \
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) \
            as x(id, user_id, email, full_name, deleted_at) \
        on conflict (user_id) do update set email = excluded.email, full_name = excluded.full_name, \
            deleted_at = excluded.deleted_at \
        returning user_id, id";

    INSERT_SUBSCRIPTIONS = "\
        insert into public.user_subscriptions (id, user_id, current_plan, intended_plan, subscription_status, trial_status, \
            trial_start_date, trial_end_date, trial_conversion_date, subscription_cancel_date, subscription_renewal_date, \
            billing_sync_status, next_change_at) \
        select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], \
            $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::timestamptz[]) \
        on conflict (user_id) do update set current_plan = excluded.current_plan, intended_plan = excluded.intended_plan, \
            subscription_status = excluded.subscription_status, trial_status = excluded.trial_status, \
            trial_start_date = excluded.trial_start_date, trial_end_date = excluded.trial_end_date, \
            trial_conversion_date = excluded.trial_conversion_date, \
            subscription_cancel_date = excluded.subscription_cancel_date, \
            subscription_renewal_date = excluded.subscription_renewal_date, \
            billing_sync_status = excluded.billing_sync_status, next_change_at = excluded.next_change_at";

    INSERT_BILLING = "\
        insert into public.user_billing (id, user_id, stripe_customer_id, stripe_subscription_id, payment_method_id, \
            card_last_4, card_brand, card_exp_month, card_exp_year, billing_address_city, billing_address_country, \
            billing_address_postal_code) \
        select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int4[], \
            $9::int4[], $10::text[], $11::text[], $12::text[]) \
        on conflict (user_id) do update set stripe_customer_id = excluded.stripe_customer_id, \
            stripe_subscription_id = excluded.stripe_subscription_id, payment_method_id = excluded.payment_method_id, \
            card_last_4 = excluded.card_last_4, card_brand = excluded.card_brand, \
            card_exp_month = excluded.card_exp_month, card_exp_year = excluded.card_exp_year, \
            billing_address_city = excluded.billing_address_city, \
            billing_address_country = excluded.billing_address_country, \
            billing_address_postal_code = excluded.billing_address_postal_code";

    INSERT_USAGE = "\
        insert into public.user_usage (id, user_id, plan_campaigns_limit, plan_creators_limit, plan_features, \
            usage_reset_date, usage_anchor, usage_period_start, reset_held, early_reset_subscription) \
        select x.id, x.user_id, x.campaigns, x.creators, x.features::jsonb, x.reset_date, x.anchor, x.period_start, x.held, \
            x.early_reset \
        from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::int4[], $5::text[], $6::timestamptz[], $7::timestamptz[], \
            $8::timestamptz[], $9::bool[], $10::text[]) \
            as x(id, user_id, campaigns, creators, features, reset_date, anchor, period_start, held, early_reset) \
        on conflict (user_id) do update set plan_campaigns_limit = excluded.plan_campaigns_limit, \
            plan_creators_limit = excluded.plan_creators_limit, plan_features = excluded.plan_features, \
            usage_reset_date = excluded.usage_reset_date, usage_anchor = excluded.usage_anchor, \
            usage_period_start = excluded.usage_period_start, reset_held = excluded.reset_held, \
            early_reset_subscription = excluded.early_reset_subscription";

    INSERT_SYSTEM_DATA = "\
        insert into public.user_system_data (id, user_id, signup_timestamp, email_schedule_status, last_webhook_event, \
            last_webhook_timestamp) \
        select x.id, x.user_id, x.signup, x.emails::jsonb, x.event, x.event_at \
        from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::timestamptz[]) \
            as x(id, user_id, signup, emails, event, event_at) \
        on conflict (user_id) do update set signup_timestamp = excluded.signup_timestamp, \
            email_schedule_status = excluded.email_schedule_status, last_webhook_event = excluded.last_webhook_event, \
            last_webhook_timestamp = excluded.last_webhook_timestamp";
}

parts! {
    UPDATE_USERS = "\
        users_written as (update public.users u set \
            email = x.email, full_name = x.full_name, deleted_at = x.deleted_at \
        from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) as x(id, email, full_name, deleted_at) \
        where u.id = x.id)";

    UPDATE_SUBSCRIPTIONS = "\
        subscriptions_written as (update public.user_subscriptions s set \
            current_plan = x.current_plan, intended_plan = x.intended_plan, \
            subscription_status = x.subscription_status, trial_status = x.trial_status, \
            trial_start_date = x.trial_start_date, trial_end_date = x.trial_end_date, \
            trial_conversion_date = x.trial_conversion_date, subscription_cancel_date = x.subscription_cancel_date, \
            subscription_renewal_date = x.subscription_renewal_date, billing_sync_status = x.billing_sync_status, \
            next_change_at = x.next_change_at \
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], \
            $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::timestamptz[]) \
            as x(id, current_plan, intended_plan, subscription_status, trial_status, trial_start_date, trial_end_date, \
                trial_conversion_date, subscription_cancel_date, subscription_renewal_date, billing_sync_status, \
                next_change_at) \
        where s.user_id = x.id)";

    UPDATE_BILLING = "\
        billing_written as (update public.user_billing b set stripe_customer_id = x.stripe_customer_id, \
            stripe_subscription_id = x.stripe_subscription_id, payment_method_id = x.payment_method_id, \
            card_last_4 = x.card_last_4, card_brand = x.card_brand, card_exp_month = x.card_exp_month, \
            card_exp_year = x.card_exp_year, billing_address_city = x.billing_address_city, \
            billing_address_country = x.billing_address_country, \
            billing_address_postal_code = x.billing_address_postal_code \
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int4[], $8::int4[], \
            $9::text[], $10::text[], $11::text[]) \
            as x(id, stripe_customer_id, stripe_subscription_id, payment_method_id, card_last_4, card_brand, \
                card_exp_month, card_exp_year, billing_address_city, billing_address_country, \
                billing_address_postal_code) \
        where b.user_id = x.id)";

    /// A period that ended is archived from the row's own counters, and only what was archived is zeroed: exactly once.
    UPDATE_USAGE = "\
        usage_x as ( \
            select * from unnest($1::uuid[], $2::int4[], $3::int4[], $4::text[], $5::timestamptz[], $6::timestamptz[], \
                $7::timestamptz[], $8::bool[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::int4[]) \
                as x(id, campaigns, creators, features, reset_date, anchor, period_start, held, early_reset, \
                    ended_start, ended_end, skipped) \
        ), usage_archived as ( \
            insert into billsync.usage_periods (user_id, period_start, period_end, usage_campaigns_current, \
                usage_creators_current_month, enrichments_current_month, periods_skipped) \
            select g.user_id, x.ended_start, x.ended_end, g.usage_campaigns_current, g.usage_creators_current_month, \
                g.enrichments_current_month, x.skipped \
            from usage_x x join public.user_usage g on g.user_id = x.id where x.ended_start is not null \
            on conflict (user_id, period_start) do nothing \
            returning user_id \
        ), usage_written as ( \
        update public.user_usage g set plan_campaigns_limit = x.campaigns, plan_creators_limit = x.creators, \
            plan_features = x.features::jsonb, usage_reset_date = x.reset_date, usage_anchor = x.anchor, \
            usage_period_start = x.period_start, reset_held = x.held, early_reset_subscription = x.early_reset, \
            usage_creators_current_month = case when a.user_id is null then g.usage_creators_current_month else 0 end, \
            enrichments_current_month = case when a.user_id is null then g.enrichments_current_month else 0 end \
        from usage_x x left join usage_archived a on a.user_id = x.id \
        where g.user_id = x.id)";

    /// The schedule is changed entry by entry: what the application put beside ours stays.
    UPDATE_SYSTEM_DATA = "\
        system_written as (update public.user_system_data d set signup_timestamp = x.signup, last_webhook_event = x.event, \
            last_webhook_timestamp = x.event_at, \
            email_schedule_status = case when x.changed is null then d.email_schedule_status else \
                (case jsonb_typeof(d.email_schedule_status) when 'object' then d.email_schedule_status else '{}' end \
                    - array(select jsonb_array_elements_text(x.removed::jsonb))) || x.changed::jsonb end \
        from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::timestamptz[], $5::text[], $6::text[]) \
            as x(id, signup, event, event_at, removed, changed) \
        where d.user_id = x.id)";
}
