//! Decoding Stripe: text to [`Event`], leniently and in every API dialect alike. One file per object that the projection
//! reads; every other object is mirrored without being understood.

mod checkout_session;
mod customer;
mod envelope;
mod invoice;
mod metadata;
mod object;
mod payment_method;
mod price;
mod read;
mod redaction;
mod subscription;
mod subscription_schedule;

use std::sync::Arc;

use thiserror::Error;

use self::envelope::Envelope;
use self::object::{Names, Object, Reading};
use crate::domain::billing::facts::Fact;
use crate::domain::event::{Content, Event, Payload, Provider, Source};
use crate::domain::json_text::{Document, MAX_DEPTH, SyntaxError, Unreadable};
use crate::domain::rules::Rules;
use crate::domain::signature::VerifiedBody;

pub use metadata::clerk_user_id;
pub(in crate::domain) use object::type_rank;
pub use read::{ApiRead, decode_object, decode_object_of};

/// The body is signed, but it is not JSON or not an event: answered with 400, kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("malformed event: {0}")]
pub struct MalformedEvent(pub String);

impl From<Unreadable> for MalformedEvent {
    fn from(error: Unreadable) -> MalformedEvent {
        MalformedEvent(error.to_string())
    }
}

impl From<SyntaxError> for MalformedEvent {
    fn from(error: SyntaxError) -> MalformedEvent {
        MalformedEvent(error.to_string())
    }
}

/// Decodes a webhook's body.
pub fn decode_event(body: &VerifiedBody, source: Source, rules: &Rules) -> Result<Event, MalformedEvent> {
    let text = std::str::from_utf8(body.bytes()).map_err(|_| MalformedEvent("not UTF-8".into()))?;
    let document = Document::parse(text)?;
    let envelope = envelope::read(document.root())?;
    let object = Object::read(envelope.object);
    let edits = redaction::edits(&document, &object, envelope.previous_attributes);
    let (payload, fits_jsonb) = document.rewrite(&edits);
    let names = object::names(&object, envelope.previous_attributes, rules);
    let content = if envelope.is_thin {
        ignored("thin event")
    } else if !rules.livemode.accepts(envelope.livemode) {
        ignored("of the other livemode")
    } else if document.depth() > MAX_DEPTH {
        Content::Unreadable { reason: format!("nested deeper than {MAX_DEPTH}") }
    } else {
        object::content(&Reading {
            document: &document,
            edits: &edits,
            envelope: &envelope,
            object: &object,
            names: &names,
            rules,
        })
    };
    let payload = Payload { text: Arc::from(payload.as_ref()), fits_jsonb };
    Ok(assemble(envelope, names, payload, content, source))
}

fn assemble(envelope: Envelope<'_>, mut names: Names, payload: Payload, content: Content, source: Source) -> Event {
    // An invoice may name its user deeper down than other objects do.
    if let Content::Snapshots(snapshots) = &content {
        let facts = snapshots.iter().filter_map(|snapshot| snapshot.fact.as_deref());
        names.add_users(
            facts.filter_map(|fact| if let Fact::Invoice(invoice) = fact { invoice.clerk_user_id.clone() } else { None }),
        );
    }
    Event {
        provider: Provider::Stripe,
        id: envelope.id,
        event_type: envelope.event_type,
        occurred_at: envelope.created,
        api_version: envelope.api_version,
        livemode: envelope.livemode,
        account: envelope.account,
        source,
        object_id: names.object_id,
        owner_id: names.owner_id,
        customer_ids: names.customer_ids,
        clerk_user_ids: names.clerk_user_ids,
        payload,
        content,
    }
}

fn ignored(reason: &str) -> Content {
    Content::Ignored { reason: reason.to_owned() }
}
