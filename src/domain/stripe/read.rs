//! An object that an API call returned, as an event of its own: same decoder, same ordering, same fold.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use sha2::{Digest, Sha256};

use super::envelope::Envelope;
use super::object::{Object, Reading};
use super::{MalformedEvent, assemble, ignored, object, redaction};
use crate::domain::event::{Event, Payload, Source};
use crate::domain::json_text::{Document, MAX_DEPTH, Value, required_id, required_text};
use crate::domain::rules::Rules;

/// How an object was read.
#[derive(Clone, Debug)]
pub struct ApiRead {
    /// When the object looked like this: min(our clock when the request started, the answer's `Date` minus the round trip).
    pub as_of: DateTime<Utc>,
    /// The API version that the answer was rendered in.
    pub api_version: Option<String>,
    /// [`Source::Reconcile`], [`Source::CatchUp`] or [`Source::Job`].
    pub source: Source,
}

/// Decodes an object of the API. Its event id is a function of what was read, so that reading the same twice is a duplicate.
pub fn decode_object(text: &str, read: &ApiRead, rules: &Rules) -> Result<Event, MalformedEvent> {
    decode_object_of(text, read, None, rules)
}

/// As [`decode_object`], for an object that a customer names: it is that customer's if it does not say whose it is. A detached
/// payment method does not.
pub fn decode_object_of(text: &str, read: &ApiRead, customer_id: Option<&str>, rules: &Rules) -> Result<Event, MalformedEvent> {
    let document = Document::parse(text)?;
    let root = document.root();
    if document.depth() > MAX_DEPTH {
        return Err(MalformedEvent(format!("nested deeper than {MAX_DEPTH}")));
    }
    let object = Object::read(Some(root));
    let object_id = required_id(object.id, "id")?;
    let object_type = required_text(object.object_type, "object")?;
    let as_of = read.as_of.trunc_subsecs(0);
    let mut envelope = Envelope {
        id: String::new(),
        is_thin: false,
        event_type: format!("{object_type}.read"),
        created: as_of,
        api_version: read.api_version.clone(),
        livemode: object.livemode.and_then(Value::as_bool),
        account: String::new(),
        object: Some(root),
        previous_attributes: None,
        from_read: true,
    };
    let edits = redaction::edits(&document, &object, None);
    let redacted = document.rewrite_value(root, &edits);
    let hash = Sha256::digest(canonical(&redacted)?);
    envelope.id = format!("read:{object_id}:{}:{}", as_of.timestamp_millis(), hex::encode(hash));
    let mut names = object::names(&object, None, rules);
    if let Some(customer_id) = customer_id.filter(|_| names.owner_id.is_none()) {
        names.owner_id = Some(customer_id.to_owned());
        names.customer_ids.push(customer_id.to_owned());
    }
    let content = if rules.livemode.accepts(envelope.livemode) {
        object::content(&Reading {
            document: &document,
            edits: &edits,
            envelope: &envelope,
            object: &object,
            names: &names,
            rules,
        })
    } else {
        ignored("of the other livemode")
    };
    let payload = Payload { text: Arc::from(redacted.as_ref()), fits_jsonb: true };
    Ok(assemble(envelope, names, payload, content, read.source))
}

/// The text without white space, members sorted by key: equal objects, equal text.
fn canonical(text: &str) -> Result<String, MalformedEvent> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_| MalformedEvent("not JSON".to_owned()))?;
    Ok(value.to_string())
}
