//! What is left of an event that Postgres refuses, so that at least the ledger has it.

use sha2::{Digest, Sha256};

use crate::domain::event::{Content, Event};

/// The longest id that is sure to fit an index of Postgres; a provider's are far shorter.
const LONGEST_ID: usize = 512;

/// The event with what Postgres cannot refuse: no snapshots, no NUL, ids that an index can hold.
pub(super) fn without_content(event: &Event) -> Event {
    let clean = |text: &String| storable(text);
    let mut bare = event.clone();
    bare.content = Content::Ignored { reason: String::new() };
    bare.id = clean(&event.id);
    bare.event_type = clean(&event.event_type);
    bare.account = clean(&event.account);
    bare.object_id = event.object_id.as_ref().map(clean);
    bare.owner_id = event.owner_id.as_ref().map(clean);
    bare.api_version = event.api_version.as_ref().map(clean);
    bare.customer_ids = event.customer_ids.iter().map(clean).collect();
    bare.clerk_user_ids = event.clerk_user_ids.iter().map(clean).collect();
    bare
}

/// The text itself, but for NULs; an overlong one is cut and told apart from its like by its hash.
fn storable(text: &str) -> String {
    let text = text.replace('\0', "\u{FFFD}");
    if text.len() <= LONGEST_ID {
        return text;
    }
    let hash = hex::encode(Sha256::digest(text.as_bytes()));
    let head: String = text.chars().take(LONGEST_ID / 8).collect();
    format!("{head}…{hash}")
}

/// The event of nobody: its owner's rows are refused as well.
pub(super) fn without_owner(event: &Event) -> Event {
    let mut bare = event.clone();
    bare.owner_id = None;
    bare.customer_ids.clear();
    bare.clerk_user_ids.clear();
    bare
}
