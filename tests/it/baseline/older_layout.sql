-- The layout before the five tables: one wide row a user, and tables that refer to it.
create table user_profiles (
    id uuid primary key default gen_random_uuid(),
    user_id text not null unique,
    email text,
    full_name text,
    current_plan text,
    subscription_status text,
    trial_end_date timestamp,
    stripe_customer_id text,
    usage_creators_current_month integer default 0,
    created_at timestamp not null default now()
);
create table campaigns (
    id uuid primary key default gen_random_uuid(),
    user_id text not null references user_profiles (user_id),
    name text not null,
    status varchar(20) not null default 'draft',
    created_at timestamp not null default now(),
    updated_at timestamp not null default now()
);
create table creator_lists (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references user_profiles (id),
    name text not null
);
insert into user_profiles (id, user_id, email, current_plan, subscription_status, stripe_customer_id, usage_creators_current_month) values
    ('00000000-0000-4000-8000-000000000001', 'user_1', 'user_1@example.com', 'glow_up', 'active', 'cus_1', 12),
    ('00000000-0000-4000-8000-000000000002', 'user_2', 'two@example.com', 'free', 'none', null, 0);
insert into campaigns (user_id, name) values ('user_1', 'Spring');
insert into creator_lists (user_id, name) values ('00000000-0000-4000-8000-000000000002', 'Favourites');
