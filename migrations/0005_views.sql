-- The common provider objects with columns, by the provider's field names. Each view begins with id, account, customer,
-- deleted, as_of, object. Both shapes of the API are folded into one column. A value of the wrong JSON type is NULL.
-- The views run with the rights of whoever reads them, so that they publish nothing.

create view billsync.stripe_customers with (security_invoker = true) as
select
    object_id as id,
    account,
    object_id as customer,
    deleted_at is not null as deleted,
    as_of,
    object,
    object ->> 'email' as email,
    object ->> 'name' as name,
    object ->> 'phone' as phone,
    object ->> 'description' as description,
    object ->> 'currency' as currency,
    case jsonb_typeof(object -> 'balance') when 'number' then (object -> 'balance')::numeric end as balance,
    object -> 'delinquent' = 'true' as delinquent,
    object #>> '{address,city}' as city,
    object #>> '{address,country}' as country,
    object #>> '{address,postal_code}' as postal_code,
    billsync.reference_id(object -> 'default_source') as default_source,
    billsync.reference_id(object #> '{invoice_settings,default_payment_method}') as default_payment_method,
    billsync.reference_id(object -> 'test_clock') as test_clock,
    object -> 'metadata' as metadata,
    object -> 'livemode' = 'true' as livemode,
    billsync.stripe_time(object -> 'created') as created
from billsync.provider_objects
where provider = 'stripe' and object_type = 'customer';

create view billsync.stripe_subscriptions with (security_invoker = true) as
select
    object_id as id,
    account,
    owner_id as customer,
    deleted_at is not null as deleted,
    as_of,
    object,
    object ->> 'status' as status,
    coalesce(billsync.stripe_time(object -> 'current_period_start'),
        billsync.stripe_time(object #> '{items,data,0,current_period_start}')) as current_period_start,
    coalesce(billsync.stripe_time(object -> 'current_period_end'),
        billsync.stripe_time(object #> '{items,data,0,current_period_end}')) as current_period_end,
    billsync.stripe_time(object -> 'billing_cycle_anchor') as billing_cycle_anchor,
    billsync.stripe_time(object -> 'cancel_at') as cancel_at,
    object -> 'cancel_at_period_end' = 'true' as cancel_at_period_end,
    billsync.stripe_time(object -> 'canceled_at') as canceled_at,
    billsync.stripe_time(object -> 'ended_at') as ended_at,
    billsync.stripe_time(object -> 'start_date') as start_date,
    billsync.stripe_time(object -> 'trial_start') as trial_start,
    billsync.stripe_time(object -> 'trial_end') as trial_end,
    object ->> 'collection_method' as collection_method,
    object -> 'pause_collection' as pause_collection,
    object -> 'pending_update' as pending_update,
    billsync.reference_id(object -> 'default_payment_method') as default_payment_method,
    billsync.reference_id(object -> 'default_source') as default_source,
    billsync.reference_id(object -> 'latest_invoice') as latest_invoice,
    billsync.reference_id(object -> 'schedule') as schedule,
    object ->> 'currency' as currency,
    coalesce(billsync.reference_id(object #> '{items,data,0,price}'), billsync.reference_id(object #> '{items,data,0,plan}'),
        billsync.reference_id(object -> 'plan')) as price,
    billsync.reference_id(object -> 'test_clock') as test_clock,
    object -> 'metadata' as metadata,
    object -> 'livemode' = 'true' as livemode,
    billsync.stripe_time(object -> 'created') as created
from billsync.provider_objects
where provider = 'stripe' and object_type = 'subscription';

create view billsync.stripe_subscription_items with (security_invoker = true) as
select
    item ->> 'id' as id,
    account,
    owner_id as customer,
    deleted_at is not null as deleted,
    as_of,
    item as object,
    object_id as subscription,
    coalesce(billsync.reference_id(item -> 'price'), billsync.reference_id(item -> 'plan')) as price,
    coalesce(billsync.reference_id(item #> '{price,product}'), billsync.reference_id(item #> '{plan,product}')) as product,
    coalesce(item #>> '{price,recurring,interval}', item #>> '{plan,interval}') as "interval",
    case jsonb_typeof(coalesce(item #> '{price,unit_amount}', item #> '{plan,amount}'))
        when 'number' then coalesce(item #> '{price,unit_amount}', item #> '{plan,amount}')::numeric
    end as unit_amount,
    case jsonb_typeof(item -> 'quantity') when 'number' then (item -> 'quantity')::numeric end as quantity,
    coalesce(billsync.stripe_time(item -> 'current_period_start'), billsync.stripe_time(object -> 'current_period_start'))
        as current_period_start,
    coalesce(billsync.stripe_time(item -> 'current_period_end'), billsync.stripe_time(object -> 'current_period_end'))
        as current_period_end,
    item -> 'metadata' as metadata,
    billsync.stripe_time(item -> 'created') as created
from billsync.provider_objects
cross join lateral jsonb_array_elements(
    case jsonb_typeof(object #> '{items,data}') when 'array' then object #> '{items,data}' else '[]' end) as item
where provider = 'stripe' and object_type = 'subscription';

create view billsync.stripe_invoices with (security_invoker = true) as
select
    object_id as id,
    account,
    owner_id as customer,
    deleted_at is not null as deleted,
    as_of,
    object,
    coalesce(billsync.reference_id(object -> 'subscription'),
        billsync.reference_id(object #> '{parent,subscription_details,subscription}')) as subscription,
    coalesce(object ->> 'status', case when object -> 'paid' = 'true' then 'paid' end) as status,
    object ->> 'number' as number,
    object ->> 'currency' as currency,
    case jsonb_typeof(object -> 'amount_due') when 'number' then (object -> 'amount_due')::numeric end as amount_due,
    case jsonb_typeof(object -> 'amount_paid') when 'number' then (object -> 'amount_paid')::numeric end as amount_paid,
    case jsonb_typeof(object -> 'amount_remaining') when 'number' then (object -> 'amount_remaining')::numeric end as amount_remaining,
    case jsonb_typeof(object -> 'subtotal') when 'number' then (object -> 'subtotal')::numeric end as subtotal,
    case jsonb_typeof(object -> 'total') when 'number' then (object -> 'total')::numeric end as total,
    case jsonb_typeof(object -> 'attempt_count') when 'number' then (object -> 'attempt_count')::numeric end as attempt_count,
    object -> 'attempted' = 'true' as attempted,
    object ->> 'billing_reason' as billing_reason,
    object ->> 'collection_method' as collection_method,
    billsync.stripe_time(object -> 'due_date') as due_date,
    billsync.stripe_time(object -> 'next_payment_attempt') as next_payment_attempt,
    billsync.stripe_time(object -> 'period_start') as period_start,
    billsync.stripe_time(object -> 'period_end') as period_end,
    billsync.stripe_time(object #> '{status_transitions,finalized_at}') as finalized_at,
    billsync.stripe_time(object #> '{status_transitions,paid_at}') as paid_at,
    billsync.stripe_time(object #> '{status_transitions,voided_at}') as voided_at,
    billsync.stripe_time(object #> '{status_transitions,marked_uncollectible_at}') as marked_uncollectible_at,
    billsync.reference_id(object -> 'payment_intent') as payment_intent,
    billsync.reference_id(object -> 'charge') as charge,
    object -> 'metadata' as metadata,
    object -> 'livemode' = 'true' as livemode,
    billsync.stripe_time(object -> 'created') as created
from billsync.provider_objects
where provider = 'stripe' and object_type = 'invoice';

create view billsync.stripe_payment_methods with (security_invoker = true) as
select
    object_id as id,
    account,
    owner_id as customer,
    deleted_at is not null as deleted,
    as_of,
    object,
    object ->> 'type' as type,
    object #>> '{card,brand}' as brand,
    object #>> '{card,last4}' as last4,
    case jsonb_typeof(object #> '{card,exp_month}') when 'number' then (object #> '{card,exp_month}')::numeric end as exp_month,
    case jsonb_typeof(object #> '{card,exp_year}') when 'number' then (object #> '{card,exp_year}')::numeric end as exp_year,
    object #>> '{card,funding}' as funding,
    object #>> '{card,fingerprint}' as fingerprint,
    object #>> '{card,wallet,type}' as wallet,
    object #>> '{billing_details,name}' as billing_name,
    object #>> '{billing_details,email}' as billing_email,
    object #>> '{billing_details,address,city}' as city,
    object #>> '{billing_details,address,country}' as country,
    object #>> '{billing_details,address,postal_code}' as postal_code,
    object -> 'metadata' as metadata,
    object -> 'livemode' = 'true' as livemode,
    billsync.stripe_time(object -> 'created') as created
from billsync.provider_objects
where provider = 'stripe' and object_type = 'payment_method';

create view billsync.stripe_charges with (security_invoker = true) as
select
    object_id as id,
    account,
    owner_id as customer,
    deleted_at is not null as deleted,
    as_of,
    object,
    object ->> 'status' as status,
    case jsonb_typeof(object -> 'amount') when 'number' then (object -> 'amount')::numeric end as amount,
    case jsonb_typeof(object -> 'amount_captured') when 'number' then (object -> 'amount_captured')::numeric end as amount_captured,
    case jsonb_typeof(object -> 'amount_refunded') when 'number' then (object -> 'amount_refunded')::numeric end as amount_refunded,
    object ->> 'currency' as currency,
    object -> 'paid' = 'true' as paid,
    object -> 'captured' = 'true' as captured,
    object -> 'refunded' = 'true' as refunded,
    object -> 'disputed' = 'true' as disputed,
    billsync.reference_id(object -> 'invoice') as invoice,
    billsync.reference_id(object -> 'payment_intent') as payment_intent,
    billsync.reference_id(object -> 'payment_method') as payment_method,
    object ->> 'failure_code' as failure_code,
    object ->> 'failure_message' as failure_message,
    object #>> '{outcome,type}' as outcome_type,
    object ->> 'description' as description,
    object -> 'metadata' as metadata,
    object -> 'livemode' = 'true' as livemode,
    billsync.stripe_time(object -> 'created') as created
from billsync.provider_objects
where provider = 'stripe' and object_type = 'charge';

create view billsync.stripe_products with (security_invoker = true) as
select
    object_id as id,
    account,
    owner_id as customer,
    deleted_at is not null as deleted,
    as_of,
    object,
    object ->> 'name' as name,
    object ->> 'description' as description,
    object -> 'active' = 'true' as active,
    billsync.reference_id(object -> 'default_price') as default_price,
    object ->> 'type' as type,
    object -> 'metadata' as metadata,
    object -> 'livemode' = 'true' as livemode,
    billsync.stripe_time(object -> 'created') as created,
    billsync.stripe_time(object -> 'updated') as updated
from billsync.provider_objects
where provider = 'stripe' and object_type = 'product';

create view billsync.stripe_prices with (security_invoker = true) as
select
    object_id as id,
    account,
    owner_id as customer,
    deleted_at is not null as deleted,
    as_of,
    object,
    billsync.reference_id(object -> 'product') as product,
    object -> 'active' = 'true' as active,
    object ->> 'nickname' as nickname,
    object ->> 'lookup_key' as lookup_key,
    object ->> 'currency' as currency,
    case jsonb_typeof(coalesce(object -> 'unit_amount', object -> 'amount'))
        when 'number' then coalesce(object -> 'unit_amount', object -> 'amount')::numeric
    end as unit_amount,
    object ->> 'type' as type,
    coalesce(object #>> '{recurring,interval}', object ->> 'interval') as "interval",
    case jsonb_typeof(coalesce(object #> '{recurring,interval_count}', object -> 'interval_count'))
        when 'number' then coalesce(object #> '{recurring,interval_count}', object -> 'interval_count')::numeric
    end as interval_count,
    object -> 'metadata' as metadata,
    object -> 'livemode' = 'true' as livemode,
    billsync.stripe_time(object -> 'created') as created
from billsync.provider_objects
where provider = 'stripe' and object_type in ('price', 'plan');

create view billsync.clerk_users with (security_invoker = true) as
select
    u.object_id as id,
    u.account,
    u.fact ->> 'stripe_customer_id' as customer,
    u.deleted_at is not null as deleted,
    u.as_of,
    u.object,
    -- The address whose id is `primary_email_address_id`, never the first.
    (
        select address ->> 'email_address'
        from jsonb_array_elements(
            case jsonb_typeof(u.object -> 'email_addresses') when 'array' then u.object -> 'email_addresses' else '[]' end
        ) as address
        where address ->> 'id' = u.object ->> 'primary_email_address_id'
        limit 1
    ) as email_address,
    u.object ->> 'primary_email_address_id' as primary_email_address_id,
    u.object ->> 'first_name' as first_name,
    u.object ->> 'last_name' as last_name,
    u.object ->> 'username' as username,
    u.object ->> 'external_id' as external_id,
    u.object ->> 'image_url' as image_url,
    u.object -> 'banned' = 'true' as banned,
    u.object -> 'locked' = 'true' as locked,
    u.object -> 'public_metadata' as public_metadata,
    billsync.clerk_time(u.object -> 'last_sign_in_at') as last_sign_in_at,
    billsync.clerk_time(u.object -> 'created_at') as created_at,
    billsync.clerk_time(u.object -> 'updated_at') as updated_at
from billsync.provider_objects u
where u.provider = 'clerk' and u.object_type = 'user';

do $$
declare
    relation regclass;
begin
    for relation in
        select oid from pg_catalog.pg_class where relnamespace = 'billsync'::regnamespace and relkind = 'v'
    loop
        perform billsync.unpublish(relation);
    end loop;
end
$$;
