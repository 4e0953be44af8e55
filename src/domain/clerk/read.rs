//! An object that an API call returned, as an event of its own: same decoder, same ordering, same fold.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::envelope::{self, ObjectType};
use super::{assemble, object};
use crate::domain::event::{Event, Payload, Source};
use crate::domain::json_text::{Document, Edits, Keys, MAX_DEPTH, Value, required_id, required_text};
use crate::domain::stripe::MalformedEvent;

/// What of a user changes without `updated_at`: it would make every read look like another state of the same instant.
const RESTLESS: [&str; 4] =
    ["last_active_at", "last_sign_in_at", "lockout_expires_in_seconds", "verification_attempts_remaining"];

/// How an object was read.
#[derive(Clone, Debug)]
pub struct ApiRead {
    /// When the object looked like this, where it does not say so itself (a user's `updated_at` does): min(our clock when the
    /// request started, the answer's `Date` minus the round trip).
    pub as_of: DateTime<Utc>,
    /// [`Source::Reconcile`] or [`Source::Job`].
    pub source: Source,
    /// Whether it was asked for because the events contradict each other: then `as_of` counts for users too, because at an
    /// equal instant an event would win over the answer.
    pub settles: bool,
    /// The user in whose name it was asked for: billing objects of the API do not say whose they are.
    pub payer: Option<String>,
}

impl ApiRead {
    /// A read of something that says itself whose it is, and since when it looks like this.
    pub fn plain(as_of: DateTime<Utc>) -> ApiRead {
        ApiRead { as_of, source: Source::Reconcile, settles: false, payer: None }
    }
}

/// Decodes an object of the API. Its event id is a function of what was read, so that reading the same twice is a duplicate.
pub fn decode_object(text: &str, read: &ApiRead) -> Result<Event, MalformedEvent> {
    let document = Document::parse(text)?;
    let root = document.root();
    if document.depth() > MAX_DEPTH {
        return Err(MalformedEvent(format!("nested deeper than {MAX_DEPTH}")));
    }
    if !root.is_object() {
        return Err(MalformedEvent("not an object".to_owned()));
    }
    let [id, object_type, updated_at] = root.pick(const { &Keys::new(["id", "object", "updated_at"]) });
    let object_id = required_id(id, "id")?;
    let event_type = format!("{}.read", required_text(object_type, "object")?);
    let mut envelope = envelope::of_read(root, event_type, read.as_of);
    envelope.asked_for.clone_from(&read.payer);
    envelope.settles = read.settles;
    if envelope.object_type == Some(ObjectType::User) && !read.settles {
        envelope.timestamp = updated_at.and_then(Value::as_milliseconds).unwrap_or(read.as_of);
    }
    let mut edits = Edits::default();
    edits.drop_members(root, |key| RESTLESS.iter().any(|name| key.says(name)));
    let kept = document.rewrite_value(root, &edits);
    let hash = Sha256::digest(canonical(&kept)?);
    envelope.id = format!("read:{object_id}:{}:{}", envelope.timestamp.timestamp_millis(), hex::encode(hash));
    let content = object::content(&object::Reading { document: &document, edits: &edits, envelope: &envelope });
    let payload = Payload { text: Arc::from(kept.as_ref()), fits_jsonb: true };
    Ok(assemble(envelope, payload, content, read.source))
}

/// The text without white space, members sorted by key: equal objects, equal text.
fn canonical(text: &str) -> Result<String, MalformedEvent> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_| MalformedEvent("not JSON".to_owned()))?;
    Ok(value.to_string())
}
