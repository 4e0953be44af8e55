//! Everybody: at once because a person asked, or spread over the hour because it is time again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::reconcile::absorb::Scope;
use crate::reconcile::walk::{OnProgress, Walk};
use crate::reconcile::{Mode, ReconcileError, Reconciler, Report, Stage};
use crate::store::Customers;

/// The name of the hourly pass's position.
const CURSOR: &str = "reconcile";

/// A pass that was interrupted longer ago is begun anew: what it had read is old.
const RESUMED_WITHIN: TimeDelta = TimeDelta::hours(2);

/// What the hourly pass reads of invoices, sessions and the like: older ones no longer change, unless they are open.
const RECENT: TimeDelta = TimeDelta::days(3);

/// What everything of one customer costs: itself, and the lists of its subscriptions, payment methods, schedules, recent and
/// open invoices, and checkout sessions.
const REQUESTS_OF_A_CUSTOMER: u64 = 7;

/// An account that is listed in so few pages is always listed: then customers that say whose they are come to light too.
const FEWEST_PAGES: u64 = 50;

impl Reconciler {
    /// Compares all customers, linked or not, with everything that Stripe has of them.
    pub async fn reconcile_all(&self, mode: Mode, on_progress: OnProgress<'_>) -> Result<Report, ReconcileError> {
        let walk = Walk {
            stages: vec![
                Stage::Customers,
                Stage::Subscriptions,
                Stage::SubscriptionSchedules,
                Stage::PaymentMethods,
                Stage::Invoices,
                Stage::CheckoutSessions,
                Stage::PaymentIntents,
            ],
            mode,
            scope: Scope::Everything,
            customers: Customers::Known,
            since: None,
            recent_since: None,
            cursor: None,
            spread_over: None,
            most_pages: None,
        };
        let mut report = Report::default();
        self.walk(&walk, DateTime::UNIX_EPOCH, &mut report, on_progress).await?;
        self.finish(mode, &mut report).await?;
        Ok(report)
    }

    /// Compares the customers that belong to users, going on where an interrupted pass ended. The account is listed, a
    /// hundred objects a request, unless so few of its customers are linked that asking for each of them costs less.
    pub async fn reconcile_linked(&self, spread_over: Option<Duration>) -> Result<Report, ReconcileError> {
        let linked = self.store.count_customers(Customers::Linked).await?;
        let now: DateTime<Utc> = self.clock.now();
        let walk = Walk {
            stages: vec![
                Stage::Customers,
                Stage::Subscriptions,
                Stage::SubscriptionSchedules,
                Stage::Invoices,
                Stage::OpenInvoices,
                Stage::CheckoutSessions,
                Stage::PaymentMethods,
            ],
            mode: Mode::Apply,
            scope: Scope::Linked,
            customers: Customers::Linked,
            since: None,
            recent_since: Some(now - RECENT),
            cursor: Some(CURSOR),
            spread_over,
            most_pages: Some(FEWEST_PAGES.max(linked * REQUESTS_OF_A_CUSTOMER)),
        };
        let mut report = Report::default();
        self.walk(&walk, now - RESUMED_WITHIN, &mut report, &|_| {}).await?;
        Ok(report)
    }
}
