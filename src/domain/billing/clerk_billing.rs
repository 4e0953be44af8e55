//! What Clerk Billing's subscription items say of a user's plan and trial. A default plan, which every user has, is no
//! subscription and takes no part here beside announcing that a user falls back to it.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use crate::domain::billing::customer_facts::{ClerkFacts, Known};
use crate::domain::billing::email_schedule::Message;
use crate::domain::billing::facts::{ClerkItem, ClerkItemTrial};
use crate::domain::billing::plan::{Catalog, FREE, Plan};
use crate::domain::billing::subscription::Status;
use crate::domain::billing::trial::Trial;

/// A subscription item of a plan that is not a default one.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    pub id: &'a str,
    pub fact: &'a ClerkItem,
    /// What it counts as at `now`; `None`: it does not count (not begun, or over).
    pub status: Option<Status>,
    /// `None`: the catalog does not know its slug.
    pub plan: Option<&'a Plan>,
}

/// A payer's items, as they count at an instant.
#[derive(Clone, Debug)]
pub struct ClerkBilling<'a> {
    facts: &'a ClerkFacts,
    items: Vec<Item<'a>>,
}

impl<'a> ClerkBilling<'a> {
    /// Reads a payer's items; `None` if there are none, not even of a default plan.
    pub fn new(facts: &'a ClerkFacts, catalog: &'a Catalog, now: DateTime<Utc>) -> Option<ClerkBilling<'a>> {
        if facts.items.is_empty() {
            return None;
        }
        let ours = facts.items.values().filter(|known| !known.fact.is_default_plan);
        let items = ours.map(|known| Item::new(known, catalog, now)).collect();
        Some(ClerkBilling { facts, items })
    }

    /// The items that are subscriptions, in the order of their ids.
    pub fn items(&self) -> &[Item<'a>] {
        &self.items
    }

    /// The item that decides, whether or not it counts.
    pub fn best(&self) -> Option<&Item<'a>> {
        self.items.iter().min_by(|a, b| a.order().cmp(&b.order()))
    }

    /// The plan that is to follow `current_plan`: the item that begins first. `Some(None)`: one begins, of the same plan.
    pub fn upcoming_plan(&self, current_plan: &str, catalog: &'a Catalog) -> Option<Option<&'a str>> {
        let upcoming = self.facts.items.values().filter(|known| known.fact.status == "upcoming");
        let mapped = upcoming.filter_map(|known| {
            let plan = find_plan(&known.fact, catalog);
            let default_key = known.fact.is_default_plan.then_some(FREE);
            Some((known, plan, plan.map(|plan| plan.plan_key.as_str()).or(default_key)?))
        });
        let first = mapped.min_by_key(|(known, plan, _)| {
            let start = known.fact.period_start;
            let order = Reverse(plan.map(|plan| plan.display_order));
            (start.is_none(), start, order, Reverse(known.fact.created_at), known.object_id.as_str())
        });
        first.map(|(_, _, key)| Some(key).filter(|key| *key != current_plan))
    }

    /// The trial of the best item, else of the newest item that had one.
    pub fn trial(&self) -> Option<Trial<'a>> {
        let of_best = self.best().and_then(|item| self.facts.trials.get(item.id));
        let created =
            |slot: &Known<ClerkItemTrial>| self.facts.items.get(&slot.fact.item_id).and_then(|known| known.fact.created_at);
        let newest = || self.facts.trials.values().min_by_key(|slot| (Reverse(created(slot)), &slot.fact.item_id));
        of_best.or_else(newest).map(|slot| self.trial_of(&slot.fact))
    }

    /// Where usage months are counted from while the best item is on trial; `None`: from the sign-up.
    pub fn usage_anchor(&self) -> Option<DateTime<Utc>> {
        let best = self.best().filter(|item| item.status == Some(Status::Trialing))?;
        self.facts.trials.get(best.id)?.fact.period_start
    }

    /// Whether the newest snapshot of anything read here is in doubt.
    pub fn is_ambiguous(&self) -> bool {
        let facts = self.facts;
        let mut paying = facts.attempts.values().filter(|a| a.fact.item_starts.keys().any(|id| facts.trials.contains_key(id)));
        facts.items.values().any(|known| known.ambiguous)
            || facts.trials.values().any(|known| known.ambiguous)
            || paying.any(|known| known.ambiguous)
    }

    /// When the items will mean something else by themselves.
    pub fn changes(&self) -> impl Iterator<Item = Option<DateTime<Utc>>> {
        self.items.iter().filter(|item| item.status.is_some()).map(|item| item.fact.period_end)
    }

    /// The latest end of an item that is over.
    pub fn last_end(&self) -> Option<DateTime<Utc>> {
        let over = self.items.iter().filter(|item| item.status.is_none() && item.fact.status != "upcoming");
        over.filter_map(|item| item.end_at()).max()
    }

    /// The messages about its trials and unpaid items; `trial` is the one that stands in the row, if it is Clerk's.
    pub fn add_messages(&self, messages: &mut Vec<Message>, trial: Option<(&str, &str)>) {
        for slot in self.facts.trials.values().map(|known| &known.fact) {
            let Some(trial_end) = slot.period_end else { continue };
            let status = trial.filter(|(subject, _)| *subject == slot.item_id).map(|(_, status)| status);
            let item = self.find(&slot.item_id);
            let trialing = status.is_some() && item.and_then(|item| item.status) == Some(Status::Trialing);
            messages.push(Message::trial_ending(&slot.item_id, trial_end, trialing));
            messages.push(Message::trial_ended(&slot.item_id, trial_end, status == Some("expired")));
        }
        for item in self.items.iter().filter(|item| item.status == Some(Status::PastDue)) {
            if let Some(past_due_at) = item.fact.past_due_at {
                messages.push(Message::payment_failed(item.id, past_due_at, true));
            }
        }
    }

    fn find(&self, item_id: &str) -> Option<&Item<'a>> {
        self.items.binary_search_by(|item| item.id.cmp(item_id)).ok().map(|index| &self.items[index])
    }

    fn trial_of(&self, slot: &'a ClerkItemTrial) -> Trial<'a> {
        let item = self.find(&slot.item_id);
        let converted_at = slot.period_end.and_then(|end| {
            let paid = self.facts.attempts.values().map(|known| &known.fact).filter(|attempt| attempt.status == "paid");
            let after = paid.filter_map(|attempt| {
                let start = *attempt.item_starts.get(&slot.item_id)?;
                (start >= end).then(|| attempt.paid_at.unwrap_or(start))
            });
            after.min()
        });
        Trial {
            subject: &slot.item_id,
            status: item.and_then(|item| item.status),
            start_at: slot.period_start,
            end_at: slot.period_end,
            ended_at: None,
            converted_at,
            // Clerk says when it was paid; silence means that it was not.
            converts_unseen: false,
        }
    }
}

impl<'a> Item<'a> {
    fn new(known: &'a Known<ClerkItem>, catalog: &'a Catalog, now: DateTime<Utc>) -> Item<'a> {
        let fact = &known.fact;
        Item { id: &known.object_id, fact, status: status_at(fact, now), plan: find_plan(fact, catalog) }
    }

    /// Whether its status is one that Clerk documents.
    pub fn has_known_status(&self) -> bool {
        let known = ["active", "past_due", "canceled", "incomplete", "upcoming", "abandoned", "expired", "ended"];
        known.contains(&self.fact.status.as_str())
    }

    /// Whether it never became more than an attempt to subscribe.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.fact.status.as_str(), "incomplete" | "abandoned")
    }

    fn end_at(&self) -> Option<DateTime<Utc>> {
        if self.fact.status == "canceled" {
            return self.fact.period_end.or(self.fact.canceled_at);
        }
        [self.fact.canceled_at, self.fact.period_end].into_iter().flatten().min().or(self.fact.created_at)
    }

    /// Least: the best one.
    fn order(&self) -> impl Ord + use<'a> {
        let rank = match self.status {
            Some(Status::Active | Status::Trialing) => 0,
            Some(Status::PastDue) => 1,
            Some(Status::Canceled) => 2,
            _ => 3,
        };
        let display_order = Reverse(self.plan.map(|plan| plan.display_order));
        (self.status.is_none(), self.plan.is_none(), rank, display_order, Reverse(self.fact.created_at), self.id)
    }
}

fn find_plan<'a>(fact: &ClerkItem, catalog: &'a Catalog) -> Option<&'a Plan> {
    fact.plan_slug.as_deref().and_then(|slug| catalog.find_by_clerk_slug(slug))
}

fn status_at(fact: &ClerkItem, now: DateTime<Utc>) -> Option<Status> {
    match fact.status.as_str() {
        "active" if fact.is_free_trial && fact.period_end.is_none_or(|end| now < end) => Some(Status::Trialing),
        "active" => Some(Status::Active),
        "past_due" => Some(Status::PastDue),
        "incomplete" => Some(Status::Incomplete),
        // What was paid for stays until the period ends. Without an end nothing says that it was paid for.
        "canceled" if fact.period_end.is_some_and(|end| now < end) => Some(Status::Canceled),
        _ => None,
    }
}
