//! Who wins among the snapshots of one object that share one second. Stripe sends with every `*.updated` what the changed
//! attributes were before (`previous_attributes`), which orders most bursts; where it does not, the type of the event and
//! the progress of the object decide, and the provider is asked.

use serde_json::{Map, Value};

use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::Contender;
use crate::domain::event::TypeRank;

/// Up to this many contenders every ordering is tried (720 of them); a second with more is settled by rank.
const MOST_TO_ORDER: usize = 6;

/// A contender, parsed for comparison.
#[derive(Debug)]
pub struct Candidate<'a> {
    contender: &'a Contender,
    object: Value,
    /// The leaves of its `previous_attributes`; empty when it has none.
    previous: Vec<(Vec<&'a str>, &'a Value)>,
    progress: (u8, i64),
}

/// The outcome of a contest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Index of the winner.
    pub winner: usize,
    /// Whether it won only because something has to: the provider knows better.
    pub ambiguous: bool,
}

impl<'a> Candidate<'a> {
    /// Parses a contender. Text that is not JSON compares as null: it came from our own table, so it is JSON.
    pub fn new(contender: &'a Contender) -> Candidate<'a> {
        let mut previous = Vec::new();
        if let Some(Value::Object(map)) = contender.evidence.previous_attributes.as_deref() {
            collect_leaves(map, &mut Vec::new(), &mut previous);
        }
        Candidate {
            contender,
            object: serde_json::from_str(&contender.object).unwrap_or(Value::Null),
            previous,
            progress: contender.fact.as_deref().map_or((0, 0), progress),
        }
    }

    fn rank(&self) -> TypeRank {
        self.contender.evidence.type_rank
    }

    fn may_precede(&self, later: &Candidate<'_>) -> bool {
        self.rank() != TypeRank::Deleted
            && later.rank() != TypeRank::Created
            && self.contender.evidence.api_version == later.contender.evidence.api_version
    }

    /// Whether `later` says that it changed a state in which its changed attributes had this one's values.
    fn precedes(&self, later: &Candidate<'_>) -> bool {
        self.may_precede(later)
            && !later.previous.is_empty()
            && later.previous.iter().all(|(path, value)| same(at(&self.object, path), value))
            && later.previous.iter().any(|(path, value)| !same(at(&later.object, path), value))
    }

    /// Whether `later`, with what it changed put back, is this one.
    fn immediately_precedes(&self, later: &Candidate<'_>) -> bool {
        if !self.precedes(later) {
            return false;
        }
        let mut before = later.object.clone();
        if let (Value::Object(object), Some(Value::Object(previous))) =
            (&mut before, later.contender.evidence.previous_attributes.as_deref())
        {
            put_back(object, previous);
        }
        same(&before, &self.object)
    }

    /// What an ordering asks of two neighbours. Without `previous_attributes` a snapshot may only follow an equal object.
    fn may_be_followed_by(&self, later: &Candidate<'_>, immediately: bool) -> bool {
        if later.previous.is_empty() {
            self.may_precede(later) && same(&self.object, &later.object)
        } else if immediately {
            self.immediately_precedes(later)
        } else {
            self.precedes(later)
        }
    }
}

/// Whether two snapshots show the same object.
pub fn equal_objects(a: &Candidate<'_>, b: &Candidate<'_>) -> bool {
    same(&a.object, &b.object)
}

/// Decides. `candidates` is not empty and sorted by event id.
pub fn decide(candidates: &[Candidate<'_>]) -> Decision {
    if candidates.len() <= MOST_TO_ORDER {
        for immediately in [true, false] {
            let last = endings(candidates, immediately);
            let Some(&winner) = last.last() else { continue };
            if last.iter().all(|&index| equal_objects(&candidates[index], &candidates[winner])) {
                return Decision { winner, ambiguous: false };
            }
            break;
        }
    }
    by_rank(candidates)
}

/// The indexes at which a complete ordering can end, ascending.
fn endings(candidates: &[Candidate<'_>], immediately: bool) -> Vec<usize> {
    let count = candidates.len();
    let follows: Vec<Vec<bool>> = candidates
        .iter()
        .enumerate()
        .map(|(i, a)| candidates.iter().enumerate().map(|(j, b)| i != j && a.may_be_followed_by(b, immediately)).collect())
        .collect();
    // reachable[set] holds the ends of the orderings of exactly that set, as bits.
    let mut reachable = vec![0u8; 1 << count];
    for index in 0..count {
        reachable[1 << index] = 1 << index;
    }
    for set in 1..(1usize << count) {
        let ends = reachable[set];
        for end in (0..count).filter(|end| ends & (1 << end) != 0) {
            for next in (0..count).filter(|next| set & (1 << next) == 0 && follows[end][*next]) {
                reachable[set | (1 << next)] |= 1 << next;
            }
        }
    }
    let complete = reachable.last().copied().unwrap_or(0);
    (0..count).filter(|index| complete & (1 << index) != 0).collect()
}

/// The greatest (type rank, progress, event id) among those that precede none.
fn by_rank(candidates: &[Candidate<'_>]) -> Decision {
    let precedes_none: Vec<usize> = (0..candidates.len())
        .filter(|&i| !candidates.iter().enumerate().any(|(j, later)| i != j && candidates[i].precedes(later)))
        .collect();
    let standing = if precedes_none.is_empty() { (0..candidates.len()).collect() } else { precedes_none };
    let rank = |index: usize| (candidates[index].rank(), candidates[index].progress);
    let winner = standing.iter().copied().max_by(|&a, &b| {
        rank(a).cmp(&rank(b)).then_with(|| candidates[a].contender.event_id.cmp(&candidates[b].contender.event_id))
    });
    let winner = winner.unwrap_or(0);
    let ambiguous = standing
        .iter()
        .any(|&index| rank(index) == rank(winner) && candidates[index].contender.fact != candidates[winner].contender.fact);
    Decision { winner, ambiguous }
}

/// How far an object has come in its life. Invoice events carry no `previous_attributes`: without this nearly every
/// checkout would look ambiguous.
fn progress(fact: &Fact) -> (u8, i64) {
    match fact {
        Fact::Subscription(subscription) => (u8::from(subscription.status != "incomplete"), 0),
        Fact::Invoice(invoice) => {
            let status = match invoice.status.as_str() {
                "draft" => 0,
                "uncollectible" => 2,
                "paid" | "void" => 3,
                _ => 1,
            };
            (status, invoice.attempt_count)
        }
        Fact::CheckoutSession(session) => match session.status.as_str() {
            "complete" => (2, 0),
            "expired" => (1, 0),
            _ => (0, 0),
        },
        Fact::ClerkItem(item) => match item.status.as_str() {
            "upcoming" | "incomplete" => (0, 0),
            "past_due" => (2, 0),
            "canceled" => (3, 0),
            "ended" | "abandoned" | "expired" => (4, 0),
            _ => (1, 0),
        },
        _ => (0, 0),
    }
}

/// A leaf is a scalar, an array as a whole, or an empty object.
fn collect_leaves<'a>(map: &'a Map<String, Value>, path: &mut Vec<&'a str>, leaves: &mut Vec<(Vec<&'a str>, &'a Value)>) {
    for (name, value) in map {
        path.push(name);
        match value {
            Value::Object(inner) if !inner.is_empty() => collect_leaves(inner, path, leaves),
            leaf => leaves.push((path.clone(), leaf)),
        }
        path.pop();
    }
}

fn at<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

/// Equality in which absent is null and a number is its value, whatever its spelling.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(name, value)| same(value, b.get(name).unwrap_or(&Value::Null)))
                && b.iter().all(|(name, value)| a.contains_key(name) || value.is_null())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Number(x), Value::Number(y)) => x == y || (x.as_f64() == y.as_f64() && (x.is_f64() || y.is_f64())),
        _ => a == b,
    }
}

/// Merges the previous values into the object, leaf by leaf.
fn put_back(object: &mut Map<String, Value>, previous: &Map<String, Value>) {
    for (name, value) in previous {
        match (object.get_mut(name), value) {
            (Some(Value::Object(inner)), Value::Object(was)) if !was.is_empty() => put_back(inner, was),
            _ => {
                object.insert(name.clone(), value.clone());
            }
        }
    }
}
