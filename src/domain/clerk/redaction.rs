//! What is taken out of an event before anything is kept: where the request came from, and what an e-mail or a text
//! message said, which is mostly one-time codes.

use super::envelope::Envelope;
use crate::domain::json_text::{Edits, Kind, Value};

const REDACTED: &str = "\"[redacted]\"";

/// What is kept of a message: what it was and whom it went to, by id.
const KEPT_OF_MESSAGE: [&str; 7] = ["id", "object", "slug", "status", "user_id", "email_address_id", "phone_number_id"];
const KEPT_OF_ENVELOPE: [&str; 4] = ["object", "type", "timestamp", "instance_id"];

/// The redactions of a whole event.
pub(super) fn edits(root: Value<'_>, envelope: &Envelope<'_>) -> Edits {
    let mut edits = Edits::default();
    edits.drop_members(root, |key| key.says("event_attributes"));
    if !is_message(envelope) {
        return edits;
    }
    for (key, value) in root.members() {
        if key.says("data") && value.is_object() {
            keep_only(&mut edits, value, &KEPT_OF_MESSAGE);
        } else if !key.says("event_attributes") && !is_kept(key, value, &KEPT_OF_ENVELOPE) {
            edits.replace(value, REDACTED);
        }
    }
    edits
}

fn is_message(envelope: &Envelope<'_>) -> bool {
    let object = envelope.data.and_then(|data| data.get("object"));
    let is_message = object.is_some_and(|object| object.says("email") || object.says("sms_message"));
    is_message || envelope.event_type.starts_with("email.") || envelope.event_type.starts_with("sms.")
}

fn keep_only(edits: &mut Edits, object: Value<'_>, kept: &[&str]) {
    for (_, value) in object.members().filter(|(key, value)| !is_kept(*key, *value, kept)) {
        edits.replace(value, REDACTED);
    }
}

/// Kept fields are scalars: whatever is nested in one is not what the field is kept for.
fn is_kept(key: Value<'_>, value: Value<'_>, kept: &[&str]) -> bool {
    !matches!(value.kind(), Kind::Array | Kind::Object) && kept.iter().any(|name| key.says(name))
}
