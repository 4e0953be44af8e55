//! Who wins among the snapshots of one object that share one second. Stripe sends with every `*.updated` what the changed
//! attributes were before (`previous_attributes`), which orders most bursts; where it does not, the type of the event and
//! the progress of the object decide, and the provider is asked.

use serde_json::{Map, Value as Json};

use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::Contender;
use crate::domain::event::TypeRank;
use crate::domain::json_text::{Document, Kind, Value};

/// Up to this many contenders every ordering is tried (720 of them); a second with more is settled by rank.
const MOST_TO_ORDER: usize = 6;

/// A contender, parsed for comparison.
#[derive(Debug)]
pub struct Candidate<'a> {
    contender: &'a Contender,
    /// `None` only for text that is not JSON, which nobody writes into the contenders.
    object: Option<Document<'a>>,
    /// Its `previous_attributes`; empty when it has none.
    previous: Option<&'a Map<String, Json>>,
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
    /// Parses a contender.
    pub fn new(contender: &'a Contender) -> Candidate<'a> {
        Candidate {
            contender,
            object: Document::parse(&contender.object).ok(),
            previous: contender.evidence.previous_attributes.as_deref().and_then(Json::as_object).filter(|map| !map.is_empty()),
            progress: contender.fact.as_deref().map_or((0, 0), progress),
        }
    }

    fn object(&self) -> Option<Value<'_>> {
        self.object.as_ref().map(Document::root)
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
        let Some(previous) = later.previous.filter(|_| self.may_precede(later)) else { return false };
        holds(self.object(), previous) && !holds(later.object(), previous)
    }

    /// Whether `later`, with what it changed put back, is this one.
    fn immediately_precedes(&self, later: &Candidate<'_>) -> bool {
        self.precedes(later) && later.previous.is_some_and(|previous| same_with(later.object(), previous, self.object()))
    }

    /// What an ordering asks of two neighbours. Without `previous_attributes` a snapshot may only follow an equal object.
    fn may_be_followed_by(&self, later: &Candidate<'_>, immediately: bool) -> bool {
        if later.previous.is_none() {
            self.may_precede(later) && equal_objects(self, later)
        } else if immediately {
            self.immediately_precedes(later)
        } else {
            self.precedes(later)
        }
    }
}

/// Whether two snapshots show the same object.
pub fn equal_objects(a: &Candidate<'_>, b: &Candidate<'_>) -> bool {
    a.contender.object == b.contender.object || same(a.object(), b.object())
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

/// Whether the object has the value of every leaf of `previous`. A leaf is a scalar, an array as a whole, or an empty object.
fn holds(object: Option<Value<'_>>, previous: &Map<String, Json>) -> bool {
    previous.iter().all(|(name, was)| {
        let is = object.and_then(|object| object.get(name));
        match was {
            Json::Object(inner) if !inner.is_empty() => holds(is, inner),
            leaf => equals(is, leaf),
        }
    })
}

/// Whether `object`, with the leaves of `previous` put back, is `expected`.
fn same_with(object: Option<Value<'_>>, previous: &Map<String, Json>, expected: Option<Value<'_>>) -> bool {
    let put_back = previous.iter().all(|(name, was)| {
        let expected = expected.and_then(|expected| expected.get(name));
        match (object.and_then(|object| object.get(name)).filter(|is| is.is_object()), was) {
            (Some(is), Json::Object(inner)) if !inner.is_empty() => same_with(Some(is), inner, expected),
            _ => equals(expected, was),
        }
    });
    put_back && same_members(object, expected, |name| !previous.contains_key(name))
}

/// Equality in which absent is null and a number is its value, whatever its spelling.
fn same(a: Option<Value<'_>>, b: Option<Value<'_>>) -> bool {
    let (Some(a), Some(b)) = (present(a), present(b)) else { return present(a).is_none() && present(b).is_none() };
    if a.raw() == b.raw() {
        return true;
    }
    match (a.kind(), b.kind()) {
        (Kind::Object, Kind::Object) => same_members(Some(a), Some(b), |_| true),
        (Kind::Array, Kind::Array) => {
            let (mut a, mut b) = (a.elements(), b.elements());
            loop {
                match (a.next(), b.next()) {
                    (None, None) => return true,
                    (Some(a), Some(b)) if same(Some(a), Some(b)) => {}
                    _ => return false,
                }
            }
        }
        (Kind::String, Kind::String) => a.as_str() == b.as_str(),
        (Kind::Number, Kind::Number) => same_number(a.raw(), b.raw()),
        _ => false,
    }
}

/// Whether two objects have the same members among those that are asked for.
fn same_members(a: Option<Value<'_>>, b: Option<Value<'_>>, asked: impl Fn(&str) -> bool) -> bool {
    let every = |from: Option<Value<'_>>, to: Option<Value<'_>>| {
        from.into_iter().flat_map(Value::members).all(|(key, _)| {
            let name = key.as_str().unwrap_or_default();
            !asked(&name) || same(from.and_then(|from| from.get(&name)), to.and_then(|to| to.get(&name)))
        })
    };
    every(a, b) && every(b, a)
}

/// The same equality between a text's value and a parsed one.
fn equals(is: Option<Value<'_>>, was: &Json) -> bool {
    let Some(is) = present(is) else { return was.is_null() };
    match (is.kind(), was) {
        (Kind::Bool, Json::Bool(was)) => is.as_bool() == Some(*was),
        (Kind::Number, Json::Number(was)) => same_number(is.raw(), &was.to_string()),
        (Kind::String, Json::String(was)) => is.says(was),
        (Kind::Array, Json::Array(was)) => {
            let mut elements = is.elements();
            was.iter().all(|was| elements.next().is_some_and(|is| equals(Some(is), was))) && elements.next().is_none()
        }
        (Kind::Object, Json::Object(was)) => {
            was.iter().all(|(name, was)| equals(is.get(name), was))
                && is.members().all(|(key, value)| {
                    value.kind() == Kind::Null || key.as_str().is_some_and(|name| was.contains_key(name.as_ref()))
                })
        }
        _ => false,
    }
}

fn present(value: Option<Value<'_>>) -> Option<Value<'_>> {
    value.filter(|value| value.kind() != Kind::Null)
}

/// Whole numbers are compared exactly, others as doubles: jsonb spells `1e3` as `1000`.
fn same_number(a: &str, b: &str) -> bool {
    a == b
        || match (a.parse::<i64>(), b.parse::<i64>()) {
            (Ok(a), Ok(b)) => a == b,
            _ => matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a == b),
        }
}
