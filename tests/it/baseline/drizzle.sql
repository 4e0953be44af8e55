-- What an ORM's push makes of the application's schema: its own names for constraints, no time zones here and there, unique
-- indexes for unique columns, and things of its own beside.
create type onboarding as enum ('pending', 'step-1', 'step-2', 'completed');
create table users (
    id uuid primary key default gen_random_uuid(),
    user_id text not null,
    email text,
    full_name text,
    business_name text,
    brand_description text,
    industry text,
    onboarding_step onboarding not null default 'pending',
    is_admin boolean default false,
    favourite_colour text,
    created_at timestamp not null default now(),
    updated_at timestamp not null default now(),
    constraint users_user_id_unique unique (user_id),
    constraint users_email_unique unique (email)
);
create table user_subscriptions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null,
    current_plan varchar(50) default 'free',
    intended_plan varchar(255),
    subscription_status varchar(20) default 'none' not null,
    trial_status varchar(20) default 'pending' not null,
    trial_start_date timestamp,
    trial_end_date timestamp,
    trial_conversion_date timestamp,
    subscription_cancel_date timestamp,
    subscription_renewal_date timestamp with time zone,
    billing_sync_status varchar(20) default 'pending',
    created_at timestamp not null default now(),
    updated_at timestamp not null default now(),
    constraint user_subscriptions_user_id_users_id_fk foreign key (user_id) references users (id) on delete cascade
);
create unique index user_subscriptions_user_id_idx on user_subscriptions (user_id);
create table user_billing (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null constraint user_billing_user_id_unique unique,
    stripe_customer_id text,
    stripe_subscription_id text,
    payment_method_id text,
    card_last_4 varchar(4),
    card_brand varchar(20),
    card_exp_month integer,
    card_exp_year bigint,
    billing_address_city text,
    billing_address_country varchar(2),
    billing_address_postal_code varchar(20),
    created_at timestamp not null default now(),
    updated_at timestamp not null default now(),
    constraint user_billing_user_id_users_id_fk foreign key (user_id) references users (id)
);
create unique index user_billing_customer_idx on user_billing (stripe_customer_id);
create table user_usage (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null unique references users (id) on delete cascade,
    plan_campaigns_limit integer,
    plan_creators_limit integer,
    plan_features json,
    usage_campaigns_current integer default 0,
    usage_creators_current_month integer default 0,
    enrichments_current_month integer default 0,
    usage_reset_date date,
    created_at timestamp not null default now(),
    updated_at timestamp not null default now()
);
create table user_system_data (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null unique references users (id) on delete cascade,
    signup_timestamp timestamp default now() not null,
    email_schedule_status text default '{}',
    last_webhook_event varchar(100),
    last_webhook_timestamp timestamp,
    created_at timestamp not null default now(),
    updated_at timestamp not null default now()
);
create table campaigns (
    id uuid primary key default gen_random_uuid(),
    user_id text not null,
    name text not null,
    description text not null,
    search_type varchar(20) not null,
    status varchar(20) not null default 'draft',
    created_at timestamp not null default now(),
    updated_at timestamp not null default now()
);
create table scraping_results (
    id uuid primary key default gen_random_uuid(),
    job_id uuid,
    creators jsonb not null
);
create table audit_log (id serial primary key, user_id uuid references users (id), message text);
create view active_users as select u.email, s.trial_end_date from users u join user_subscriptions s on s.user_id = u.id;

insert into users (id, user_id, email, full_name, onboarding_step, favourite_colour, business_name, created_at) values
    ('00000000-0000-4000-8000-000000000001', 'user_1', 'user_1@example.com', 'Ada', 'completed', 'red', 'Ada Ltd', '2025-01-02 03:04:05'),
    ('00000000-0000-4000-8000-000000000002', 'user_2', 'two@example.com', 'Ben', 'pending', null, null, '2025-01-02 03:04:05'),
    ('00000000-0000-4000-8000-000000000003', 'user_3', 'three@example.com', null, 'step-1', null, null, '2025-01-02 03:04:05');
insert into user_subscriptions (user_id, current_plan, subscription_status, trial_status, trial_start_date, trial_end_date, subscription_renewal_date) values
    ('00000000-0000-4000-8000-000000000001', 'glow_up', 'active', 'converted', '2025-02-01 10:00', '2025-02-08 10:00', '2026-04-08 10:00Z'),
    ('00000000-0000-4000-8000-000000000002', 'viral_surge', 'trialing', 'active', '2026-03-08 10:00', '2026-03-15 10:00', null);
insert into user_billing (user_id, stripe_customer_id, stripe_subscription_id, payment_method_id, card_last_4, card_brand, card_exp_month, card_exp_year) values
    ('00000000-0000-4000-8000-000000000001', 'cus_1', 'sub_1', 'pm_1', '4242', 'visa', 4, 2031),
    ('00000000-0000-4000-8000-000000000002', 'cus_2', 'sub_2', null, null, null, null, null);
insert into user_usage (user_id, plan_campaigns_limit, usage_campaigns_current, usage_creators_current_month, plan_features, usage_reset_date) values
    ('00000000-0000-4000-8000-000000000001', 5, 2, 37, '{"a": 1}', '2026-04-01'),
    ('00000000-0000-4000-8000-000000000002', null, null, 4, null, null);
insert into user_system_data (user_id, signup_timestamp, email_schedule_status) values
    ('00000000-0000-4000-8000-000000000001', '2025-01-01 00:00', '{"welcome:user_1": {"sent_at": "2025-01-01T00:05:00Z"}}'),
    ('00000000-0000-4000-8000-000000000002', '2025-01-01 00:00', 'rubbish');
insert into campaigns (user_id, name, description, search_type, status) values
    ('user_1', 'Spring', 'd', 'similar', 'active'), ('user_unknown', 'Orphan', 'd', 'similar', 'odd');
insert into audit_log (user_id, message) values ('00000000-0000-4000-8000-000000000001', 'hello');
