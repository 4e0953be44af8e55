//! The object of an event, and the snapshots that it makes: one, or a subscription's and one of each item.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::billing::{self, Item, Payer};
use super::envelope::{Envelope, ObjectType};
use super::user;
use crate::domain::billing::facts::Fact;
use crate::domain::event::{Content, ObjectKey, Provider, Snapshot};
use crate::domain::json_text::{Document, Edits, Keys, Unreadable, Value, required_id};
use crate::domain::stripe::type_rank;

/// Everything that an object is read with.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub document: &'a Document<'a>,
    pub edits: &'a Edits,
    pub envelope: &'a Envelope<'a>,
}

/// What the event delivers.
pub(super) fn content(reading: &Reading<'_>) -> Content {
    read_content(reading).unwrap_or_else(|error| Content::Unreadable { reason: error.within("data").to_string() })
}

fn read_content(reading: &Reading<'_>) -> Result<Content, Unreadable> {
    let ignored = |reason: &str| Ok(Content::Ignored { reason: reason.to_owned() });
    let envelope = reading.envelope;
    let Some(object_type) = envelope.object_type else { return ignored("nothing that is kept") };
    let Some(data) = envelope.data.filter(|data| data.is_object()) else {
        return Ok(Content::Unreadable { reason: "data: not an object".to_owned() });
    };
    let payer = match (object_type, billing::read_payer(data)) {
        (ObjectType::User, _) => None,
        (_, Payer::Unknown) => envelope.asked_for.clone(),
        (_, Payer::User(user_id)) => Some(user_id),
        (_, Payer::Organization) => return ignored("the payer is an organisation"),
    };
    let snapshots = match object_type {
        ObjectType::User => vec![read_user(reading, data)?],
        ObjectType::Subscription => read_subscription(reading, data, payer)?,
        ObjectType::Item => item_snapshots(reading, data, billing::read_item(data, payer.as_deref(), None)?),
        ObjectType::PaymentAttempt => {
            let id = required_id(data.get("id"), "id")?;
            let fact = Fact::ClerkPaymentAttempt(billing::read_payment_attempt(data, payer.clone()));
            vec![snapshot(reading, data, id, payer, fact)]
        }
    };
    Ok(Content::Snapshots(snapshots))
}

fn read_user(reading: &Reading<'_>, data: Value<'_>) -> Result<Snapshot, Unreadable> {
    let [id, updated_at, deleted] = data.pick(const { &Keys::new(["id", "updated_at", "deleted"]) });
    let id = required_id(id, "id")?;
    let is_deleted = deleted.and_then(Value::as_bool) == Some(true);
    let bare = ["id", "object", "deleted", "external_id", "slug"];
    let is_stub = is_deleted && data.members().all(|(key, _)| bare.iter().any(|name| key.says(name)));
    let fact = Fact::ClerkUser(user::read(data));
    let mut snapshot = snapshot(reading, data, id.clone(), Some(id), fact);
    if !reading.envelope.settles {
        snapshot.as_of = updated_at.and_then(Value::as_milliseconds).unwrap_or(reading.envelope.timestamp);
    }
    snapshot.deletion |= is_deleted;
    if is_stub {
        (snapshot.object, snapshot.fact) = (None, None);
    }
    Ok(snapshot)
}

fn read_subscription(reading: &Reading<'_>, data: Value<'_>, payer: Option<String>) -> Result<Vec<Snapshot>, Unreadable> {
    // The API's name for them is another one than the webhooks'.
    let [id, items, read_items, past_due_at] =
        data.pick(const { &Keys::new(["id", "items", "subscription_items", "past_due_at"]) });
    let items = items.or(read_items);
    let id = required_id(id, "id")?;
    let past_due_at: Option<DateTime<Utc>> = past_due_at.and_then(Value::as_milliseconds);
    let mut snapshots = Vec::with_capacity(4);
    for (position, item) in items.into_iter().flat_map(Value::elements).enumerate() {
        let read = billing::read_item(item, payer.as_deref(), past_due_at);
        let read = read.map_err(|error| error.within(&format!("items[{position}]")))?;
        snapshots.extend(item_snapshots(reading, item, read));
    }
    let fact = Fact::ClerkSubscription(billing::read_subscription(data, payer.clone()));
    snapshots.insert(0, snapshot(reading, data, id, payer, fact));
    Ok(snapshots)
}

/// The item's own snapshot and, for a free trial, that of its trial slot.
fn item_snapshots(reading: &Reading<'_>, object: Value<'_>, item: Item) -> Vec<Snapshot> {
    let trial = item.trial();
    let owner_id = Some(item.fact.user_id.clone());
    let slot =
        trial.map(|trial| snapshot(reading, object, format!("{}#trial", item.id), owner_id.clone(), Fact::ClerkItemTrial(trial)));
    let own = snapshot(reading, object, item.id, owner_id, Fact::ClerkItem(item.fact));
    std::iter::once(own).chain(slot).collect()
}

fn snapshot(reading: &Reading<'_>, object: Value<'_>, id: String, owner_id: Option<String>, fact: Fact) -> Snapshot {
    let envelope = reading.envelope;
    Snapshot {
        key: ObjectKey { provider: Provider::Clerk, account: String::new(), object_id: id },
        object_type: stored_type(&fact).to_owned(),
        event_id: envelope.id.clone(),
        as_of: envelope.timestamp,
        terminal: false,
        type_rank: type_rank(&envelope.event_type),
        api_version: None,
        from_read: envelope.from_read,
        owner_id,
        deletion: envelope.event_type.ends_with(".deleted"),
        object: Some(Arc::from(reading.document.rewrite_value(object, reading.edits).as_ref())),
        previous_attributes: None,
        fact: Some(Arc::new(fact)),
    }
}

/// Clerk's `object`, in one spelling: some objects come without it, and billing was renamed.
fn stored_type(fact: &Fact) -> &'static str {
    match fact {
        Fact::ClerkUser(_) => "user",
        Fact::ClerkItem(_) => "commerce_subscription_item",
        Fact::ClerkItemTrial(_) => "clerk_item_trial",
        Fact::ClerkPaymentAttempt(_) => "commerce_payment_attempt",
        _ => "commerce_subscription",
    }
}
