//! `billsync.provider_objects`: rows to objects and back. What is read beside a row's key, and in which quantity, is what
//! keeps a batch's cost independent of how many invoices a customer has.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::postgres::PgRow;
use tracing::warn;

use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::{Contender, Evidence, OwnerEvidence, StoredObject, Winner};
use crate::domain::event::{ObjectKey, Provider};
use crate::store::pool::Statement;

parts! {
    /// An object that was not loaded stays as it is.
    UPSERT_OBJECTS = "\
        objects_written as (insert into billsync.provider_objects as o (provider, account, object_id, object_type, \
            owner_id, owner_evidence, as_of, terminal, event_id, winner, fact, contenders, ambiguous, deleted_at, object, read_singly, \
            evidence_created_at, summed_subscription, summed_start_at, summed_conversion_at) \
        select x.provider, x.account, x.object_id, x.object_type, x.owner_id, x.owner_evidence::jsonb, x.as_of, x.terminal, \
            x.event_id, x.winner::jsonb, x.fact::jsonb, x.contenders::jsonb, x.ambiguous, x.deleted_at, \
            case when x.payload_number is null then x.object::jsonb \
                when x.provider = 'stripe' then y.payload -> 'data' -> 'object' else y.payload -> 'data' end, \
            x.read_singly, x.evidence_created_at, x.summed_subscription, x.summed_start_at, x.summed_conversion_at \
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::bool[], \
            $9::text[], $10::text[], $11::text[], $12::text[], $13::bool[], $14::timestamptz[], $15::text[], $16::bool[], \
            $17::timestamptz[], $18::text[], $19::timestamptz[], $20::timestamptz[], $21::int8[]) \
            as x(provider, account, object_id, object_type, owner_id, owner_evidence, as_of, terminal, event_id, winner, \
                fact, contenders, ambiguous, deleted_at, object, read_singly, evidence_created_at, summed_subscription, \
                summed_start_at, summed_conversion_at, payload_number) \
            left join payloads y on y.number = x.payload_number \
        on conflict (provider, account, object_id) do update set \
            object_type = excluded.object_type, owner_id = excluded.owner_id, owner_evidence = excluded.owner_evidence, \
            as_of = excluded.as_of, terminal = excluded.terminal, event_id = excluded.event_id, winner = excluded.winner, \
            fact = excluded.fact, contenders = excluded.contenders, ambiguous = excluded.ambiguous, \
            deleted_at = excluded.deleted_at, object = coalesce(excluded.object, o.object), \
            read_singly = excluded.read_singly, evidence_created_at = excluded.evidence_created_at, \
            summed_subscription = excluded.summed_subscription, summed_start_at = excluded.summed_start_at, \
            summed_conversion_at = excluded.summed_conversion_at)";
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

/// A row of the table, but for what is derived from it.
#[derive(Debug)]
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
    /// Reads the columns of [`sql::OBJECT_COLUMNS`](super::load), which begin at `first`.
    pub(crate) fn read(row: &PgRow, first: usize) -> Result<ObjectRow, sqlx::Error> {
        Ok(ObjectRow {
            provider: row.try_get(first)?,
            account: row.try_get(first + 1)?,
            object_id: row.try_get(first + 2)?,
            object_type: row.try_get(first + 3)?,
            owner_id: row.try_get(first + 4)?,
            owner_evidence: row.try_get(first + 5)?,
            as_of: row.try_get(first + 6)?,
            terminal: row.try_get(first + 7)?,
            event_id: row.try_get(first + 8)?,
            winner: row.try_get(first + 9)?,
            fact: row.try_get(first + 10)?,
            contenders: row.try_get(first + 11)?,
            ambiguous: row.try_get(first + 12)?,
            deleted_at: row.try_get(first + 13)?,
            object: row.try_get(first + 14)?,
        })
    }

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

/// Binds [`UPSERT_OBJECTS`]; one entry per key.
/// Objects with a number are taken out of that payload of the same statement.
pub(crate) fn bind_upsert(query: Statement, objects: &[StoredObject], payload_numbers: &[Option<i64>]) -> Statement {
    let derived: Vec<Derived> =
        objects.iter().map(|object| Derived::of(&object.key.account, object.fact.as_deref(), object.deleted_at)).collect();
    let winners: Vec<Option<&Winner>> = objects.iter().map(|object| object.winner.as_ref()).collect();
    let given: Vec<Option<&str>> = winners
        .iter()
        .zip(payload_numbers)
        .map(|(winner, number)| if number.is_some() { None } else { winner.and_then(|w| w.object.as_deref()) })
        .collect();
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
    query
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
        .bind(given)
        .bind(derived.iter().map(|d| d.read_singly).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.evidence_created_at).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.summed.map(|s| s.0)).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.summed.map(|s| s.1)).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.conversion_at).collect::<Vec<_>>())
        .bind(payload_numbers)
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
            Some(Fact::Invoice(invoice)) if !invoice.is_deleted(deleted_at) => {
                // An open one matters to e-mails.
                let read_singly = invoice.status == "open";
                let summed = invoice.billed_period().filter(|_| !read_singly);
                Derived {
                    read_singly,
                    evidence_created_at: invoice.clerk_user_id.as_ref().map(|_| invoice.created.unwrap_or_default()),
                    summed,
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
