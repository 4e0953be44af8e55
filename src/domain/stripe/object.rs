//! The object of an event: whose it is, what it is, and the snapshot that it makes.

use std::sync::Arc;

use super::envelope::Envelope;
use super::metadata::clerk_user_id;
use super::{checkout_session, customer, ignored, invoice, payment_method, subscription, subscription_schedule};
use crate::domain::billing::facts::{Fact, PaymentIntent, TestClock};
use crate::domain::event::{Content, ObjectKey, Provider, Snapshot, TypeRank};
use crate::domain::json_text::{Document, Edits, JsonText, Keys, Unreadable, Value, required_id, required_text};
use crate::domain::rules::Rules;

/// The members of an object that matter whatever it is, found once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Object<'a> {
    /// The object itself; `None` when it is missing or something else.
    pub value: Option<Value<'a>>,
    pub id: Option<Value<'a>>,
    pub object_type: Option<Value<'a>>,
    pub livemode: Option<Value<'a>>,
    deleted: Option<Value<'a>>,
    customer: Option<Value<'a>>,
    customer_account: Option<Value<'a>>,
    metadata: Option<Value<'a>>,
    client_reference_id: Option<Value<'a>>,
}

impl<'a> Object<'a> {
    /// Finds the members.
    pub fn read(value: Option<Value<'a>>) -> Object<'a> {
        let Some(value) = value.filter(|value| value.is_object()) else { return Object::default() };
        let names = const {
            &Keys::new(["id", "object", "livemode", "deleted", "customer", "customer_account", "metadata", "client_reference_id"])
        };
        let [id, object_type, livemode, deleted, customer, customer_account, metadata, client_reference_id] = value.pick(names);
        let value = Some(value);
        Object { value, id, object_type, livemode, deleted, customer, customer_account, metadata, client_reference_id }
    }

    /// `customer`, else `customer_account`.
    fn customer(&self) -> Option<String> {
        [self.customer, self.customer_account].into_iter().flatten().find_map(Value::as_reference)
    }

    fn is(&self, object_type: &str) -> bool {
        self.object_type.is_some_and(|own| own.says(object_type))
    }
}

/// The ids that an event names, as far as it can be read.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub object_id: Option<String>,
    pub owner_id: Option<String>,
    pub customer_ids: Vec<String>,
    pub clerk_user_ids: Vec<String>,
}

/// Everything that an object is read with.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub document: &'a Document<'a>,
    pub edits: &'a Edits,
    pub envelope: &'a Envelope<'a>,
    pub object: &'a Object<'a>,
    pub names: &'a Names,
    pub rules: &'a Rules,
}

/// Reads the names from the object and its previous attributes.
pub(super) fn names(object: &Object<'_>, previous_attributes: Option<Value<'_>>, rules: &Rules) -> Names {
    let fields = const { &Keys::new(["customer", "customer_account", "metadata"]) };
    let previous = previous_attributes.map(|previous| previous.pick(fields)).unwrap_or_default();
    let [previous_customer, previous_account, previous_metadata] = previous;
    let object_id = object.id.and_then(Value::as_id);
    let own = object_id.clone().filter(|_| object.is("customer"));
    let references = [object.customer, object.customer_account, previous_customer, previous_account];
    let references = references.into_iter().flatten().filter_map(Value::as_reference);
    let mut names = Names { object_id, ..Names::default() };
    for id in own.into_iter().chain(references) {
        if !names.customer_ids.contains(&id) {
            names.customer_ids.push(id);
        }
    }
    names.owner_id = names.customer_ids.first().cloned();
    let reference = object.client_reference_id.filter(|_| object.is("checkout.session"));
    let metadata = [object.metadata, previous_metadata].map(|metadata| clerk_user_id(metadata, rules));
    names.add_users(reference.and_then(Value::as_id).into_iter().chain(metadata.into_iter().flatten()));
    names
}

impl Names {
    /// Adds the users that are not named yet.
    pub fn add_users(&mut self, users: impl Iterator<Item = String>) {
        for id in users {
            if !self.clerk_user_ids.contains(&id) {
                self.clerk_user_ids.push(id);
            }
        }
    }
}

/// The object types that the projection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Customer,
    Subscription,
    SubscriptionSchedule,
    PaymentMethod,
    Card,
    Source,
    Invoice,
    CheckoutSession,
    PaymentIntent,
    TestClock,
}

impl Known {
    fn find(object_type: &str) -> Option<Known> {
        Some(match object_type {
            "customer" => Known::Customer,
            "subscription" => Known::Subscription,
            "subscription_schedule" => Known::SubscriptionSchedule,
            "payment_method" => Known::PaymentMethod,
            "card" => Known::Card,
            "source" => Known::Source,
            "invoice" => Known::Invoice,
            "checkout.session" => Known::CheckoutSession,
            "payment_intent" => Known::PaymentIntent,
            "test_helpers.test_clock" => Known::TestClock,
            _ => return None,
        })
    }
}

/// What the event delivers.
pub(super) fn content(reading: &Reading<'_>) -> Content {
    read_content(reading).unwrap_or_else(|error| Content::Unreadable { reason: error.within("data.object").to_string() })
}

fn read_content(reading: &Reading<'_>) -> Result<Content, Unreadable> {
    let (envelope, object) = (reading.envelope, reading.object);
    let Some(value) = object.value else { return Ok(Content::Unreadable { reason: "data.object: not an object".to_owned() }) };
    let object_type = required_text(object.object_type, "object")?;
    // An invoice to come has no id, or one that no invoice will ever have.
    if envelope.event_type == "invoice.upcoming" {
        return Ok(ignored("an invoice to come"));
    }
    let known = Known::find(&object_type);
    let id = match (required_id(object.id, "id"), known) {
        (Ok(id), _) => id,
        (Err(error), Some(_)) => return Err(error),
        (Err(_), None) => return Ok(ignored("object without id")),
    };
    let is_deleted = object.deleted.and_then(Value::as_bool) == Some(true);
    let is_stub = is_deleted && is_stub(value);
    let is_ours = envelope.account.is_empty();
    let fact = known.filter(|_| is_ours && !is_stub).map(|known| read_fact(known, value, reading)).transpose()?;
    let snapshot = Snapshot {
        key: ObjectKey { provider: Provider::Stripe, account: envelope.account.clone(), object_id: id },
        object_type,
        event_id: envelope.id.clone(),
        as_of: envelope.created,
        terminal: is_terminal(value, object, &envelope.event_type),
        type_rank: type_rank(&envelope.event_type),
        api_version: envelope.api_version.clone(),
        from_read: envelope.from_read,
        owner_id: reading.names.owner_id.clone(),
        deletion: is_deleted || envelope.event_type.ends_with(".deleted"),
        object: (!is_stub).then(|| Arc::from(reading.document.rewrite_value(value, reading.edits).as_ref())),
        previous_attributes: envelope
            .previous_attributes
            .map(|previous| JsonText::new(&reading.document.rewrite_value(previous, reading.edits))),
        fact: fact.map(Arc::new),
    };
    Ok(Content::Snapshots(vec![snapshot]))
}

/// Whether a deleted object consists of nothing but that it is deleted.
fn is_stub(object: Value<'_>) -> bool {
    let bare = ["id", "object", "deleted", "livemode", "currency"];
    object.members().all(|(key, _)| bare.iter().any(|name| key.says(name)))
}

/// Whether nothing can follow: an ended subscription stays ended, a detached payment method cannot be attached again.
fn is_terminal(value: Value<'_>, object: &Object<'_>, event_type: &str) -> bool {
    if object.is("subscription") {
        return value.get("status").is_some_and(|status| status.says("canceled") || status.says("incomplete_expired"));
    }
    object.is("payment_method") && event_type == "payment_method.detached"
}

/// Where an event of this type stands among those of one second.
pub(in crate::domain) fn type_rank(event_type: &str) -> TypeRank {
    match event_type.rsplit('.').next() {
        Some("created") => TypeRank::Created,
        Some("deleted") => TypeRank::Deleted,
        _ => TypeRank::Other,
    }
}

fn read_fact(known: Known, value: Value<'_>, reading: &Reading<'_>) -> Result<Fact, Unreadable> {
    let customer = reading.object.customer();
    let clerk_user_id = || clerk_user_id(reading.object.metadata, reading.rules);
    let detached = reading.envelope.event_type == "payment_method.detached";
    Ok(match known {
        Known::Customer => Fact::Customer(customer::read(value, clerk_user_id())),
        Known::Subscription => Fact::Subscription(subscription::read(value, customer, clerk_user_id())?),
        Known::SubscriptionSchedule => Fact::SubscriptionSchedule(subscription_schedule::read(value, customer)?),
        Known::PaymentMethod => Fact::PaymentMethod(payment_method::read(value, customer, detached)?),
        Known::Card => Fact::PaymentMethod(payment_method::read_legacy_card(value, customer)),
        Known::Source => Fact::PaymentMethod(payment_method::read_source(value, customer)),
        Known::Invoice => Fact::Invoice(invoice::read(value, customer, clerk_user_id(), reading.rules)?),
        Known::CheckoutSession => Fact::CheckoutSession(checkout_session::read(value, customer, clerk_user_id())?),
        Known::PaymentIntent => Fact::PaymentIntent(PaymentIntent {
            customer,
            created: value.get("created").and_then(Value::as_seconds),
            clerk_user_id: clerk_user_id(),
        }),
        Known::TestClock => Fact::TestClock(TestClock { frozen_time: value.get("frozen_time").and_then(Value::as_seconds) }),
    })
}
