-- The application's tables, as it defines them. An adopted database has them already: `migrate baseline` compares their
-- columns and records this migration without running it, so nothing of ours may be in it.

create table public.users (
    id uuid primary key default billsync.uuid_v7(),
    user_id text not null unique,
    email text,
    full_name text,
    business_name text,
    brand_description text,
    industry text,
    onboarding_step varchar(50) not null default 'pending'
        check (onboarding_step in ('pending', 'step-1', 'step-2', 'completed')),
    is_admin boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.user_subscriptions (
    id uuid primary key default billsync.uuid_v7(),
    user_id uuid not null unique references public.users (id) on delete cascade,
    current_plan varchar(50),
    intended_plan varchar(50),
    subscription_status text not null default 'none',
    trial_status varchar(20) not null default 'pending',
    trial_start_date timestamptz,
    trial_end_date timestamptz,
    trial_conversion_date timestamptz,
    subscription_cancel_date timestamptz,
    subscription_renewal_date timestamptz,
    billing_sync_status varchar(20),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.user_billing (
    id uuid primary key default billsync.uuid_v7(),
    user_id uuid not null unique references public.users (id) on delete cascade,
    -- Two users may swap customers within one transaction.
    stripe_customer_id text unique deferrable initially deferred,
    stripe_subscription_id text,
    payment_method_id text,
    card_last_4 varchar(4),
    card_brand varchar(20),
    card_exp_month integer,
    card_exp_year integer,
    billing_address_city text,
    billing_address_country varchar(2),
    billing_address_postal_code varchar(20),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.user_usage (
    id uuid primary key default billsync.uuid_v7(),
    user_id uuid not null unique references public.users (id) on delete cascade,
    -- -1: unlimited.
    plan_campaigns_limit integer not null default 0,
    plan_creators_limit integer not null default 0,
    plan_features jsonb not null default '{}',
    usage_campaigns_current integer not null default 0,
    usage_creators_current_month integer not null default 0,
    enrichments_current_month integer not null default 0,
    usage_reset_date timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.user_system_data (
    id uuid primary key default billsync.uuid_v7(),
    user_id uuid not null unique references public.users (id) on delete cascade,
    signup_timestamp timestamptz,
    email_schedule_status jsonb not null default '{}',
    last_webhook_event varchar(100),
    last_webhook_timestamp timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.subscription_plans (
    id uuid primary key default billsync.uuid_v7(),
    plan_key varchar(50) not null unique,
    plan_name text not null,
    campaigns_limit integer not null default 0,
    creators_limit integer not null default 0,
    features jsonb not null default '{}',
    price_monthly numeric,
    price_yearly numeric,
    stripe_price_id_monthly text,
    stripe_price_id_yearly text,
    is_active boolean not null default true,
    display_order integer not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.campaigns (
    id uuid primary key default billsync.uuid_v7(),
    user_id text not null references public.users (user_id) on update cascade on delete cascade,
    name text not null,
    description text,
    search_type varchar(20),
    status varchar(20) not null default 'draft' check (status in ('draft', 'active', 'completed', 'archived')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.scraping_jobs (
    id uuid primary key default billsync.uuid_v7(),
    user_id text not null references public.users (user_id) on update cascade on delete cascade,
    run_id text,
    status varchar(20) not null default 'pending'
        check (status in ('pending', 'processing', 'completed', 'error', 'timeout')),
    keywords jsonb,
    platform varchar(50),
    region varchar(10),
    campaign_id uuid references public.campaigns (id) on delete cascade,
    target_username text,
    search_params jsonb,
    qstash_message_id text,
    processed_runs integer not null default 0,
    processed_results integer not null default 0,
    target_results integer,
    cursor integer not null default 0,
    progress numeric not null default 0,
    started_at timestamptz,
    completed_at timestamptz,
    timeout_at timestamptz,
    error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.scraping_results (
    id uuid primary key default billsync.uuid_v7(),
    job_id uuid not null references public.scraping_jobs (id) on delete cascade,
    creators jsonb not null default '[]',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.creator_lists (
    id uuid primary key default billsync.uuid_v7(),
    user_id uuid not null references public.users (id) on delete cascade,
    name text not null,
    description text,
    is_archived boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table public.list_items (
    id uuid primary key default billsync.uuid_v7(),
    list_id uuid not null references public.creator_lists (id) on delete cascade,
    platform varchar(50) not null,
    creator_handle text not null,
    creator jsonb not null default '{}',
    position integer not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (list_id, platform, creator_handle)
);

create table public.system_configurations (
    id uuid primary key default billsync.uuid_v7(),
    category varchar(50) not null,
    key varchar(100) not null,
    value text,
    value_type varchar(20) not null default 'string',
    description text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (category, key)
);
