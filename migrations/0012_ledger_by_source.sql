-- no-transaction
-- The ledger by source, newest first. Events of webhooks, nearly all there are, cost nothing for it.

create index concurrently if not exists webhook_events_source_idx
    on billsync.webhook_events (source, received_at desc, event_id desc) where source <> 'webhook';
