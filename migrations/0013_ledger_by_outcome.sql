-- no-transaction
-- The ledger by the outcomes that few events have, newest first; those that failed have an index of their own.

create index concurrently if not exists webhook_events_outcome_idx
    on billsync.webhook_events (outcome, received_at desc, event_id desc) where outcome in ('unlinked', 'stale');
