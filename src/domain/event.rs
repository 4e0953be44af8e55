//! What both providers' events have in common once decoded. An [`Event`] is complete: whoever holds one needs neither
//! the raw body nor the provider's format again. There is no behaviour here, only shape.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::billing::facts::Fact;
use crate::domain::json_text::JsonText;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Stripe,
    Clerk,
    /// The rows of an adopted or imported database, kept as facts.
    Import,
}

impl Provider {
    /// The text that the database keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Provider::Stripe => "stripe",
            Provider::Clerk => "clerk",
            Provider::Import => "import",
        }
    }

    /// The inverse of [`Provider::as_str`].
    pub fn parse(text: &str) -> Option<Provider> {
        [Provider::Stripe, Provider::Clerk, Provider::Import].into_iter().find(|p| p.as_str() == text)
    }
}

/// How an event reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Webhook,
    Replay,
    CatchUp,
    Reconcile,
    Job,
}

impl Source {
    /// The text that the ledger keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Webhook => "webhook",
            Source::Replay => "replay",
            Source::CatchUp => "catch_up",
            Source::Reconcile => "reconcile",
            Source::Job => "job",
        }
    }

    /// Whether `user_system_data.last_webhook_*` may name an event from this source.
    pub fn counts_as_newest_event(self) -> bool {
        !matches!(self, Source::Reconcile | Source::Job)
    }
}

/// What became of an event; the ledger's `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Applied,
    Unlinked,
    Stale,
    Ignored,
    Failed,
    /// Seen before. Told to the sender, never stored.
    Duplicate,
}

impl Outcome {
    /// The text that the ledger keeps and the sender is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Unlinked => "unlinked",
            Outcome::Stale => "stale",
            Outcome::Ignored => "ignored",
            Outcome::Failed => "failed",
            Outcome::Duplicate => "duplicate",
        }
    }
}

/// The key of an event in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    pub provider: Provider,
    pub id: String,
}

/// The key of an object in `billsync.provider_objects`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub provider: Provider,
    /// The Connect account, or empty for the account itself.
    pub account: String,
    pub object_id: String,
}

/// A redacted body, as the ledger keeps it.
#[derive(Clone, Debug)]
pub struct Payload {
    /// JSON text, after redaction.
    pub text: Arc<str>,
    /// False when `jsonb` would refuse the text; it is then kept as bytes.
    pub fits_jsonb: bool,
}

/// One webhook (or API read), decoded.
#[derive(Clone, Debug)]
pub struct Event {
    pub provider: Provider,
    /// `evt_…` for Stripe, the `svix-id` header for Clerk, `read:…` for an API read.
    pub id: String,
    /// The provider's `type`, verbatim.
    pub event_type: String,
    /// The provider's clock.
    pub occurred_at: DateTime<Utc>,
    pub api_version: Option<String>,
    pub livemode: Option<bool>,
    /// The Connect account, or empty.
    pub account: String,
    pub source: Source,
    /// The id of the object that the event is about.
    pub object_id: Option<String>,
    /// Read from the event's own payload alone: a Stripe customer id, or a Clerk user id.
    pub owner_id: Option<String>,
    /// Every customer id that the payload names, `previous_attributes` included. What has to be locked.
    pub customer_ids: Vec<String>,
    /// Every Clerk user id that the payload names as evidence or as owner.
    pub clerk_user_ids: Vec<String>,
    pub payload: Payload,
    pub content: Content,
}

impl Event {
    /// The key in the ledger.
    pub fn key(&self) -> EventId {
        EventId { provider: self.provider, id: self.id.clone() }
    }

    /// The snapshots it carries; none when it is ignored or unreadable.
    pub fn snapshots(&self) -> &[Snapshot] {
        match &self.content {
            Content::Snapshots(snapshots) => snapshots,
            Content::Ignored { .. } | Content::Unreadable { .. } => &[],
        }
    }
}

/// What an event delivers.
#[derive(Clone, Debug)]
pub enum Content {
    /// Objects to keep. Those without a [`Fact`] are mirrored only.
    Snapshots(Vec<Snapshot>),
    /// Kept in the ledger alone.
    Ignored { reason: String },
    /// The envelope is fine, but a required field of a type we read is missing or of the wrong JSON type.
    Unreadable { reason: String },
}

/// Where an event's type stands among the snapshots of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TypeRank {
    Created,
    Other,
    Deleted,
}

/// "Object X looked like this at time T."
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub key: ObjectKey,
    /// Stripe's `object`; Clerk's `object`, see [`crate::domain::billing::facts::Fact`] for the ones the projection reads.
    pub object_type: String,
    pub event_id: String,
    pub as_of: DateTime<Utc>,
    /// A state that nothing follows: see [`crate::domain::billing::ordering`].
    pub terminal: bool,
    pub type_rank: TypeRank,
    pub api_version: Option<String>,
    /// True for what an API call returned: an event of the same second wins over it.
    pub from_read: bool,
    /// The customer or Clerk user that the snapshot belongs to, `previous_attributes` included.
    pub owner_id: Option<String>,
    /// True when the event says that the object is deleted, as of `as_of`.
    pub deletion: bool,
    /// The whole object, redacted, fit for `jsonb`. `None` for the stub `{id, object, deleted}`.
    pub object: Option<Arc<str>>,
    /// Stripe's `previous_attributes`, an object; `None` when absent.
    pub previous_attributes: Option<JsonText>,
    /// The narrow values that the projection reads; `None` for a stub and for types that are mirrored only.
    pub fact: Option<Arc<Fact>>,
}
