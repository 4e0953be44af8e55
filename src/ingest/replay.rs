//! An event as the ledger keeps it, made into the event that it was: what the command and the API replay.

use bytes::Bytes;
use thiserror::Error;

use crate::domain::event::{Event, Provider, Source};
use crate::domain::rules::Rules;
use crate::domain::signature::VerifiedBody;
use crate::domain::{clerk, stripe};
use crate::store::EventDetail;

/// Why an event of the ledger cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotReplayable {
    /// Its payload was dropped with its month, or never was one.
    #[error("its payload is not kept any more")]
    NoPayload,
    /// It is not something that a provider has sent: a job's entry, an API read, an import.
    #[error("it is no event that a provider has sent")]
    NotAnEvent,
    /// What is kept cannot be read as an event.
    #[error("{0}")]
    Malformed(String),
}

/// Reads the payload that the ledger keeps again. Submitted, it ends as `duplicate` unless it had failed.
pub fn event_from_ledger(stored: &EventDetail, rules: &Rules) -> Result<Event, NotReplayable> {
    let (entry, source) = (&stored.entry, stored.entry.source.as_str());
    if source == Source::Job.as_str() || source == Source::Reconcile.as_str() {
        return Err(NotReplayable::NotAnEvent);
    }
    let payload = stored.payload.as_ref().ok_or(NotReplayable::NoPayload)?;
    let body = VerifiedBody::from_operator(Bytes::copy_from_slice(payload.as_bytes()));
    let decoded = match Provider::parse(&entry.provider) {
        Some(Provider::Stripe) => stripe::decode_event(&body, Source::Replay, rules),
        Some(Provider::Clerk) => clerk::decode_event(&body, &entry.event_id, Source::Replay, rules),
        Some(Provider::Import) | None => return Err(NotReplayable::NotAnEvent),
    };
    decoded.map_err(|malformed| NotReplayable::Malformed(malformed.to_string()))
}
