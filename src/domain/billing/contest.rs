//! Who wins among the snapshots of one object that share one second. Stripe sends with every `*.updated` what the changed
//! attributes were before (`previous_attributes`), which orders most bursts; where it does not, the type of the event and
//! the progress of the object decide, and the provider is asked.

mod leaves;

use std::cell::OnceCell;

use self::leaves::{holds, same, same_with};
use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::Contender;
use crate::domain::event::TypeRank;
use crate::domain::json_text::{Document, Value};

/// Up to this many contenders every ordering is tried (720 of them); a second with more is settled by rank.
const MOST_TO_ORDER: usize = 6;

/// The contenders of one object. Their texts are parsed when a comparison asks for them, which most never do.
#[derive(Debug)]
pub struct Contest<'a> {
    candidates: Vec<Candidate<'a>>,
}

/// The outcome of a contest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Index of the winner.
    pub winner: usize,
    /// Whether it won only because something has to: the provider knows better.
    pub ambiguous: bool,
    /// Which contenders precede another one; told only when there are too many to try every ordering, and from then on true
    /// for good.
    pub precedes: Option<Vec<bool>>,
}

impl<'a> Contest<'a> {
    /// `contenders` is not empty and sorted by event id.
    pub fn new(contenders: &'a [Contender]) -> Contest<'a> {
        Contest { candidates: contenders.iter().map(Candidate::new).collect() }
    }

    /// Decides. The newcomer is the contender that joined last: of the others it is known which precede one another, if
    /// there were too many to order before.
    pub fn decide(&self, newcomer: usize) -> Decision {
        if self.candidates.len() > MOST_TO_ORDER {
            let precedes = self.precedes_by_now(newcomer);
            return Decision { precedes: Some(precedes.clone()), ..self.by_rank(&precedes) };
        }
        for immediately in [true, false] {
            let last = self.endings(immediately);
            let Some(&winner) = last.last() else { continue };
            if last.iter().all(|&index| self.shows_the_same(index, winner)) {
                return Decision { winner, ambiguous: false, precedes: None };
            }
            break;
        }
        self.by_rank(&(0..self.candidates.len()).map(|index| self.precedes_another(index)).collect::<Vec<_>>())
    }

    /// The one with the greatest (type rank, progress, event id), whatever precedes what.
    pub fn greatest(&self) -> usize {
        let candidates = self.candidates.iter().enumerate();
        candidates.max_by(|(_, a), (_, b)| a.order().cmp(&b.order())).map_or(0, |(index, _)| index)
    }

    /// Whether two contenders show the same object.
    pub fn shows_the_same(&self, a: usize, b: usize) -> bool {
        let (Some(a), Some(b)) = (self.candidates.get(a), self.candidates.get(b)) else { return false };
        a.shows_the_same(b)
    }

    fn precedes_another(&self, index: usize) -> bool {
        let candidate = &self.candidates[index];
        self.candidates.iter().enumerate().any(|(other, later)| other != index && candidate.precedes(later))
    }

    /// Which contenders precede another one, from what is known of those before the newcomer. So the newcomer is compared
    /// with each of the others, and they are not compared with one another again.
    fn precedes_by_now(&self, newcomer: usize) -> Vec<bool> {
        let candidates = self.candidates.iter().enumerate();
        candidates
            .map(|(index, candidate)| match candidate.contender.evidence.precedes {
                Some(known) if index != newcomer => known || candidate.precedes(&self.candidates[newcomer]),
                _ => self.precedes_another(index),
            })
            .collect()
    }

    /// The indexes at which a complete ordering can end, ascending.
    fn endings(&self, immediately: bool) -> Vec<usize> {
        let candidates = &self.candidates;
        let count = candidates.len();
        // follows[i] holds those that may follow i, as bits.
        let mut follows = [0u8; MOST_TO_ORDER];
        for (i, a) in candidates.iter().enumerate() {
            for (j, b) in candidates.iter().enumerate() {
                if i != j && a.may_be_followed_by(b, immediately) {
                    follows[i] |= 1 << j;
                }
            }
        }
        // reachable[set] holds the ends of the orderings of exactly that set, as bits.
        let mut reachable = [0u8; 1 << MOST_TO_ORDER];
        for index in 0..count {
            reachable[1 << index] = 1 << index;
        }
        for set in 1..(1usize << count) {
            let ends = reachable[set];
            for end in (0..count).filter(|end| ends & (1 << end) != 0) {
                for next in (0..count).filter(|next| set & (1 << next) == 0 && follows[end] & (1 << next) != 0) {
                    reachable[set | (1 << next)] |= 1 << next;
                }
            }
        }
        let complete = reachable[(1 << count) - 1];
        (0..count).filter(|index| complete & (1 << index) != 0).collect()
    }

    /// The greatest (type rank, progress, event id) among those that precede none; among all, if every one does.
    fn by_rank(&self, precedes: &[bool]) -> Decision {
        let every_one = precedes.iter().all(|precedes| *precedes);
        let standing = || self.candidates.iter().enumerate().filter(|(index, _)| every_one || !precedes[*index]);
        let greatest = standing().max_by(|(_, a), (_, b)| a.order().cmp(&b.order()));
        let Some((winner, winning)) = greatest else { return Decision { winner: 0, ambiguous: false, precedes: None } };
        let ambiguous =
            standing().any(|(_, other)| other.rank() == winning.rank() && other.contender.fact != winning.contender.fact);
        Decision { winner, ambiguous, precedes: None }
    }
}

/// A contender, read as far as was asked for.
#[derive(Debug)]
struct Candidate<'a> {
    contender: &'a Contender,
    /// `None` only for text that is not JSON, which nobody writes into the contenders.
    object: OnceCell<Option<Document<'a>>>,
    /// Its `previous_attributes`; `None` when it has none.
    previous: OnceCell<Option<Document<'a>>>,
    /// Whether it differs from what it says it was before.
    changed_something: OnceCell<bool>,
    progress: (u8, i64),
}

impl<'a> Candidate<'a> {
    fn new(contender: &'a Contender) -> Candidate<'a> {
        Candidate {
            contender,
            object: OnceCell::new(),
            previous: OnceCell::new(),
            changed_something: OnceCell::new(),
            progress: contender.fact.as_deref().map_or((0, 0), progress),
        }
    }

    fn object(&self) -> Option<Value<'_>> {
        self.object.get_or_init(|| Document::parse(&self.contender.object).ok()).as_ref().map(Document::root)
    }

    fn previous(&self) -> Option<Value<'_>> {
        let parse = || Document::parse(self.contender.evidence.previous_attributes.as_ref()?.as_str()).ok();
        self.previous.get_or_init(parse).as_ref().map(Document::root).filter(|previous| previous.members().next().is_some())
    }

    fn type_rank(&self) -> TypeRank {
        self.contender.evidence.type_rank
    }

    fn rank(&self) -> (TypeRank, (u8, i64)) {
        (self.type_rank(), self.progress)
    }

    fn order(&self) -> impl Ord + use<'a> {
        (self.rank(), self.contender.event_id.as_str())
    }

    fn may_precede(&self, later: &Candidate<'_>) -> bool {
        self.type_rank() != TypeRank::Deleted
            && later.type_rank() != TypeRank::Created
            && self.contender.evidence.api_version == later.contender.evidence.api_version
    }

    /// Whether `later` says that it changed a state in which its changed attributes had this one's values.
    fn precedes(&self, later: &Candidate<'_>) -> bool {
        let Some(previous) = later.previous().filter(|_| self.may_precede(later)) else { return false };
        holds(self.object(), previous) && *later.changed_something.get_or_init(|| !holds(later.object(), previous))
    }

    /// Whether `later`, with what it changed put back, is this one.
    fn immediately_precedes(&self, later: &Candidate<'_>) -> bool {
        self.precedes(later) && later.previous().is_some_and(|previous| same_with(later.object(), previous, self.object()))
    }

    /// What an ordering asks of two neighbours. Without `previous_attributes` a snapshot may only follow an equal object.
    fn may_be_followed_by(&self, later: &Candidate<'_>, immediately: bool) -> bool {
        if later.previous().is_none() {
            self.may_precede(later) && self.shows_the_same(later)
        } else if immediately {
            self.immediately_precedes(later)
        } else {
            self.precedes(later)
        }
    }

    /// What is decoded of an object is a function of it: where that differs, there is no need to compare the rest.
    fn shows_the_same(&self, other: &Candidate<'_>) -> bool {
        self.contender.object == other.contender.object
            || self.contender.fact == other.contender.fact && same(self.object(), other.object())
    }
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
