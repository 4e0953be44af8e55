//! What of an event the database would keep: of erased people nothing, of their customers the billing state. Comparing with
//! more than that would tell of differences that are meant to be.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use crate::domain::erasure::{Erased, erasable_ids, named_users, reduce};
use crate::domain::event::{Event, Provider};
use crate::reconcile::{ReconcileError, Reconciler};
use crate::store::HeldObject;

impl Reconciler {
    /// Who of those that the events concern is erased.
    pub(super) async fn erased_among(
        &self,
        events: &[Event],
        held: &HashMap<String, HeldObject>,
    ) -> Result<Erased, ReconcileError> {
        let mut ids: BTreeSet<String> = events.iter().flat_map(erasable_ids).collect();
        ids.extend(held.values().filter_map(|object| object.owner_id.clone()));
        if ids.is_empty() {
            return Ok(Erased::default());
        }
        let ids: Vec<String> = ids.into_iter().collect();
        let hashes = self.store.list_erased(&ids).await?;
        Ok(Erased::among(&ids, &hashes))
    }
}

/// `None` where nothing is kept but, at most, that it came.
pub(super) fn as_kept<'a>(event: &'a Event, erased: &Erased, held: &HashMap<String, HeldObject>) -> Option<Cow<'a, Event>> {
    if erased.is_nobody() {
        return Some(Cow::Borrowed(event));
    }
    if event.provider != Provider::Stripe {
        return (!erased.covers_person_of(event)).then_some(Cow::Borrowed(event));
    }
    let held_owner = event.object_id.as_ref().and_then(|id| held.get(id)?.owner_id.as_ref());
    let mut customers = event.customer_ids.iter().chain(&event.owner_id).chain(held_owner);
    let named = named_users(event);
    let names_erased = named.iter().any(|user| erased.has(user));
    // Whoever is named beside the erased gets the customer, and with it everything.
    let is_reduced = names_erased || (named.is_empty() && customers.any(|customer| erased.has(customer)));
    Some(if is_reduced { Cow::Owned(reduce(event, erased)) } else { Cow::Borrowed(event) })
}
