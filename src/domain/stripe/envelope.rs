//! What surrounds the object of an event: see "The Event object" in Stripe's API reference.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::MalformedEvent;
use crate::domain::json_text::{Keys, LONGEST_ID, Unreadable, Value, required_id};

/// An event's own fields, and where its object stands.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub id: String,
    /// A thin event names its object instead of carrying it.
    pub is_thin: bool,
    pub event_type: String,
    pub created: DateTime<Utc>,
    pub api_version: Option<String>,
    pub livemode: Option<bool>,
    /// The Connect account, or empty.
    pub account: String,
    /// `data.object`, or a thin event's `related_object`; of any JSON type.
    pub object: Option<Value<'a>>,
    /// `data.previous_attributes`, when it is an object.
    pub previous_attributes: Option<Value<'a>>,
    /// Whether an API call returned the object: its time is not that of an event.
    pub from_read: bool,
}

/// Reads the envelope. Its kind is tested before anything else: a thin event writes its time differently.
pub(super) fn read(root: Value<'_>) -> Result<Envelope<'_>, MalformedEvent> {
    if !root.is_object() {
        return Err(MalformedEvent("not an object".into()));
    }
    let names =
        const { &Keys::new(["id", "object", "type", "created", "data", "livemode", "api_version", "account", "related_object"]) };
    let [id, object, event_type, created, data, livemode, api_version, account, related_object] = root.pick(names);
    let is_thin = object.and_then(Value::as_str).is_some_and(|object| object.starts_with("v2."));
    if !is_thin && object.is_some_and(|object| !object.says("event")) {
        return Err(MalformedEvent("object: not an event".into()));
    }
    let created = created.ok_or_else(|| MalformedEvent("created: missing".into()))?;
    let time = if is_thin { created.as_rfc3339().or_else(|| created.as_seconds()) } else { created.as_seconds() };
    let [object, previous_attributes] =
        data.map(|data| data.pick(const { &Keys::new(["object", "previous_attributes"]) })).unwrap_or_default();
    Ok(Envelope {
        id: required_id(id, "id")?,
        is_thin,
        event_type: required_id(event_type, "type")?,
        created: time.ok_or_else(|| MalformedEvent("created: not a time".into()))?,
        api_version: api_version.and_then(Value::as_text),
        livemode: livemode.and_then(Value::as_bool),
        account: account.map_or(Ok(String::new()), read_account)?,
        object: if is_thin { related_object } else { object },
        previous_attributes: previous_attributes.filter(|previous| previous.is_object()),
        from_read: false,
    })
}

/// An account that is not ours must never pass for ours: one that is too long for a key goes by its digest.
fn read_account(account: Value<'_>) -> Result<String, Unreadable> {
    let text = account.as_str().ok_or_else(|| Unreadable::new("account", "not a string"))?;
    if text.len() <= LONGEST_ID {
        return Ok(text.into_owned());
    }
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(text.as_bytes()))))
}
