//! Erased people: how they are recognised without keeping who they were, and what is left of an event about one.
//!
//! A person is erased by Clerk id, and the Stripe customers that were theirs with them. Both are known by hash alone. Of the
//! person nothing is kept but that events came. Of the customers' objects the billing state is kept (status, prices, dates: what
//! the narrow fact has), without addresses, card faces and names, so that a customer who comes back as another user has a plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::domain::billing::facts::{Card, Customer, Fact, PaymentMethod};
use crate::domain::event::{Content, Event, Payload, Provider, Snapshot};

/// The ledger's reason for an event of which nothing was kept.
pub const REASON: &str = "erased";

/// What a Clerk id or a customer's id is remembered by.
pub fn id_hash(id: &str) -> String {
    hex::encode(Sha256::digest(id.as_bytes()))
}

/// What stands in the place of an erased Clerk id: the same for every row, and no way back.
pub fn pseudonym(id: &str) -> String {
    let hash = id_hash(id);
    format!("erased:{}", hash.get(..32).unwrap_or(&hash))
}

/// Which of the ids at hand are erased.
#[derive(Clone, Debug, Default)]
pub struct Erased {
    ids: BTreeSet<String>,
}

impl Erased {
    /// Those of `candidates` whose hash is among `hashes`.
    pub fn among<'a>(candidates: impl IntoIterator<Item = &'a String>, hashes: &[String]) -> Erased {
        if hashes.is_empty() {
            return Erased::default();
        }
        let known: BTreeSet<&str> = hashes.iter().map(String::as_str).collect();
        Erased { ids: candidates.into_iter().filter(|id| known.contains(id_hash(id).as_str())).cloned().collect() }
    }

    /// Whether nobody at hand is erased: the usual case.
    pub fn is_nobody(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether that Clerk user or customer is erased.
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// The erased Clerk users at hand.
    pub fn users(&self) -> impl Iterator<Item = &String> {
        self.ids.iter().filter(|id| is_clerk_user(id))
    }

    /// Whether an event of Clerk's (or an import) is about an erased person, or names one beside nobody else.
    pub fn covers_person_of(&self, event: &Event) -> bool {
        let about = [&event.object_id, &event.owner_id].into_iter().flatten().chain(&event.clerk_user_ids);
        let about: BTreeSet<&String> = about.filter(|id| is_clerk_user(id)).collect();
        if about.is_empty() {
            mentioned_users(&event.payload.text).any(|id| self.has(id))
        } else {
            about.iter().any(|id| self.has(id))
        }
    }
}

/// Whether that is the form of a Clerk user's id.
pub fn is_clerk_user(id: &str) -> bool {
    id.starts_with("user_")
}

/// The Clerk users whom an event names as evidence or owner.
pub fn named_users(event: &Event) -> BTreeSet<&str> {
    let of_facts = event.snapshots().iter().filter_map(|snapshot| evidence(snapshot.fact.as_deref()?)?.as_deref());
    event.clerk_user_ids.iter().map(String::as_str).chain(of_facts).collect()
}

/// Everything of an event that could have been erased.
pub fn erasable_ids(event: &Event) -> BTreeSet<String> {
    let mut ids: BTreeSet<String> = named_users(event).into_iter().map(str::to_owned).collect();
    ids.extend([&event.object_id, &event.owner_id].into_iter().flatten().cloned());
    ids.extend(event.customer_ids.iter().cloned());
    if event.provider != Provider::Stripe {
        ids.extend(mentioned_users(&event.payload.text).map(str::to_owned));
    }
    ids
}

/// Whatever has the form of a Clerk user's id, anywhere in a text.
fn mentioned_users(text: &str) -> impl Iterator<Item = &str> {
    memchr::memmem::find_iter(text.as_bytes(), b"user_").filter_map(move |start| {
        let rest = text.get(start..)?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
        rest.get(..end).filter(|id| id.len() <= 255)
    })
}

/// The event as the ledger gets it: that it came, and nothing of the person. It must not reach the fold.
pub fn withhold(event: &Event) -> Event {
    let anonymous = |id: &String| if is_clerk_user(id) { pseudonym(id) } else { id.clone() };
    Event {
        id: withheld_id(event),
        object_id: event.object_id.as_ref().map(anonymous),
        owner_id: None,
        customer_ids: Vec::new(),
        clerk_user_ids: Vec::new(),
        payload: no_payload(),
        content: Content::Ignored { reason: REASON.to_owned() },
        ..event.clone()
    }
}

/// The id of an API read begins with that of its object.
fn withheld_id(event: &Event) -> String {
    match &event.object_id {
        Some(object_id) if event.id.starts_with("read:") && is_clerk_user(object_id) => {
            event.id.replacen(object_id.as_str(), &pseudonym(object_id), 1)
        }
        _ => event.id.clone(),
    }
}

/// A Stripe event about an erased customer, or one that names an erased person: the billing state alone.
pub fn reduce(event: &Event, erased: &Erased) -> Event {
    let content = match &event.content {
        Content::Snapshots(snapshots) => {
            Content::Snapshots(snapshots.iter().map(|snapshot| reduce_snapshot(snapshot, erased)).collect())
        }
        Content::Ignored { .. } | Content::Unreadable { .. } => Content::Ignored { reason: REASON.to_owned() },
    };
    let clerk_user_ids = event.clerk_user_ids.iter().filter(|id| !erased.has(id)).cloned().collect();
    Event { clerk_user_ids, payload: no_payload(), content, ..event.clone() }
}

fn no_payload() -> Payload {
    Payload { text: "".into(), fits_jsonb: true }
}

fn reduce_snapshot(snapshot: &Snapshot, erased: &Erased) -> Snapshot {
    let fact = snapshot.fact.as_deref().map(|fact| reduce_fact(fact, erased));
    let object = snapshot.object.as_ref().map(|_| {
        let mut object = json!({"id": snapshot.key.object_id, "object": snapshot.object_type, "erased": true});
        if let (Some(object), Some(fact)) = (object.as_object_mut(), &fact) {
            object.insert("fact".to_owned(), serde_json::to_value(fact).unwrap_or_default());
        }
        Arc::from(object.to_string())
    });
    Snapshot { object, previous_attributes: None, fact: fact.map(Arc::new), ..snapshot.clone() }
}

/// The fact without what is personal: where somebody lives, the card's face, the address of a mailbox, an erased Clerk id.
fn reduce_fact(fact: &Fact, erased: &Erased) -> Fact {
    let mut reduced = match fact {
        Fact::Customer(customer) => Fact::Customer(Customer { email: None, address: None, ..customer.clone() }),
        Fact::PaymentMethod(method) => {
            let card = method.card.as_ref().map(|_face| Card::default());
            Fact::PaymentMethod(PaymentMethod { card, address: None, ..method.clone() })
        }
        other => other.clone(),
    };
    let names_erased = evidence(&reduced).and_then(Option::as_ref).is_some_and(|user| erased.has(user));
    if let Some(user) = evidence_mut(&mut reduced).filter(|_| names_erased) {
        *user = None;
    }
    reduced
}

/// The Clerk user that a fact names, of the kinds that can name one.
fn evidence(fact: &Fact) -> Option<&Option<String>> {
    match fact {
        Fact::Customer(fact) => Some(&fact.clerk_user_id),
        Fact::Subscription(fact) => Some(&fact.clerk_user_id),
        Fact::Invoice(fact) => Some(&fact.clerk_user_id),
        Fact::CheckoutSession(fact) => Some(&fact.clerk_user_id),
        Fact::PaymentIntent(fact) => Some(&fact.clerk_user_id),
        _ => None,
    }
}

fn evidence_mut(fact: &mut Fact) -> Option<&mut Option<String>> {
    match fact {
        Fact::Customer(fact) => Some(&mut fact.clerk_user_id),
        Fact::Subscription(fact) => Some(&mut fact.clerk_user_id),
        Fact::Invoice(fact) => Some(&mut fact.clerk_user_id),
        Fact::CheckoutSession(fact) => Some(&mut fact.clerk_user_id),
        Fact::PaymentIntent(fact) => Some(&mut fact.clerk_user_id),
        _ => None,
    }
}
