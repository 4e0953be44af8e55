//! What a rebuild finds: a stored value that is not the one that follows from the facts.

use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::billing::rows::Effect;
use crate::domain::billing::stored::{LinkedBy, Owner};

/// One column of one row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The Clerk id of the user whose row it is; `None` for a cache about what belongs to nobody.
    pub user_id: Option<String>,
    pub table: String,
    pub column: String,
    /// The row's key where the user is not: a customer, a Clerk user, an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    pub stored: Value,
    pub recomputed: Value,
}

impl From<Effect> for Difference {
    fn from(effect: Effect) -> Difference {
        Difference {
            user_id: Some(effect.user_id),
            table: effect.table.into_owned(),
            column: effect.column.into_owned(),
            row: None,
            stored: effect.old,
            recomputed: effect.new,
        }
    }
}

/// What differs between an owner row as stored (`None`: there is none) and as the facts have it.
pub fn owner_differences(stored: Option<&Owner>, recomputed: &Owner) -> Vec<Difference> {
    let nothing = Owner { owner_id: recomputed.owner_id.clone(), ..Owner::default() };
    let columns = columns(stored.unwrap_or(&nothing)).into_iter().zip(columns(recomputed));
    let user_id = [Some(recomputed), stored].into_iter().flatten().find_map(user_of);
    columns
        .filter(|((_, stored), (_, recomputed))| stored != recomputed)
        .map(|((column, stored), (_, recomputed_value))| Difference {
            user_id: user_id.clone(),
            table: "owners".to_owned(),
            column: column.to_owned(),
            row: Some(recomputed.owner_id.clone()),
            stored,
            recomputed: recomputed_value,
        })
        .collect()
}

fn user_of(owner: &Owner) -> Option<String> {
    if owner.owner_id.starts_with("user_") { Some(owner.owner_id.clone()) } else { owner.clerk_user_id.clone() }
}

fn columns(owner: &Owner) -> [(&'static str, Value); 11] {
    let newest = owner.newest.as_ref();
    [
        ("clerk_user_id", json!(owner.clerk_user_id)),
        ("linked_by", json!(owner.linked_by.map(LinkedBy::as_str))),
        ("newest_type", json!(newest.map(|event| &event.event_type))),
        ("newest_id", json!(newest.map(|event| &event.event_id))),
        ("newest_at", json!(newest.map(|event| event.at))),
        ("newest_failed", json!(newest.is_some_and(|event| event.failed))),
        ("has_facts", json!(owner.has_facts)),
        ("claimed_customer_id", json!(owner.claimed_customer_id)),
        ("imported_customer_id", json!(owner.imported_customer_id)),
        ("test_clock", json!(owner.test_clock)),
        ("emails", json!(owner.emails)),
    ]
}
