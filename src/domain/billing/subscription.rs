//! What a Stripe subscription says of its customer's plan, dates and next plan, and which of several subscriptions counts.
//! The provider's fields arrive decoded; nothing here knows a format.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use crate::domain::billing::customer_facts::{CustomerFacts, Known};
use crate::domain::billing::facts::{Price, Subscription, SubscriptionItem, SubscriptionSchedule};
use crate::domain::billing::plan::{Catalog, FREE, Plan};

/// A subscription's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Incomplete,
    IncompleteExpired,
    Trialing,
    Active,
    PastDue,
    Canceled,
    Unpaid,
    Paused,
    /// A string that is not among Stripe's documented ones.
    Unknown,
}

impl Status {
    /// Reads Stripe's string.
    pub fn parse(text: &str) -> Status {
        match text {
            "incomplete" => Status::Incomplete,
            "incomplete_expired" => Status::IncompleteExpired,
            "trialing" => Status::Trialing,
            "active" => Status::Active,
            "past_due" => Status::PastDue,
            "canceled" => Status::Canceled,
            "unpaid" => Status::Unpaid,
            "paused" => Status::Paused,
            _ => Status::Unknown,
        }
    }

    /// Whether a subscription of that status has not ended.
    pub fn is_live(self) -> bool {
        !matches!(self, Status::Canceled | Status::IncompleteExpired)
    }

    /// Whether the plan's limits and features are in force. An unknown status gets the benefit of the doubt, as past_due
    /// does: taking a paying customer's plan away is worse than leaving it a while.
    pub fn grants_plan(self) -> bool {
        matches!(self, Status::Trialing | Status::Active | Status::PastDue | Status::Unknown)
    }

    /// Smaller is preferred as the primary subscription.
    fn rank(self) -> u8 {
        match self {
            Status::Active | Status::Trialing => 0,
            Status::PastDue | Status::Unknown => 1,
            Status::Unpaid => 2,
            Status::Paused => 3,
            Status::Incomplete => 4,
            Status::Canceled => 5,
            Status::IncompleteExpired => 6,
        }
    }
}

/// A subscription among the facts of its customer.
#[derive(Clone, Copy, Debug)]
pub struct StripeSubscription<'a> {
    pub id: &'a str,
    pub fact: &'a Subscription,
    pub customer: &'a CustomerFacts,
    pub ambiguous: bool,
    /// `canceled` for what a deleted customer had running.
    pub status: Status,
    /// The item whose plan it is, else the first.
    pub item: Option<&'a SubscriptionItem>,
    /// `None`: no price of it is in the catalog.
    pub plan: Option<&'a Plan>,
}

impl<'a> StripeSubscription<'a> {
    /// Reads a customer's subscription.
    pub fn new(customer: &'a CustomerFacts, known: &'a Known<Subscription>, catalog: &'a Catalog) -> StripeSubscription<'a> {
        let fact = &known.fact;
        let parsed = Status::parse(&fact.status);
        let status = if customer.deleted_at.is_some() && parsed.is_live() { Status::Canceled } else { parsed };
        let chosen = choose_item(&fact.items, |item| &item.price, catalog);
        StripeSubscription {
            id: &known.object_id,
            fact,
            customer,
            ambiguous: known.ambiguous,
            status,
            item: chosen.map(|(item, _)| item).or(fact.items.first()),
            plan: chosen.map(|(_, plan)| plan),
        }
    }

    /// The status as the application's row has it: verbatim, unless the customer's deletion ended it.
    pub fn status_text(&self) -> &'a str {
        if self.status == Status::Canceled { "canceled" } else { &self.fact.status }
    }

    /// When it ended; the customer's deletion ends what was live.
    pub fn ended_at(&self) -> Option<DateTime<Utc>> {
        let ended_by_deletion = self.status == Status::Canceled && Status::parse(&self.fact.status).is_live();
        if ended_by_deletion { self.customer.deleted_at } else { self.fact.ended_at }
    }

    /// The end of the current period: the chosen item's, else the subscription's.
    pub fn period_end(&self) -> Option<DateTime<Utc>> {
        self.item.and_then(|item| item.current_period_end).or(self.fact.current_period_end)
    }

    /// When it ended or will end.
    pub fn cancel_date(&self) -> Option<DateTime<Utc>> {
        if let Some(ended_at) = self.ended_at() {
            return Some(ended_at);
        }
        if self.status == Status::Canceled && self.fact.canceled_at.is_some() {
            return self.fact.canceled_at;
        }
        if self.fact.cancel_at.is_some() || !self.fact.cancel_at_period_end {
            return self.fact.cancel_at;
        }
        let earliest = self.fact.items.iter().filter_map(|item| item.current_period_end).min();
        earliest.or(self.fact.current_period_end)
    }

    /// When it is charged next.
    pub fn renewal_date(&self) -> Option<DateTime<Utc>> {
        use Status::{Canceled, Incomplete, IncompleteExpired, Paused};
        if matches!(self.status, Incomplete | IncompleteExpired | Canceled | Paused) {
            return None;
        }
        let period_end = self.period_end();
        let renewal = if self.status == Status::Trialing { self.fact.trial_end.or(period_end) } else { period_end };
        // A cancellation is compared with the period's end; a snapshot that lacks it leaves the renewal itself.
        let last = period_end.or(renewal);
        let ends_first = matches!((self.cancel_date(), last), (Some(cancel), Some(last)) if cancel <= last);
        if ends_first { None } else { renewal }
    }

    /// Where usage months are counted from; `None`: from the sign-up.
    pub fn usage_anchor(&self) -> Option<DateTime<Utc>> {
        match self.status {
            Status::Trialing => self.fact.trial_start,
            Status::Active | Status::PastDue => self.fact.billing_cycle_anchor,
            _ => None,
        }
    }

    /// Whether the provider has been told to end it.
    fn is_cancel_scheduled(&self) -> bool {
        self.fact.cancel_at.is_some() || self.fact.cancel_at_period_end
    }

    /// The plan that follows the one in force, when it is known to change. An unmapped price announces nothing: it is told
    /// when it takes effect.
    pub fn next_plan(&self, current_plan: &str, catalog: &'a Catalog, now: DateTime<Utc>) -> Option<&'a str> {
        let pending = self.fact.pending_update.as_ref().filter(|update| update.expires_at.is_none_or(|at| now < at));
        let pending = pending.and_then(|update| choose_item(&update.items, |item| &item.price, catalog));
        let scheduled = || {
            let phase = self.active_schedule().and_then(|schedule| next_phase(schedule, now));
            phase.and_then(|(_, prices)| choose_item(prices, |price| price, catalog)).map(|(_, plan)| plan)
        };
        let differs = |plan: &&'a Plan| plan.plan_key != current_plan;
        pending
            .map(|(_, plan)| plan)
            .filter(differs)
            .or_else(|| scheduled().filter(differs))
            .map(|plan| plan.plan_key.as_str())
            .or_else(|| self.is_cancel_scheduled().then_some(FREE))
    }

    /// The schedules that could change it.
    pub fn schedules(&self) -> impl Iterator<Item = &'a Known<SubscriptionSchedule>> {
        let id = self.id;
        self.customer.schedules.values().filter(move |s| s.fact.subscription.as_deref() == Some(id))
    }

    /// When its next plan may change by itself: the pending update's expiry, the start of the next phase.
    pub fn next_plan_changes(&self, now: DateTime<Utc>) -> [Option<DateTime<Utc>>; 2] {
        let expiry = self.fact.pending_update.as_ref().and_then(|update| update.expires_at);
        let phase = self.active_schedule().and_then(|schedule| next_phase(schedule, now)).map(|(start, _)| start);
        [expiry, phase]
    }

    fn active_schedule(&self) -> Option<&'a SubscriptionSchedule> {
        let active = self.schedules().filter(|s| s.fact.status == "active");
        active.min_by_key(|s| (Reverse(s.fact.created), s.object_id.as_str())).map(|s| &s.fact)
    }

    /// Least: the primary one.
    fn order(&self) -> impl Ord + use<'a> {
        (
            !self.status.is_live(),
            self.plan.is_none(),
            self.status.rank(),
            Reverse(self.plan.map(|plan| plan.display_order)),
            self.status != Status::Active,
            Reverse(self.fact.created),
            self.id,
        )
    }
}

/// The subscription that decides the user's plan: a live one before a dead one, whatever came last.
pub fn find_primary<'s, 'a>(subscriptions: &'s [StripeSubscription<'a>]) -> Option<&'s StripeSubscription<'a>> {
    subscriptions.iter().min_by(|a, b| a.order().cmp(&b.order()))
}

/// The first phase that starts after `now`, by its start.
fn next_phase(schedule: &SubscriptionSchedule, now: DateTime<Utc>) -> Option<(DateTime<Utc>, &[Price])> {
    let later = schedule.phases.iter().filter_map(|phase| Some((phase.start_date?, phase.prices.as_slice())));
    later.filter(|(start, _)| *start > now).min_by_key(|(start, _)| *start)
}

/// The item whose plan stands for all: of those in the catalog the one with the highest `display_order`, then the first.
fn choose_item<'a, T>(items: &'a [T], price: impl Fn(&T) -> &Price, catalog: &'a Catalog) -> Option<(&'a T, &'a Plan)> {
    let mapped = items.iter().filter_map(|item| Some((item, catalog.find_by_price(price(item))?)));
    mapped.min_by_key(|(_, plan)| Reverse(plan.display_order))
}
