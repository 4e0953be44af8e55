-- What this service adds to the application's tables, freshly made or adopted alike: columns, indexes, triggers, storage
-- settings, and that none of it is published.

alter table public.users add column if not exists deleted_at timestamptz;

alter table public.user_subscriptions
    add column if not exists requested_plan varchar(50),
    add column if not exists requested_at timestamptz,
    -- The least instant at which the passing of time alone changes a row of the user.
    add column if not exists next_change_at timestamptz;

alter table public.user_usage
    add column if not exists usage_anchor timestamptz,
    add column if not exists usage_period_start timestamptz,
    -- True while past_due: the period does not move.
    add column if not exists reset_held boolean not null default false,
    -- The subscription whose one early reset has happened.
    add column if not exists early_reset_subscription text;

alter table public.subscription_plans
    add column if not exists stripe_product_id text,
    add column if not exists clerk_plan_slug text;

-- An address may sign up again, so this is no unique index.
create index if not exists users_email_lower_idx on public.users (lower(email));
create index if not exists user_subscriptions_next_change_at_idx on public.user_subscriptions (next_change_at)
    where next_change_at is not null;
-- Held rows stay out, so that they cannot starve the reset of the others.
create index if not exists user_usage_due_idx on public.user_usage (usage_reset_date) where not reset_held;
create index if not exists campaigns_user_id_idx on public.campaigns (user_id, created_at desc, id desc);
create index if not exists scraping_jobs_user_id_idx on public.scraping_jobs (user_id, created_at desc, id desc);
create index if not exists scraping_jobs_campaign_id_idx on public.scraping_jobs (campaign_id);
create index if not exists scraping_jobs_unfinished_idx on public.scraping_jobs (timeout_at)
    where status in ('pending', 'processing');
create index if not exists scraping_jobs_keywords_idx on public.scraping_jobs using gin (keywords);
create index if not exists scraping_jobs_search_params_idx on public.scraping_jobs using gin (search_params);
create index if not exists scraping_results_job_id_idx on public.scraping_results (job_id, created_at, id);
create index if not exists creator_lists_user_id_idx on public.creator_lists (user_id, created_at desc, id desc);
create index if not exists list_items_list_id_idx on public.list_items (list_id, position, id);

-- Rows that every event of a user may touch: room on the page keeps their updates off the indexes.
alter table public.user_subscriptions set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
alter table public.user_billing set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
alter table public.user_usage set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
alter table public.user_system_data set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

do $$
declare
    table_name text;
begin
    foreach table_name in array array[
        'users', 'user_subscriptions', 'user_billing', 'user_usage', 'user_system_data', 'subscription_plans', 'campaigns',
        'scraping_jobs', 'scraping_results', 'creator_lists', 'list_items', 'system_configurations'
    ] loop
        -- A write that changes nothing leaves `updated_at` alone.
        execute format(
            'create or replace trigger set_updated_at before update on public.%I for each row '
            'when (old.* is distinct from new.*) execute function billsync.set_updated_at()', table_name);
        perform billsync.unpublish(format('public.%I', table_name)::regclass);
    end loop;
end
$$;
