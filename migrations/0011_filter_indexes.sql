-- What the filters of the API's lists go through where few rows pass them, each in the list's order.

create index if not exists campaigns_search_type_idx on public.campaigns (search_type, created_at desc, id desc);
create index if not exists campaigns_status_idx on public.campaigns (status, created_at desc, id desc);
create index if not exists creator_lists_archived_idx on public.creator_lists (created_at desc, id desc) where is_archived;
-- The order is that of `users`; a status or a plan that many have is found by going through those.
create index if not exists user_subscriptions_status_idx on public.user_subscriptions (subscription_status);
create index if not exists user_subscriptions_current_plan_idx on public.user_subscriptions (current_plan);
