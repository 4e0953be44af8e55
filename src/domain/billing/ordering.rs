//! Which snapshot of an object wins: a function of the SET of its snapshots, whatever order they come in. Stripe's
//! `created` has a one-second grain and a checkout emits several events a second, so a tie is the normal case; see
//! `contest` for how one is settled. No I/O, no clock: only snapshots are compared.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::domain::billing::contest::Contest;
use crate::domain::billing::facts::{ClerkUser, Fact};
use crate::domain::billing::stored::{Contender, Evidence, OwnerEvidence, StoredObject, Winner};
use crate::domain::event::{Provider, Snapshot};

/// From so many snapshots of one object in one second on, far beyond what a provider sends, only the greatest is kept and
/// the provider is asked: comparing each with all others would cost more with every one that comes.
const CROWD: usize = 128;

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the winner, equals it, or is the earliest evidence of a deletion.
    Won,
    /// It is kept (a contender, an owner's evidence), or it is superseded.
    Stale,
}

/// The object after a snapshot was admitted.
#[derive(Clone, Debug)]
pub struct Admission {
    pub object: StoredObject,
    pub verdict: Verdict,
    /// Whether the stored object differs from before.
    pub changed: bool,
}

/// The greater key wins: terminal beats everything, then the provider's time; at the same time an event beats an API read.
type Key = (bool, DateTime<Utc>, bool);

fn key_of(winner: &Winner) -> Key {
    (winner.terminal, winner.as_of, !winner.evidence.from_read)
}

/// Admits a snapshot to what is stored of its object.
pub fn admit(stored: Option<StoredObject>, snapshot: &Snapshot) -> Admission {
    let fresh = stored.is_none();
    let mut object = stored.unwrap_or_else(|| unknown(snapshot));
    let mut changed = fresh;
    let mut won = false;

    if snapshot.deletion && object.deleted_at.is_none_or(|at| snapshot.as_of < at) {
        object.deleted_at = Some(snapshot.as_of);
        changed = true;
        won = true;
    }
    let naming = if speaks_alone(&object, snapshot) { None } else { best_naming(&object, snapshot) };
    if let Some(text) = &snapshot.object {
        let key = (snapshot.terminal, snapshot.as_of, !snapshot.from_read);
        match object.winner.as_ref().map(|winner| key.cmp(&key_of(winner))) {
            None | Some(std::cmp::Ordering::Greater) => {
                install(&mut object, snapshot, text);
                changed = true;
                won = true;
            }
            Some(std::cmp::Ordering::Equal) => {
                let (joined, leads) = join(&mut object, snapshot, text);
                changed |= joined;
                won |= leads;
            }
            Some(std::cmp::Ordering::Less) => {}
        }
    } else if snapshot.deletion && object.deleted_at == Some(snapshot.as_of) {
        won = true;
    }
    changed |= settle_owner(&mut object, naming);
    if object.deleted_at.is_some() && is_clerk_user(&object) && changed {
        forget_person(&mut object);
    }
    Admission { object, verdict: if won { Verdict::Won } else { Verdict::Stale }, changed }
}

fn unknown(snapshot: &Snapshot) -> StoredObject {
    StoredObject {
        key: snapshot.key.clone(),
        object_type: snapshot.object_type.clone(),
        owner_id: None,
        owner_evidence: None,
        winner: None,
        fact: None,
        contenders: Vec::new(),
        ambiguous: false,
        deleted_at: None,
    }
}

fn evidence_of(snapshot: &Snapshot) -> Evidence {
    Evidence {
        type_rank: snapshot.type_rank,
        api_version: snapshot.api_version.clone(),
        from_read: snapshot.from_read,
        previous_attributes: snapshot.previous_attributes.clone(),
        precedes: None,
        crowded: false,
    }
}

/// Makes the snapshot the only one of its key.
fn install(object: &mut StoredObject, snapshot: &Snapshot, text: &Arc<str>) {
    object.object_type.clone_from(&snapshot.object_type);
    object.winner = Some(Winner {
        terminal: snapshot.terminal,
        as_of: snapshot.as_of,
        event_id: snapshot.event_id.clone(),
        evidence: evidence_of(snapshot),
        names_owner: snapshot.owner_id.is_some(),
        object: Some(text.clone()),
    });
    object.owner_id.clone_from(&snapshot.owner_id);
    object.fact.clone_from(&snapshot.fact);
    object.contenders.clear();
    object.ambiguous = false;
}

/// Adds the snapshot to those that share the winner's key and settles anew who wins. Returns whether anything changed, and
/// whether the snapshot leads (is the winner, or equals it).
fn join(object: &mut StoredObject, snapshot: &Snapshot, text: &Arc<str>) -> (bool, bool) {
    let Some(winner) = object.winner.take() else { return (false, false) };
    if winner.event_id == snapshot.event_id || object.contenders.iter().any(|c| c.event_id == snapshot.event_id) {
        let leads = winner.event_id == snapshot.event_id;
        object.winner = Some(winner);
        return (false, leads);
    }
    let (terminal, as_of, crowded) = (winner.terminal, winner.as_of, winner.evidence.crowded);
    let mut all = std::mem::take(&mut object.contenders);
    let reigning = Contender {
        event_id: winner.event_id,
        evidence: winner.evidence,
        owner_id: if winner.names_owner { object.owner_id.take() } else { None },
        object: winner.object.unwrap_or_else(|| Arc::from("{}")),
        fact: object.fact.take(),
    };
    // They are kept in the order of their ids.
    all.insert(all.partition_point(|contender| contender.event_id < reigning.event_id), reigning);
    let newcomer = all.partition_point(|contender| contender.event_id < snapshot.event_id);
    all.insert(
        newcomer,
        Contender {
            event_id: snapshot.event_id.clone(),
            evidence: evidence_of(snapshot),
            owner_id: snapshot.owner_id.clone(),
            object: text.clone(),
            fact: snapshot.fact.clone(),
        },
    );
    if crowded || all.len() >= CROWD {
        let chosen = Contest::new(&all).greatest();
        crown(object, all, chosen, (terminal, as_of));
        object.contenders.clear();
        object.ambiguous = true;
        object.winner.iter_mut().for_each(|winner| winner.evidence.crowded = true);
        (!crowded || chosen == newcomer, chosen == newcomer)
    } else {
        let contest = Contest::new(&all);
        let decision = contest.decide(newcomer);
        let leads = newcomer == decision.winner || contest.shows_the_same(newcomer, decision.winner);
        for (contender, precedes) in all.iter_mut().zip(decision.precedes.into_iter().flatten()) {
            contender.evidence.precedes = Some(precedes);
        }
        crown(object, all, decision.winner, (terminal, as_of));
        object.ambiguous = decision.ambiguous;
        (true, leads)
    }
}

/// Makes one of the contenders the winner; the others stay contenders.
fn crown(object: &mut StoredObject, mut all: Vec<Contender>, chosen: usize, (terminal, as_of): (bool, DateTime<Utc>)) {
    let chosen = all.remove(chosen);
    object.winner = Some(Winner {
        terminal,
        as_of,
        event_id: chosen.event_id,
        evidence: chosen.evidence,
        names_owner: chosen.owner_id.is_some(),
        object: Some(chosen.object),
    });
    object.owner_id = chosen.owner_id;
    object.fact = chosen.fact;
    object.contenders = all;
}

/// Whether the snapshot is about to win and names the owner itself, so that nobody else has to be asked.
fn speaks_alone(object: &StoredObject, snapshot: &Snapshot) -> bool {
    let supersedes = |winner: &Winner| (winner.terminal, winner.as_of) < (snapshot.terminal, snapshot.as_of);
    snapshot.object.is_some()
        && snapshot.owner_id.is_some()
        && object.owner_evidence.is_none()
        && object.winner.as_ref().is_none_or(supersedes)
}

/// The greatest snapshot that names an owner, among all that are known.
fn best_naming(object: &StoredObject, snapshot: &Snapshot) -> Option<OwnerEvidence> {
    let naming = |terminal, as_of, event_id: &str, owner_id: &Option<String>| {
        owner_id.as_ref().map(|owner_id| OwnerEvidence { terminal, as_of, event_id: event_id.into(), owner_id: owner_id.clone() })
    };
    let own = naming(snapshot.terminal, snapshot.as_of, &snapshot.event_id, &snapshot.owner_id);
    let Some(winner) = &object.winner else { return own.max(object.owner_evidence.clone()) };
    let of_winner =
        if winner.names_owner { naming(winner.terminal, winner.as_of, &winner.event_id, &object.owner_id) } else { None };
    let of_contenders = object.contenders.iter().map(|c| naming(winner.terminal, winner.as_of, &c.event_id, &c.owner_id)).max();
    own.max(object.owner_evidence.clone()).max(of_winner).max(of_contenders.flatten())
}

/// The owner is the winner's, else that of the greatest snapshot that names one. Returns whether anything changed.
fn settle_owner(object: &mut StoredObject, naming: Option<OwnerEvidence>) -> bool {
    let named_by_winner = object.winner.as_ref().is_some_and(|winner| winner.names_owner);
    let mut changed = false;
    if !named_by_winner {
        let owner_id = naming.as_ref().map(|evidence| &evidence.owner_id);
        if object.owner_id.as_ref() != owner_id {
            object.owner_id = owner_id.cloned();
            changed = true;
        }
    }
    let evidence = naming.filter(|evidence| !named_by_winner || outlasts_winner(object, evidence));
    changed |= object.owner_evidence != evidence;
    object.owner_evidence = evidence;
    changed
}

/// Whether the evidence has to be kept beside a winner that names the owner itself: a deletion never competes for the
/// object, so its key can be the greater one.
fn outlasts_winner(object: &StoredObject, evidence: &OwnerEvidence) -> bool {
    object.winner.as_ref().is_none_or(|winner| {
        (evidence.terminal, evidence.as_of) >= (winner.terminal, winner.as_of)
            && winner.event_id != evidence.event_id
            && object.contenders.iter().all(|contender| contender.event_id != evidence.event_id)
    })
}

fn is_clerk_user(object: &StoredObject) -> bool {
    object.key.provider == Provider::Clerk && object.object_type == "user"
}

/// A deleted person's object keeps the id, `created_at` and the claimed customer, also in snapshots that come later.
fn forget_person(object: &mut StoredObject) {
    let id = object.key.object_id.clone();
    let reduce = |fact: &mut Option<Arc<Fact>>| -> Arc<str> {
        let (created_at, stripe_customer_id) = match fact.as_deref() {
            Some(Fact::ClerkUser(user)) => (user.created_at, user.stripe_customer_id.clone()),
            _ => (None, None),
        };
        let text = json!({
            "id": id, "object": "user", "created_at": created_at.map(|at| at.timestamp_millis()),
            "private_metadata": {"stripe_customer_id": stripe_customer_id},
        });
        *fact = Some(Arc::new(Fact::ClerkUser(ClerkUser { created_at, stripe_customer_id, ..ClerkUser::default() })));
        text.to_string().into()
    };
    if let Some(winner) = &mut object.winner {
        winner.object = Some(reduce(&mut object.fact));
    }
    for contender in &mut object.contenders {
        contender.object = reduce(&mut contender.fact);
    }
    let same = object.contenders.iter().all(|contender| contender.fact == object.fact);
    object.ambiguous = object.ambiguous && !same;
}

#[cfg(test)]
mod tests;
