//! How an object that Stripe describes differs from the one that we hold. Pure.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::domain::event::Snapshot;
use crate::store::HeldObject;

/// One value that differs, in one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drift {
    pub object: String,
    pub object_type: String,
    pub customer: Option<String>,
    /// The Clerk id, if the customer belongs to somebody.
    pub user: Option<String>,
    /// The path within the narrow values that the rows are made of; `(object)` for one that we do not have at all.
    pub field: String,
    pub ours: Value,
    pub theirs: Value,
    /// The newest event of the object that never came, as far as Stripe's list of events still has it.
    pub missed_event: Option<MissedEvent>,
}

/// An event that Stripe has and we have not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissedEvent {
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub created: DateTime<Utc>,
}

/// What in `held` the snapshot contradicts; nothing when ours is the newer one, or of types that no row depends on.
pub(super) fn compare(held: Option<&HeldObject>, snapshot: &Snapshot) -> Vec<Drift> {
    let mut found = Vec::new();
    let mut note = |field: &str, ours: Value, theirs: Value| {
        found.push(Drift {
            object: snapshot.key.object_id.clone(),
            object_type: snapshot.object_type.clone(),
            customer: snapshot.owner_id.clone(),
            user: None,
            field: field.to_owned(),
            ours,
            theirs,
            missed_event: None,
        });
    };
    if snapshot.deletion && held.is_none_or(|held| held.deleted_at.is_none()) {
        note("deleted", false.into(), true.into());
    }
    let Some(theirs) = snapshot.fact.as_deref().and_then(|fact| serde_json::to_value(fact).ok()) else { return found };
    match held.and_then(|held| Some((held, held.fact.as_ref()?))) {
        None => note("(object)", Value::Null, theirs),
        Some((held, ours)) if is_newer(snapshot, held) => compare_values("", ours, &theirs, &mut note),
        Some(_) => {}
    }
    found
}

/// At the same second an event wins over what was read.
fn is_newer(snapshot: &Snapshot, held: &HeldObject) -> bool {
    held.as_of.is_none_or(|as_of| (snapshot.terminal, snapshot.as_of) > (held.terminal, as_of))
}

/// Objects member by member; everything else as a whole.
fn compare_values(path: &str, ours: &Value, theirs: &Value, note: &mut impl FnMut(&str, Value, Value)) {
    if let (Value::Object(a), Value::Object(b)) = (ours, theirs) {
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let value = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
            compare_values(&inner, &value(a), &value(b), note);
        }
    } else if ours != theirs {
        note(path, ours.clone(), theirs.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_compared_leaf_by_leaf() {
        let mut found = Vec::new();
        let ours = json!({"status": "active", "card": {"brand": "visa", "last_4": "1"}, "items": [1]});
        let theirs = json!({"status": "active", "card": {"brand": "visa", "last_4": "2"}, "items": [1, 2], "ended_at": 5});
        compare_values("", &ours, &theirs, &mut |field, ours, theirs| found.push((field.to_owned(), ours, theirs)));
        let expected = [
            ("card.last_4".to_owned(), json!("1"), json!("2")),
            ("ended_at".to_owned(), Value::Null, json!(5)),
            ("items".to_owned(), json!([1]), json!([1, 2])),
        ];
        assert_eq!(found, expected);
    }
}
