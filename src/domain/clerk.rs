//! Decoding Clerk: text to [`Event`].

mod billing;
mod envelope;
mod object;
mod read;
mod redaction;
mod user;

use std::sync::Arc;

use self::envelope::Envelope;
use crate::domain::event::{Content, Event, Payload, Provider, Source};
use crate::domain::json_text::{Document, MAX_DEPTH};
use crate::domain::rules::Rules;
use crate::domain::signature::VerifiedBody;
use crate::domain::stripe::MalformedEvent;

pub use read::{ApiRead, decode_object};

/// Decodes a webhook's body. `event_id` is the `svix-id` header: the body has none.
pub fn decode_event(body: &VerifiedBody, event_id: &str, source: Source, _rules: &Rules) -> Result<Event, MalformedEvent> {
    let text = std::str::from_utf8(body.bytes()).map_err(|_| MalformedEvent("not UTF-8".into()))?;
    let document = Document::parse(text)?;
    let envelope = envelope::read(document.root(), event_id)?;
    let edits = redaction::edits(document.root(), &envelope);
    let (payload, fits_jsonb) = document.rewrite(&edits);
    let content = if document.depth() > MAX_DEPTH {
        Content::Unreadable { reason: format!("nested deeper than {MAX_DEPTH}") }
    } else {
        object::content(&object::Reading { document: &document, edits: &edits, envelope: &envelope })
    };
    Ok(assemble(envelope, Payload { text: Arc::from(payload.as_ref()), fits_jsonb }, content, source))
}

fn assemble(envelope: Envelope<'_>, payload: Payload, content: Content, source: Source) -> Event {
    let names = envelope.names();
    Event {
        provider: Provider::Clerk,
        id: envelope.id,
        event_type: envelope.event_type,
        occurred_at: envelope.timestamp,
        api_version: None,
        livemode: None,
        account: String::new(),
        source,
        object_id: names.object_id,
        owner_id: names.owner_id.clone(),
        customer_ids: names.customer_id.into_iter().collect(),
        clerk_user_ids: names.owner_id.into_iter().collect(),
        payload,
        content,
    }
}
