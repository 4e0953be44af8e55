//! Where a person is mentioned outside of what is theirs: in events and objects that belong to nobody (a guest's checkout, an
//! event about an organisation), and by Clerk id in those of others (whom a customer was taken from). Nothing indexes that, so
//! everything is read once, page by page and without a lock.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::run;
use crate::domain::erasure::pseudonym;
use crate::store::error::StoreError;
use crate::store::pool::{Store, Tx};

/// Rows of a page.
const PAGE: i64 = 2000;

/// As long as a page of large payloads may take.
const BEGIN_SCAN: &str = "begin read only; set local statement_timeout = '60s'; set local jit = off";

/// Of a row with an owner column: 1 when it is nobody's and names the person in any way ($1), 2 when it is somebody else's and
/// names the Clerk id ($2), else 0. What is the person's own ($3) is found by its owner.
macro_rules! verdict {
    () => {
        "case when c.owner_id = any($3) then 0 \
            when (c.owner_id is null or c.owner_id not like 'user\\_%' and w.clerk_user_id is null) and c.text like any($1) then 1 \
            when c.text like $2 then 2 else 0 end"
    };
}

statements! {
    SCAN_PAYLOADS = concat!("\
        with c as materialized ( \
            select p.received_at, p.provider, p.event_id, e.owner_id, lower(concat(p.payload::text, \
                convert_from(p.payload_raw, 'UTF8'), p.effects::text, e.reason)) as text \
            from billsync.webhook_payloads p \
            join billsync.webhook_events e on e.provider = p.provider and e.event_id = p.event_id \
            where (p.received_at, p.provider, p.event_id) > ($4, $5, $6) \
            order by p.received_at, p.provider, p.event_id limit $7) \
        select c.received_at, c.provider, c.event_id, ", verdict!(), " as verdict \
        from c left join billsync.owners w on w.owner_id = c.owner_id order by c.received_at, c.provider, c.event_id");

    SCAN_OBJECTS = concat!("\
        with c as materialized ( \
            select o.provider, o.account, o.object_id, o.owner_id, lower(concat(o.object::text, o.fact::text, \
                o.contenders::text, o.winner::text)) as text \
            from billsync.provider_objects o where (o.provider, o.account, o.object_id) > ($4, $5, $6) \
            order by o.provider, o.account, o.object_id limit $7) \
        select c.provider, c.account, c.object_id, ", verdict!(), " as verdict \
        from c left join billsync.owners w on w.owner_id = c.owner_id order by c.provider, c.account, c.object_id");

    DELETE_PAYLOADS_BY_KEY = "\
        delete from billsync.webhook_payloads p using unnest($1::timestamptz[], $2::text[], $3::text[]) \
            as k(received_at, provider, event_id) \
        where p.received_at = k.received_at and p.provider = k.provider and p.event_id = k.event_id";

    /// The Clerk id ($4) gives way to $5, and what the event did to the person's rows to nothing.
    REPLACE_IN_PAYLOADS = "\
        with k as (select * from unnest($1::timestamptz[], $2::text[], $3::text[]) as k(received_at, provider, event_id)), \
        told as (update billsync.webhook_events e set reason = replace(e.reason, $4, $5), \
                object_id = case when e.object_id = $4 then $5 else e.object_id end \
            from k where e.provider = k.provider and e.event_id = k.event_id) \
        update billsync.webhook_payloads p set payload = replace(p.payload::text, $4, $5)::jsonb, \
            payload_raw = convert_to(replace(convert_from(p.payload_raw, 'UTF8'), $4, $5), 'UTF8'), \
            effects = (select jsonb_agg(replace(x::text, $4, $5)::jsonb) from jsonb_array_elements(p.effects) x \
                where x ->> 'user_id' <> $4) \
        from k where p.received_at = k.received_at and p.provider = k.provider and p.event_id = k.event_id";

    REDACT_OBJECTS_BY_KEY = redact_objects!("(i.provider, i.account, i.object_id) in \
        (select * from unnest($1::text[], $3::text[], $4::text[]))");

    DELETE_OBJECTS_BY_KEY = "\
        delete from billsync.provider_objects o using unnest($1::text[], $2::text[], $3::text[]) as k(provider, account, object_id) \
        where o.provider <> 'stripe' and o.provider = k.provider and o.account = k.account and o.object_id = k.object_id";

    REPLACE_IN_OBJECTS = "\
        update billsync.provider_objects o set object = replace(o.object::text, $4, $5)::jsonb, \
            fact = replace(o.fact::text, $4, $5)::jsonb, contenders = replace(o.contenders::text, $4, $5)::jsonb, \
            winner = replace(o.winner::text, $4, $5)::jsonb \
        from unnest($1::text[], $2::text[], $3::text[]) as k(provider, account, object_id) \
        where o.provider = k.provider and o.account = k.account and o.object_id = k.object_id";
}

/// The key of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadKey {
    pub received_at: DateTime<Utc>,
    pub provider: String,
    pub event_id: String,
}

/// The key of an object: provider, account, id.
type StoredKey = (String, String, String);

/// Where somebody is mentioned.
#[derive(Clone, Debug, Default)]
pub struct Mentions {
    nobodys_payloads: Vec<PayloadKey>,
    others_payloads: Vec<PayloadKey>,
    nobodys_objects: Vec<StoredKey>,
    others_objects: Vec<StoredKey>,
}

#[derive(FromRow)]
struct PayloadRow {
    received_at: DateTime<Utc>,
    provider: String,
    event_id: String,
    verdict: i32,
}

#[derive(FromRow)]
struct ObjectRow {
    provider: String,
    account: String,
    object_id: String,
    verdict: i32,
}

/// What is looked for.
struct Wanted {
    patterns: Vec<String>,
    clerk_id: String,
    own: Vec<String>,
}

impl Store {
    /// Finds where a person is mentioned: by Clerk id, by the ids of their customers, by address. Payloads received before
    /// `since` are left out.
    pub async fn find_mentions(
        &self,
        clerk_id: &str,
        customers: &[String],
        addresses: &[String],
        since: DateTime<Utc>,
    ) -> Result<Mentions, StoreError> {
        let own: Vec<String> = customers.iter().cloned().chain([clerk_id.to_owned()]).collect();
        let patterns = own.iter().chain(addresses).map(|text| containing(text)).collect();
        let wanted = Wanted { patterns, clerk_id: containing(clerk_id), own };
        let mut mentions = Mentions::default();
        self.scan_payloads(&wanted, since, &mut mentions).await?;
        self.scan_objects(&wanted, &mut mentions).await?;
        Ok(mentions)
    }

    async fn scan_payloads(&self, wanted: &Wanted, since: DateTime<Utc>, mentions: &mut Mentions) -> Result<(), StoreError> {
        let mut after = (since, String::new(), String::new());
        loop {
            let mut tx = self.begin_with(BEGIN_SCAN).await?;
            let query = tx.query_as::<PayloadRow>(SCAN_PAYLOADS);
            let query = query.bind(wanted.patterns.clone()).bind(wanted.clerk_id.clone()).bind(wanted.own.clone());
            let query = query.bind(after.0).bind(after.1.clone()).bind(after.2.clone()).bind(PAGE);
            let rows = query.fetch_all(tx.connection()?).await?;
            tx.commit().await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = (last.received_at, last.provider.clone(), last.event_id.clone());
            for row in rows {
                let key = PayloadKey { received_at: row.received_at, provider: row.provider, event_id: row.event_id };
                match row.verdict {
                    1 => mentions.nobodys_payloads.push(key),
                    2 => mentions.others_payloads.push(key),
                    _ => {}
                }
            }
        }
    }

    async fn scan_objects(&self, wanted: &Wanted, mentions: &mut Mentions) -> Result<(), StoreError> {
        let mut after = (String::new(), String::new(), String::new());
        loop {
            let mut tx = self.begin_with(BEGIN_SCAN).await?;
            let query = tx.query_as::<ObjectRow>(SCAN_OBJECTS);
            let query = query.bind(wanted.patterns.clone()).bind(wanted.clerk_id.clone()).bind(wanted.own.clone());
            let query = query.bind(after.0.clone()).bind(after.1.clone()).bind(after.2.clone()).bind(PAGE);
            let rows = query.fetch_all(tx.connection()?).await?;
            tx.commit().await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = (last.provider.clone(), last.account.clone(), last.object_id.clone());
            for row in rows {
                let key = (row.provider, row.account, row.object_id);
                match row.verdict {
                    1 => mentions.nobodys_objects.push(key),
                    2 => mentions.others_objects.push(key),
                    _ => {}
                }
            }
        }
    }
}

/// A pattern of `like`, in lower case.
fn containing(text: &str) -> String {
    let escaped = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

impl Mentions {
    /// Whether there is none.
    pub fn is_nothing(&self) -> bool {
        self.nobodys_payloads.is_empty()
            && self.others_payloads.is_empty()
            && self.nobodys_objects.is_empty()
            && self.others_objects.is_empty()
    }

    /// Takes the mentions out: how many payloads were deleted, objects reduced (or, of Clerk's, deleted), mentions replaced.
    pub(super) async fn erase(&self, tx: &mut Tx, clerk_id: &str) -> Result<(u64, u64, u64), StoreError> {
        if self.is_nothing() {
            return Ok((0, 0, 0));
        }
        let other = pseudonym(clerk_id);
        let (times, providers, events) = payload_columns(&self.nobodys_payloads);
        let deleted = run(tx.query(DELETE_PAYLOADS_BY_KEY).bind(times).bind(providers).bind(events), tx).await?;
        let (times, providers, events) = payload_columns(&self.others_payloads);
        let query = tx.query(REPLACE_IN_PAYLOADS).bind(times).bind(providers).bind(events);
        let mut replaced = run(query.bind(clerk_id.to_owned()).bind(other.clone()), tx).await?;
        let (providers, accounts, ids) = object_columns(&self.nobodys_objects);
        let query = tx.query(REDACT_OBJECTS_BY_KEY).bind(providers.clone()).bind(vec![clerk_id.to_owned()]);
        let mut reduced = run(query.bind(accounts.clone()).bind(ids.clone()), tx).await?;
        reduced += run(tx.query(DELETE_OBJECTS_BY_KEY).bind(providers).bind(accounts).bind(ids), tx).await?;
        let (providers, accounts, ids) = object_columns(&self.others_objects);
        let query = tx.query(REPLACE_IN_OBJECTS).bind(providers).bind(accounts).bind(ids);
        replaced += run(query.bind(clerk_id.to_owned()).bind(other), tx).await?;
        Ok((deleted, reduced, replaced))
    }
}

fn payload_columns(keys: &[PayloadKey]) -> (Vec<DateTime<Utc>>, Vec<String>, Vec<String>) {
    let times = keys.iter().map(|key| key.received_at).collect();
    let providers = keys.iter().map(|key| key.provider.clone()).collect();
    (times, providers, keys.iter().map(|key| key.event_id.clone()).collect())
}

fn object_columns(keys: &[StoredKey]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let column = |of: fn(&StoredKey) -> &String| keys.iter().map(|key| of(key).clone()).collect();
    (column(|key| &key.0), column(|key| &key.1), column(|key| &key.2))
}
