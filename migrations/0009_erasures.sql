-- Who was erased, and which Stripe customers were theirs: the SHA-256 of the id, in hex, so that the id itself is gone. It
-- keeps whatever comes later (a retry, a replay, an import, an API read) from bringing a person back.
create table billsync.erasures (
    id_hash text primary key,
    kind text not null check (kind in ('user', 'customer')),
    erased_at timestamptz not null
);
select billsync.unpublish('billsync.erasures');
