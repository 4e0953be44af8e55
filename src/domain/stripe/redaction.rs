//! What is taken out of every text before anything is kept: values that let their reader act or look in somebody's name.

use super::object::Object;
use crate::domain::json_text::{Document, Edits, Keys, Kind, Value};

const REDACTED: &str = "\"[redacted]\"";

/// Redacted wherever they stand; `secret` is that of ephemeral keys, connection tokens and webhook endpoints. The last one
/// tells sessions.
const MEMBERS: Keys<6> = Keys::new(["client_secret", "secret", "hosted_invoice_url", "invoice_pdf", "receipt_url", "object"]);

/// The redactions of a whole event.
pub(super) fn edits(document: &Document<'_>, object: &Object<'_>, previous_attributes: Option<Value<'_>>) -> Edits {
    let mut edits = Edits::default();
    for (key, value) in document.find_all(&MEMBERS) {
        if !key.says("object") {
            redact(&mut edits, value);
        } else if is_session(value) {
            value.container().into_iter().for_each(|session| redact_url(&mut edits, session));
        }
    }
    // The previous attributes of a session do not say what they belong to.
    if object.object_type.is_some_and(is_session) {
        previous_attributes.into_iter().for_each(|previous| redact_url(&mut edits, previous));
    }
    edits
}

/// `checkout.session`, `billing_portal.session`, `identity.verification_session`, …: their URL is a way in.
fn is_session(object_type: Value<'_>) -> bool {
    object_type.as_str().is_some_and(|object_type| object_type.ends_with("session"))
}

fn redact_url(edits: &mut Edits, session: Value<'_>) {
    session.members().filter(|(key, _)| key.says("url")).for_each(|(_, value)| redact(edits, value));
}

/// An absent value stays visibly absent.
fn redact(edits: &mut Edits, value: Value<'_>) {
    if value.kind() != Kind::Null {
        edits.replace(value, REDACTED);
    }
}
