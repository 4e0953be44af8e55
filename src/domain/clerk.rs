//! Decoding Clerk: text to [`Event`].

use crate::domain::event::{Event, Source};
use crate::domain::rules::Rules;
use crate::domain::signature::VerifiedBody;
use crate::domain::stripe::MalformedEvent;

/// Decodes a webhook's body. `event_id` is the `svix-id` header: the body has none.
pub fn decode_event(body: &VerifiedBody, event_id: &str, source: Source, rules: &Rules) -> Result<Event, MalformedEvent> {
    let _ = (body, event_id, source, rules);
    Err(MalformedEvent("not decoded".into()))
}
