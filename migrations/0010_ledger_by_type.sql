-- no-transaction
-- The ledger by type, newest first: `GET /v1/events?type=…` of a rare type would otherwise read all of it.

create index concurrently if not exists webhook_events_event_type_idx
    on billsync.webhook_events (event_type, received_at desc, event_id desc);
