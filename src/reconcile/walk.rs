//! Reading everything that Stripe has, stage by stage and page by page, with a position that a restart goes on from.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::reconcile::absorb::Scope;
use crate::reconcile::customer::id_of;
use crate::reconcile::{Mode, ReconcileError, Reconciler, Report};
use crate::store::Customers;
use crate::stripe_api::{ApiError, Filter, Page, Resource};

/// Customers whose payment methods are listed at a time.
const CUSTOMERS_AT_A_TIME: i64 = 50;
/// Customers whose objects are looked up at a time on our side.
const CUSTOMERS_OF_A_LOOKUP: i64 = 1000;

/// A part of a reading, in the order in which they are read: who a customer is comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Everybody whom Clerk has.
    #[serde(rename = "clerk.user")]
    ClerkUsers,
    Products,
    Prices,
    Customers,
    Subscriptions,
    SubscriptionSchedules,
    PaymentMethods,
    Invoices,
    /// Those of any age that can still change.
    OpenInvoices,
    CheckoutSessions,
    PaymentIntents,
    /// Tells also of customers that were deleted, for as long as Stripe remembers.
    Events,
    /// Each linked customer by its id, in place of lists that cost more.
    OneByOne,
}

impl Stage {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Stage::ClerkUsers => "clerk.user",
            Stage::Products => "products",
            Stage::Prices => "prices",
            Stage::Customers => "customers",
            Stage::Subscriptions => "subscriptions",
            Stage::SubscriptionSchedules => "subscription-schedules",
            Stage::PaymentMethods => "payment-methods",
            Stage::Invoices => "invoices",
            Stage::OpenInvoices => "open-invoices",
            Stage::CheckoutSessions => "checkout-sessions",
            Stage::PaymentIntents => "payment-intents",
            Stage::Events => "events",
            Stage::OneByOne => "one-by-one",
        }
    }

    /// Whose API has it.
    pub fn provider(self) -> &'static str {
        if self == Stage::ClerkUsers { "Clerk" } else { "Stripe" }
    }

    /// What Stripe calls it; `None` for what is not Stripe's.
    fn resource(self) -> Option<Resource> {
        Some(match self {
            Stage::ClerkUsers | Stage::OneByOne => return None,
            Stage::Products => Resource::Products,
            Stage::Prices => Resource::Prices,
            Stage::Customers => Resource::Customers,
            Stage::Subscriptions => Resource::Subscriptions,
            Stage::SubscriptionSchedules => Resource::SubscriptionSchedules,
            Stage::PaymentMethods => Resource::PaymentMethods,
            Stage::Invoices | Stage::OpenInvoices => Resource::Invoices,
            Stage::CheckoutSessions => Resource::CheckoutSessions,
            Stage::PaymentIntents => Resource::PaymentIntents,
            Stage::Events => Resource::Events,
        })
    }

    /// Whether the rest can be read without it, for a key that may not read it.
    fn is_optional(self) -> bool {
        !matches!(self, Stage::ClerkUsers | Stage::Customers | Stage::Subscriptions)
    }
}

/// How a reading is done.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub stages: Vec<Stage>,
    pub mode: Mode,
    pub scope: Scope,
    pub customers: Customers,
    /// Only what was created since.
    pub since: Option<DateTime<Utc>>,
    /// Of what comes in large numbers and soon stops changing, only what was created since.
    pub recent_since: Option<DateTime<Utc>>,
    /// Under which name the position is kept.
    pub cursor: Option<&'static str>,
    /// How long what is read by customer is to take.
    pub spread_over: Option<Duration>,
    /// Pages of lists from which on the customers are asked for one by one instead.
    pub most_pages: Option<u64>,
}

/// How far a reading has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub stages: Vec<Stage>,
    pub since: Option<DateTime<Utc>>,
    pub started_at: DateTime<Utc>,
    pub stage: Stage,
    /// The last object of the stage that is done.
    pub after: Option<String>,
    pub objects: u64,
}

/// What a person is told while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub stage: Stage,
    /// Of all stages.
    pub objects: u64,
    /// Pages or customers of this stage that are read.
    pub done: u64,
    /// Those that are left, where that is known.
    pub left: Option<u64>,
    /// How long this stage has taken.
    pub stage_took: Duration,
}

/// Told after every page.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// A walk under way.
pub(super) struct Walking<'a> {
    pub walk: &'a Walk,
    pub position: Position,
    pub report: &'a mut Report,
    on_progress: OnProgress<'a>,
    stage_began: Instant,
    /// Pages or customers of the stage that are read.
    done: u64,
    /// Pages of lists that are read.
    pages: u64,
}

impl Walking<'_> {
    fn are_lists_too_dear(&self) -> bool {
        self.walk.most_pages.is_some_and(|most| self.pages > most)
    }

    fn begin(&mut self, stage: Stage) {
        if stage != self.position.stage {
            (self.position.stage, self.position.after) = (stage, None);
        }
        (self.stage_began, self.done) = (Instant::now(), 0);
    }

    pub(super) fn tell(&mut self, done: u64, left: Option<u64>) {
        self.done += done;
        (self.on_progress)(Progress {
            stage: self.position.stage,
            objects: self.position.objects,
            done: self.done,
            left,
            stage_took: self.stage_began.elapsed(),
        });
    }
}

impl Reconciler {
    /// Reads the stages from the stored position on, if it is one of the same reading that began after `not_before`.
    pub(super) async fn walk(
        &self,
        walk: &Walk,
        not_before: DateTime<Utc>,
        report: &mut Report,
        on_progress: OnProgress<'_>,
    ) -> Result<(), ReconcileError> {
        let Some(&first) = walk.stages.first() else { return Ok(()) };
        let stored: Option<Position> = match walk.cursor {
            Some(name) if walk.mode == Mode::Apply => self.store.find_cursor(name).await?,
            _ => None,
        };
        let fits = |position: &Position| {
            position.stages == walk.stages && position.since == walk.since && position.started_at >= not_before
        };
        let begin = || Position {
            stages: walk.stages.clone(),
            since: walk.since,
            started_at: self.clock.now(),
            stage: first,
            after: None,
            objects: 0,
        };
        let position = stored.filter(fits).unwrap_or_else(begin);
        let mut walking = Walking { walk, position, report, on_progress, stage_began: Instant::now(), done: 0, pages: 0 };
        let from = walking.position.stage;
        for &stage in walk.stages.iter().skip_while(|stage| **stage != from) {
            if walking.are_lists_too_dear() {
                break;
            }
            walking.begin(stage);
            match self.walk_stage(&mut walking, stage).await {
                Err(ReconcileError::Api(error @ ApiError::MissingScope { .. })) if stage.is_optional() => {
                    walking.report.problem(error.to_string());
                }
                walked => walked?,
            }
        }
        if walking.are_lists_too_dear() || from == Stage::OneByOne {
            walking.begin(Stage::OneByOne);
            self.walk_one_by_one(&mut walking).await?;
        }
        match walk.cursor {
            Some(name) if walk.mode == Mode::Apply => Ok(self.store.delete_cursor(name).await?),
            _ => Ok(()),
        }
    }

    async fn walk_stage(&self, walking: &mut Walking<'_>, stage: Stage) -> Result<(), ReconcileError> {
        match stage {
            Stage::ClerkUsers => self.walk_clerk_users(walking).await,
            Stage::PaymentMethods => self.walk_payment_methods(walking).await,
            Stage::OneByOne => self.walk_one_by_one(walking).await,
            Stage::Customers | Stage::Subscriptions if walking.walk.since.is_none() => {
                // What a list lacks shows at its end alone, so the stage is read in one go.
                walking.position.after = None;
                let listed = self.walk_pages(walking, stage).await?;
                if walking.are_lists_too_dear() {
                    return Ok(());
                }
                self.fetch_unlisted(walking, stage, &listed).await
            }
            _ => self.walk_pages(walking, stage).await.map(drop),
        }
    }

    /// Reads a list; returns the ids that it had. The next page is on its way while one is written.
    async fn walk_pages(&self, walking: &mut Walking<'_>, stage: Stage) -> Result<BTreeSet<String>, ReconcileError> {
        let (api, filter) = (self.stripe()?, filter_of(stage, walking.walk));
        let mut listed = BTreeSet::new();
        let Some(resource) = stage.resource() else { return Ok(listed) };
        let mut after = walking.position.after.clone();
        let mut page = match api.fetch_page(resource, &filter, after.as_deref()).await {
            // The object that the position names has gone meanwhile.
            Err(ApiError::Refused { status: 400, .. }) if after.take().is_some() => {
                api.fetch_page(resource, &filter, None).await?
            }
            page => page?,
        };
        loop {
            listed.extend(page.objects.iter().filter_map(id_of));
            let Page { objects, next } = page;
            let following = async {
                match next {
                    Some(next) => self.fetch_following(resource, &filter, after.clone(), next).await.map(Some),
                    None => Ok(None),
                }
            };
            walking.position.objects += objects.len() as u64;
            let written = async {
                if stage == Stage::Events {
                    self.take_events(objects, walking.walk.mode, walking.report).await
                } else {
                    self.absorb(objects, walking.walk.mode, walking.walk.scope, walking.report).await
                }
            };
            let (following, ()) = futures_util::future::try_join(following, written).await?;
            walking.tell(1, None);
            walking.pages += 1;
            let Some(following) = following else { return Ok(listed) };
            if walking.are_lists_too_dear() {
                return Ok(listed);
            }
            (page, after) = following;
            walking.position.after.clone_from(&after);
            self.keep_position(walking).await?;
        }
    }

    /// The page after `next`, and what it comes after. When that object has gone since the page was read that ended with it,
    /// that page once more: it ends with another object by now.
    async fn fetch_following(
        &self,
        resource: Resource,
        filter: &Filter,
        after: Option<String>,
        next: String,
    ) -> Result<(Page, Option<String>), ReconcileError> {
        let api = self.stripe()?;
        match api.fetch_page(resource, filter, Some(&next)).await {
            Err(error @ ApiError::Refused { status: 400, .. }) => {
                let page = api.fetch_page(resource, filter, after.as_deref()).await?;
                if page.next.as_ref() == Some(&next) { Err(error.into()) } else { Ok((page, after)) }
            }
            page => Ok((page?, Some(next))),
        }
    }

    async fn walk_payment_methods(&self, walking: &mut Walking<'_>) -> Result<(), ReconcileError> {
        let (which, mode) = (walking.walk.customers, walking.walk.mode);
        let mut left = self.store.count_customers(which).await?;
        let pause = pause_between(left.div_ceil(CUSTOMERS_AT_A_TIME.unsigned_abs()), walking.walk);
        loop {
            let after = walking.position.after.clone().unwrap_or_default();
            let customers = self.store.list_customers(which, &after, CUSTOMERS_AT_A_TIME).await?;
            let Some(last) = customers.last() else { return Ok(()) };
            let began = Instant::now();
            let lists = customers
                .iter()
                .filter(|id| is_customer(id))
                .map(|customer| self.list_of_customer(Resource::PaymentMethods, customer));
            let reads: Vec<_> = futures_util::future::try_join_all(lists).await?.into_iter().flatten().collect();
            walking.position.objects += reads.len() as u64;
            let scope = walking.walk.scope;
            self.absorb_list(Resource::PaymentMethods, &customers, reads, mode, scope, walking.report).await?;
            walking.position.after = Some(last.clone());
            self.keep_position(walking).await?;
            left = left.saturating_sub(customers.len() as u64);
            walking.tell(customers.len() as u64, Some(left));
            if let Some(pause) = pause {
                tokio::time::sleep_until(began + pause).await;
            }
        }
    }

    /// Asks for everything of each linked customer.
    async fn walk_one_by_one(&self, walking: &mut Walking<'_>) -> Result<(), ReconcileError> {
        let (which, mode, recent_since) = (walking.walk.customers, walking.walk.mode, walking.walk.recent_since);
        let mut left = self.store.count_customers(which).await?;
        let pause = pause_between(left, walking.walk);
        loop {
            let after = walking.position.after.clone().unwrap_or_default();
            let Some(customer) = self.store.list_customers(which, &after, 1).await?.pop() else { return Ok(()) };
            let began = Instant::now();
            if is_customer(&customer) {
                self.read_customer(&customer, recent_since, mode, walking.report).await?;
            }
            walking.position.after = Some(customer);
            self.keep_position(walking).await?;
            left = left.saturating_sub(1);
            walking.tell(1, Some(left));
            if let Some(pause) = pause {
                tokio::time::sleep_until(began + pause).await;
            }
        }
    }

    /// Asks one by one for what we hold as current and the list did not have: deleted customers, ended subscriptions.
    async fn fetch_unlisted(
        &self,
        walking: &mut Walking<'_>,
        stage: Stage,
        listed: &BTreeSet<String>,
    ) -> Result<(), ReconcileError> {
        let Some(resource) = stage.resource() else { return Ok(()) };
        let mut after = String::new();
        loop {
            let customers = self.store.list_customers(walking.walk.customers, &after, CUSTOMERS_OF_A_LOOKUP).await?;
            let Some(last) = customers.last() else { return Ok(()) };
            after.clone_from(last);
            let missing = match stage {
                Stage::Customers => customers.into_iter().filter(|id| is_customer(id) && !listed.contains(id)).collect(),
                _ => self.find_unlisted(resource, &customers, listed).await?,
            };
            let reads = self.fetch_each(resource, &missing, walking.report).await?;
            self.absorb(reads, walking.walk.mode, walking.walk.scope, walking.report).await?;
        }
    }

    pub(super) async fn keep_position(&self, walking: &Walking<'_>) -> Result<(), ReconcileError> {
        match walking.walk.cursor {
            Some(name) if walking.walk.mode == Mode::Apply => Ok(self.store.save_cursor(name, &walking.position).await?),
            _ => Ok(()),
        }
    }
}

/// So long after the beginning of each part the next one begins.
fn pause_between(parts: u64, walk: &Walk) -> Option<Duration> {
    let parts = u32::try_from(parts).unwrap_or(u32::MAX);
    walk.spread_over.filter(|_| parts > 1).map(|whole| whole / parts)
}

/// Accounts stand in for customers in `customer_account`, and are not found among them.
fn is_customer(id: &str) -> bool {
    !id.starts_with("acct_")
}

fn filter_of(stage: Stage, walk: &Walk) -> Filter {
    let is_short_lived = matches!(stage, Stage::Invoices | Stage::CheckoutSessions | Stage::PaymentIntents);
    let since = walk.since.max(walk.recent_since.filter(|_| is_short_lived));
    Filter {
        created_since: since.map(|since| since.timestamp()),
        status: (stage == Stage::OpenInvoices).then_some("open"),
        ..Filter::default()
    }
}
