//! `billsync.provider_objects`: rows to objects and back. What is read beside a row's key, and in which quantity, is what
//! keeps a batch's cost independent of how many invoices a customer has.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use tracing::warn;

use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::{Contender, Evidence, InvoiceSummary, OwnerEvidence, StoredObject, Winner};
use crate::domain::event::{ObjectKey, Provider};
use crate::store::error::StoreError;
use crate::store::pool::Tx;

/// The columns of an [`ObjectRow`] but for `object`.
macro_rules! columns {
    () => {
        "o.provider, o.account, o.object_id, o.object_type, o.owner_id, o.owner_evidence::text as owner_evidence, o.as_of, \
         o.terminal, o.event_id, o.winner::text as winner, o.fact::text as fact, o.contenders::text as contenders, o.ambiguous, \
         o.deleted_at"
    };
}

statements! {
    /// By key. The object itself only where a snapshot of the batch shares the winner's key and has to be compared with it.
    LOAD_OBJECTS_BY_KEY = concat!("select ", columns!(), ", \
        case when o.terminal = k.terminal and o.as_of = k.as_of then o.object::text end as object \
        from unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::timestamptz[]) \
            as k(provider, account, object_id, terminal, as_of) \
        join billsync.provider_objects o \
          on o.provider = k.provider and o.account = k.account and o.object_id = k.object_id");

    /// The facts of customers ($1), beside the objects of the batch ($2): everything that is few; of invoices and payment
    /// intents the newest that names a user; two attached cards, which tell "exactly one" from "several".
    ///
    /// Each branch looks owners up one by one in the index on them, and nothing else can be made of it: `offset 0` keeps the
    /// further conditions out, which would let a planner without statistics read the primary key from end to end.
    LOAD_FACTS_OF_CUSTOMERS = concat!("\
        select ", columns!(), ", null::text as object from unnest($1::text[]) as c(id) \
        cross join (values ('customer'), ('subscription'), ('subscription_schedule'), ('checkout.session')) as t(object_type) \
        cross join lateral (select * from billsync.provider_objects f \
            where f.owner_id = c.id and f.object_type = t.object_type offset 0) o \
        where o.account = '' and o.provider = 'stripe' \
        union all \
        select ", columns!(), ", null from unnest($1::text[]) as c(id) \
        cross join lateral (select * from billsync.provider_objects r where r.owner_id = c.id and r.read_singly offset 0) o \
        union all \
        select ", columns!(), ", null from unnest($1::text[]) as c(id) \
        cross join (values ('invoice'), ('payment_intent')) as t(object_type) \
        cross join lateral (select * from billsync.provider_objects e \
            where e.owner_id = c.id and e.object_type = t.object_type and e.evidence_created_at is not null \
              and e.object_id <> all($2) \
            order by e.evidence_created_at desc, e.object_id collate \"C\" limit 1) o \
        union all \
        select ", columns!(), ", null from unnest($1::text[]) as c(id) \
        cross join lateral (select m.* from (values ('payment_method'), ('card'), ('source')) as t(object_type) \
            cross join lateral (select * from billsync.provider_objects p \
                where p.owner_id = c.id and p.object_type = t.object_type and p.account || '' = '' and p.deleted_at is null \
                  and p.fact ? 'card' and p.fact ->> 'customer' = c.id and not p.fact ? 'detached' \
                  and p.object_id <> all($2) limit 2) m \
            limit 2) o");

    /// The facts of Clerk users: the user, Clerk Billing's objects, the import.
    LOAD_FACTS_OF_CLERK_USERS = concat!("\
        select ", columns!(), ", null::text as object from unnest($1::text[]) as c(id) \
        cross join lateral (select * from billsync.provider_objects f where f.owner_id = c.id offset 0) o \
        where o.account = '' and o.provider in ('clerk', 'import') \
        union all \
        select ", columns!(), ", null from unnest($1::text[]) as c(id) \
        cross join (values ('clerk'), ('import')) as p(provider) \
        cross join lateral (select * from billsync.provider_objects i \
            where i.provider = p.provider and i.account = '' and i.object_id = c.id offset 0) o \
        where o.owner_id is distinct from o.object_id");

    /// Per (customer, subscription, since): the earliest payment of its invoices that were not loaded one by one ($4).
    SUMMARISE_INVOICES = "\
        select s.customer_id, s.subscription, s.since, i.summed_conversion_at \
        from unnest($1::text[], $2::text[], $3::timestamptz[]) as s(customer_id, subscription, since) \
        cross join lateral (select o.summed_conversion_at from billsync.provider_objects o \
            where o.summed_subscription = s.subscription and o.owner_id = s.customer_id and o.summed_start_at >= s.since \
              and o.object_id <> all($4) \
            order by o.summed_conversion_at limit 1) i";

    /// An object that was not loaded stays as it is.
    UPSERT_OBJECTS = "\
        insert into billsync.provider_objects as o (provider, account, object_id, object_type, owner_id, owner_evidence, \
            as_of, terminal, event_id, winner, fact, contenders, ambiguous, deleted_at, object, read_singly, \
            evidence_created_at, summed_subscription, summed_start_at, summed_conversion_at) \
        select x.provider, x.account, x.object_id, x.object_type, x.owner_id, x.owner_evidence::jsonb, x.as_of, x.terminal, \
            x.event_id, x.winner::jsonb, x.fact::jsonb, x.contenders::jsonb, x.ambiguous, x.deleted_at, x.object::jsonb, \
            x.read_singly, x.evidence_created_at, x.summed_subscription, x.summed_start_at, x.summed_conversion_at \
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::bool[], \
            $9::text[], $10::text[], $11::text[], $12::text[], $13::bool[], $14::timestamptz[], $15::text[], $16::bool[], \
            $17::timestamptz[], $18::text[], $19::timestamptz[], $20::timestamptz[]) \
            as x(provider, account, object_id, object_type, owner_id, owner_evidence, as_of, terminal, event_id, winner, \
                fact, contenders, ambiguous, deleted_at, object, read_singly, evidence_created_at, summed_subscription, \
                summed_start_at, summed_conversion_at) \
        on conflict (provider, account, object_id) do update set \
            object_type = excluded.object_type, owner_id = excluded.owner_id, owner_evidence = excluded.owner_evidence, \
            as_of = excluded.as_of, terminal = excluded.terminal, event_id = excluded.event_id, winner = excluded.winner, \
            fact = excluded.fact, contenders = excluded.contenders, ambiguous = excluded.ambiguous, \
            deleted_at = excluded.deleted_at, object = coalesce(excluded.object, o.object), \
            read_singly = excluded.read_singly, evidence_created_at = excluded.evidence_created_at, \
            summed_subscription = excluded.summed_subscription, summed_start_at = excluded.summed_start_at, \
            summed_conversion_at = excluded.summed_conversion_at";
}

/// What a snapshot's object is looked up by.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    pub key: ObjectKey,
    /// Of the snapshot: only a winner with the same ones is compared with it. `None`: the object is not needed.
    pub order: Option<(bool, DateTime<Utc>)>,
}

/// A subscription's trial end, as the question that its invoices answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrialEnd {
    pub customer_id: String,
    pub subscription: String,
    pub since: DateTime<Utc>,
}

/// Customer, subscription, since, earliest payment.
type SummaryRow = (String, String, DateTime<Utc>, Option<DateTime<Utc>>);

#[derive(Debug, FromRow)]
pub(crate) struct ObjectRow {
    provider: String,
    account: String,
    object_id: String,
    object_type: String,
    owner_id: Option<String>,
    owner_evidence: Option<String>,
    as_of: Option<DateTime<Utc>>,
    terminal: Option<bool>,
    event_id: Option<String>,
    winner: Option<String>,
    fact: Option<String>,
    contenders: Option<String>,
    ambiguous: bool,
    deleted_at: Option<DateTime<Utc>>,
    object: Option<String>,
}

/// `provider_objects.winner`.
#[derive(Serialize, Deserialize)]
struct WinnerColumn {
    #[serde(flatten)]
    evidence: Evidence,
    #[serde(default)]
    names_owner: bool,
}

impl ObjectRow {
    /// `None` for a row that this version of billsync cannot read at all.
    pub(crate) fn into_object(self) -> Option<StoredObject> {
        let provider = Provider::parse(&self.provider)?;
        let key = ObjectKey { provider, account: self.account, object_id: self.object_id };
        let winner = match (self.as_of, self.event_id, read_json::<WinnerColumn>(&key, "winner", self.winner.as_deref())) {
            (Some(as_of), Some(event_id), Some(column)) => Some(Winner {
                terminal: self.terminal.unwrap_or_default(),
                as_of,
                event_id,
                evidence: column.evidence,
                names_owner: column.names_owner,
                object: self.object.map(Arc::from),
            }),
            _ => None,
        };
        Some(StoredObject {
            object_type: self.object_type,
            owner_id: self.owner_id,
            owner_evidence: read_json::<OwnerEvidence>(&key, "owner_evidence", self.owner_evidence.as_deref()),
            winner,
            fact: read_json::<Fact>(&key, "fact", self.fact.as_deref()).map(Arc::new),
            contenders: read_json::<Vec<Contender>>(&key, "contenders", self.contenders.as_deref()).unwrap_or_default(),
            ambiguous: self.ambiguous,
            deleted_at: self.deleted_at,
            key,
        })
    }
}

/// A column that a newer version wrote in a form unknown to this one counts as absent: it must not stop the account.
fn read_json<T: serde::de::DeserializeOwned>(key: &ObjectKey, column: &str, text: Option<&str>) -> Option<T> {
    let text = text?;
    serde_json::from_str(text)
        .inspect_err(|_error| warn!(object_id = %key.object_id, column, "a stored column cannot be read"))
        .ok()
}

/// Reads objects by key.
pub(crate) async fn load_by_key(tx: &mut Tx, lookups: &[Lookup]) -> Result<Vec<ObjectRow>, StoreError> {
    let providers: Vec<&str> = lookups.iter().map(|lookup| lookup.key.provider.as_str()).collect();
    let accounts: Vec<&str> = lookups.iter().map(|lookup| lookup.key.account.as_str()).collect();
    let ids: Vec<&str> = lookups.iter().map(|lookup| lookup.key.object_id.as_str()).collect();
    let terminals: Vec<Option<bool>> = lookups.iter().map(|lookup| lookup.order.map(|(terminal, _)| terminal)).collect();
    let times: Vec<Option<DateTime<Utc>>> = lookups.iter().map(|lookup| lookup.order.map(|(_, as_of)| as_of)).collect();
    let query = tx.query_as(LOAD_OBJECTS_BY_KEY).bind(providers).bind(accounts).bind(ids).bind(terminals).bind(times);
    Ok(query.fetch_all(tx.connection()?).await?)
}

/// Reads the facts of customers, leaving out of the bounded kinds what the batch itself is about.
pub(crate) async fn load_of_customers(tx: &mut Tx, customers: &[&str], batch: &[&str]) -> Result<Vec<ObjectRow>, StoreError> {
    let query = tx.query_as(LOAD_FACTS_OF_CUSTOMERS).bind(customers).bind(batch);
    Ok(query.fetch_all(tx.connection()?).await?)
}

/// Reads the facts of Clerk users.
pub(crate) async fn load_of_clerk_users(tx: &mut Tx, clerk_ids: &[&str]) -> Result<Vec<ObjectRow>, StoreError> {
    Ok(tx.query_as(LOAD_FACTS_OF_CLERK_USERS).bind(clerk_ids).fetch_all(tx.connection()?).await?)
}

/// Answers the trials' question from the invoices that are not in memory.
pub(crate) async fn summarise_invoices(
    tx: &mut Tx,
    trials: &[TrialEnd],
    loaded: &[&str],
) -> Result<Vec<InvoiceSummary>, StoreError> {
    let customers: Vec<&str> = trials.iter().map(|trial| trial.customer_id.as_str()).collect();
    let subscriptions: Vec<&str> = trials.iter().map(|trial| trial.subscription.as_str()).collect();
    let since: Vec<DateTime<Utc>> = trials.iter().map(|trial| trial.since).collect();
    let query = tx.query_as(SUMMARISE_INVOICES).bind(customers).bind(subscriptions).bind(since).bind(loaded);
    let rows: Vec<SummaryRow> = query.fetch_all(tx.connection()?).await?;
    let summaries = rows.into_iter().map(|(customer_id, subscription, since, converted_at)| InvoiceSummary {
        customer_id,
        subscription,
        since,
        converted_at,
    });
    Ok(summaries.collect())
}

/// Writes objects; one entry per key.
pub(crate) async fn upsert(tx: &mut Tx, objects: &[StoredObject]) -> Result<(), StoreError> {
    let derived: Vec<Derived> =
        objects.iter().map(|object| Derived::of(&object.key.account, object.fact.as_deref(), object.deleted_at)).collect();
    let winners: Vec<Option<&Winner>> = objects.iter().map(|object| object.winner.as_ref()).collect();
    let winner_columns: Vec<Option<String>> = winners
        .iter()
        .map(|winner| {
            winner.and_then(|winner| {
                json_text(&WinnerColumn { evidence: winner.evidence.clone(), names_owner: winner.names_owner })
            })
        })
        .collect();
    let contenders: Vec<Option<String>> =
        objects.iter().map(|object| if object.contenders.is_empty() { None } else { json_text(&object.contenders) }).collect();
    let query = tx
        .query(UPSERT_OBJECTS)
        .bind(objects.iter().map(|object| object.key.provider.as_str()).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| object.key.account.as_str()).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| object.key.object_id.as_str()).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| object.object_type.as_str()).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| object.owner_id.as_deref()).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| object.owner_evidence.as_ref().and_then(json_text)).collect::<Vec<_>>())
        .bind(winners.iter().map(|winner| winner.map(|w| w.as_of)).collect::<Vec<_>>())
        .bind(winners.iter().map(|winner| winner.map(|w| w.terminal)).collect::<Vec<_>>())
        .bind(winners.iter().map(|winner| winner.map(|w| w.event_id.as_str())).collect::<Vec<_>>())
        .bind(winner_columns)
        .bind(objects.iter().map(|object| object.fact.as_deref().and_then(json_text)).collect::<Vec<_>>())
        .bind(contenders)
        .bind(objects.iter().map(|object| object.ambiguous).collect::<Vec<_>>())
        .bind(objects.iter().map(|object| object.deleted_at).collect::<Vec<_>>())
        .bind(winners.iter().map(|winner| winner.and_then(|w| w.object.as_deref())).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.read_singly).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.evidence_created_at).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.summed.map(|s| s.0)).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.summed.map(|s| s.1)).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.conversion_at).collect::<Vec<_>>());
    query.execute(tx.connection()?).await?;
    Ok(())
}

/// What of an invoice or payment intent can be found without reading it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Derived<'a> {
    pub read_singly: bool,
    pub evidence_created_at: Option<DateTime<Utc>>,
    /// The one subscription that it bills, and the latest start of its lines.
    pub summed: Option<(&'a str, DateTime<Utc>)>,
    pub conversion_at: Option<DateTime<Utc>>,
}

impl<'a> Derived<'a> {
    pub(crate) fn of(account: &str, fact: Option<&'a Fact>, deleted_at: Option<DateTime<Utc>>) -> Derived<'a> {
        if !account.is_empty() {
            return Derived::default();
        }
        match fact {
            Some(Fact::PaymentIntent(intent)) => {
                let evidence_created_at = intent.clerk_user_id.as_ref().map(|_| intent.created.unwrap_or_default());
                Derived { evidence_created_at, ..Derived::default() }
            }
            Some(Fact::Invoice(invoice)) if deleted_at.is_none() => {
                // An open one matters to e-mails; one that bills several subscriptions has no single row in the index.
                let read_singly = invoice.status == "open" || invoice.line_starts.len() > 1;
                let summed = invoice.line_starts.iter().next().filter(|_| !read_singly);
                Derived {
                    read_singly,
                    evidence_created_at: invoice.clerk_user_id.as_ref().map(|_| invoice.created.unwrap_or_default()),
                    summed: summed.map(|(subscription, start)| (subscription.as_str(), *start)),
                    conversion_at: if summed.is_some() { invoice.conversion_at() } else { None },
                }
            }
            _ => Derived::default(),
        }
    }
}

/// Our own types serialise; should one not, the column is NULL rather than the batch lost.
pub(crate) fn json_text<T: Serialize>(value: &T) -> Option<String> {
    serde_json::to_string(value).ok()
}
