//! Rows of an older database as an event of the provider `import`: one snapshot, keyed by the Clerk id. What such a fact is
//! worth beside the providers' facts, the projection says.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::billing::facts::{Fact, Import};
use crate::domain::event::{Content, Event, ObjectKey, Payload, Provider, Snapshot, Source, TypeRank};

/// The type of the event and of its object.
pub const IMPORT: &str = "import";

/// "The rows of that user looked like this." `object` is what they were read from; `as_of` is when.
pub fn event(user_id: &str, import: Import, object: &Value, as_of: DateTime<Utc>) -> Event {
    // The ledger outlasts an erasure, so its id must not tell whose rows they were.
    let digest = hex::encode(Sha256::digest(user_id.as_bytes()));
    let id = format!("{IMPORT}:{}:{}", digest.get(..32).unwrap_or(&digest), as_of.timestamp_millis());
    let object: Arc<str> = object.to_string().into();
    let customer_ids = import.stripe_customer_id.iter().cloned().collect();
    let snapshot = Snapshot {
        key: ObjectKey { provider: Provider::Import, account: String::new(), object_id: user_id.to_owned() },
        object_type: IMPORT.to_owned(),
        event_id: id.clone(),
        as_of,
        terminal: false,
        type_rank: TypeRank::Other,
        api_version: None,
        from_read: false,
        owner_id: Some(user_id.to_owned()),
        deletion: false,
        object: Some(Arc::clone(&object)),
        previous_attributes: None,
        fact: Some(Arc::new(Fact::Import(Box::new(import)))),
    };
    Event {
        provider: Provider::Import,
        id,
        event_type: IMPORT.to_owned(),
        occurred_at: as_of,
        api_version: None,
        livemode: None,
        account: String::new(),
        source: Source::Job,
        object_id: Some(user_id.to_owned()),
        owner_id: Some(user_id.to_owned()),
        customer_ids,
        clerk_user_ids: vec![user_id.to_owned()],
        payload: Payload { text: object, fits_jsonb: true },
        content: Content::Snapshots(vec![snapshot]),
    }
}

/// Whether two imports say the same, whenever they were made.
pub fn is_same(one: &Import, other: &Import) -> bool {
    Import { imported_at: None, ..one.clone() } == Import { imported_at: None, ..other.clone() }
}

/// Whether an import says nothing of a plan, a subscription, a trial or a customer: another source may then speak instead.
pub fn is_blank(import: &Import) -> bool {
    let is_nothing = |value: &Option<String>, nothing: &str| value.as_deref().is_none_or(|value| value == nothing);
    is_nothing(&import.current_plan, "free")
        && is_nothing(&import.subscription_status, "none")
        && is_nothing(&import.trial_status, "pending")
        && import.stripe_customer_id.is_none()
        && import.intended_plan.is_none()
        && import.trial_end_date.is_none()
}
