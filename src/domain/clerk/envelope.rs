//! What surrounds the object of an event: see "Webhooks overview" in Clerk's documentation.

use chrono::{DateTime, Utc};

use super::user;
use crate::domain::json_text::{Keys, Value, required_id};
use crate::domain::stripe::MalformedEvent;

/// The objects that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectType {
    User,
    Subscription,
    Item,
    PaymentAttempt,
}

/// An event's own fields, and its object.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub id: String,
    pub event_type: String,
    pub timestamp: DateTime<Utc>,
    /// Of any JSON type.
    pub data: Option<Value<'a>>,
    /// `None`: nothing of it is kept but the event itself.
    pub object_type: Option<ObjectType>,
    /// Whether an API call returned the object.
    pub from_read: bool,
    /// Whether the time of that call stands above what the object says of itself.
    pub settles: bool,
    /// The user in whose name the API was asked.
    pub asked_for: Option<String>,
}

/// The ids that an event names, as far as it can be read.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub object_id: Option<String>,
    pub owner_id: Option<String>,
    /// The customer that a user claims.
    pub customer_id: Option<String>,
}

/// Reads the envelope; `id` is the message's.
pub(super) fn read<'a>(root: Value<'a>, id: &str) -> Result<Envelope<'a>, MalformedEvent> {
    if !root.is_object() {
        return Err(MalformedEvent("not an object".into()));
    }
    if id.is_empty() || id.len() > 255 {
        return Err(MalformedEvent("message id: empty or too long".into()));
    }
    let [object, event_type, timestamp, data] = root.pick(const { &Keys::new(["object", "type", "timestamp", "data"]) });
    if object.is_some_and(|object| !object.says("event")) {
        return Err(MalformedEvent("object: not an event".into()));
    }
    let event_type = required_id(event_type, "type")?;
    let timestamp = timestamp.ok_or_else(|| MalformedEvent("timestamp: missing".into()))?;
    let timestamp = timestamp.as_milliseconds().ok_or_else(|| MalformedEvent("timestamp: not a time".into()))?;
    let object_type = object_type(data.and_then(|data| data.get("object")), &event_type);
    Ok(Envelope {
        id: id.to_owned(),
        event_type,
        timestamp,
        data,
        object_type,
        from_read: false,
        settles: false,
        asked_for: None,
    })
}

/// The envelope of an object that an API call returned: it has none of its own. `event_type` says what it is where the
/// object does not.
pub(super) fn of_read<'a>(object: Value<'a>, event_type: String, as_of: DateTime<Utc>) -> Envelope<'a> {
    let object_type = object_type(object.get("object"), &event_type);
    let data = Some(object);
    Envelope {
        id: String::new(),
        event_type,
        timestamp: as_of,
        data,
        object_type,
        from_read: true,
        settles: false,
        asked_for: None,
    }
}

/// The object says what it is; those that do not are told by the event's type.
fn object_type(object: Option<Value<'_>>, event_type: &str) -> Option<ObjectType> {
    let Some(object) = object.and_then(Value::as_str) else {
        return Some(match event_type.split('.').next()? {
            "user" => ObjectType::User,
            "subscription" => ObjectType::Subscription,
            "subscriptionItem" => ObjectType::Item,
            "paymentAttempt" => ObjectType::PaymentAttempt,
            _ => return None,
        });
    };
    // Clerk Billing was called commerce while in beta.
    let plain = object.strip_prefix("commerce_").or_else(|| object.strip_prefix("billing_")).unwrap_or(&object);
    match plain {
        "user" => Some(ObjectType::User),
        "subscription" => Some(ObjectType::Subscription),
        "subscription_item" => Some(ObjectType::Item),
        "payment_attempt" => Some(ObjectType::PaymentAttempt),
        _ => None,
    }
}

impl Envelope<'_> {
    /// Reads the names from the object.
    pub fn names(&self) -> Names {
        let Some(data) = self.data else { return Names::default() };
        let [id, user_id, nested_user, payer] = data.pick(const { &Keys::new(["id", "user_id", "user", "payer"]) });
        let object_id = id.and_then(Value::as_id);
        if self.object_type == Some(ObjectType::User) {
            let customer_id = user::claimed_customer(data);
            return Names { owner_id: object_id.clone(), object_id, customer_id };
        }
        let payer = payer.and_then(|payer| payer.get("user_id"));
        let nested_user = nested_user.and_then(|user| user.get("id"));
        let owner_id = [payer, user_id, nested_user].into_iter().flatten().find_map(Value::as_id);
        let owner_id = owner_id.or_else(|| self.asked_for.clone());
        Names { object_id, owner_id, customer_id: None }
    }
}
