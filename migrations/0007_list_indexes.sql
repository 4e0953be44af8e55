-- What the lists of the API are read by: each in its order, so that a page costs the same wherever in the list it stands.

create index if not exists users_created_at_idx on public.users (created_at desc, id desc);
create index if not exists user_billing_stripe_subscription_id_idx on public.user_billing (stripe_subscription_id)
    where stripe_subscription_id is not null;
create index if not exists campaigns_created_at_idx on public.campaigns (created_at desc, id desc);
create index if not exists scraping_jobs_created_at_idx on public.scraping_jobs (created_at desc, id desc);
create index if not exists scraping_jobs_status_idx on public.scraping_jobs (status, created_at desc, id desc);
create index if not exists scraping_jobs_platform_idx on public.scraping_jobs (platform, created_at desc, id desc);
create index if not exists scraping_jobs_campaign_idx on public.scraping_jobs (campaign_id, created_at desc, id desc);
drop index if exists public.scraping_jobs_campaign_id_idx;
create index if not exists creator_lists_created_at_idx on public.creator_lists (created_at desc, id desc);
