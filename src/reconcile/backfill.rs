//! The years before billsync was there: everything that the providers still have, into facts.

use chrono::{DateTime, Utc};

use crate::reconcile::absorb::Scope;
use crate::reconcile::walk::{OnProgress, Walk};
use crate::reconcile::{Mode, ReconcileError, Reconciler, Report, Stage};
use crate::store::Customers;
use crate::stripe_api::Read;

/// The name of its position.
const CURSOR: &str = "backfill";

/// What is to be read.
#[derive(Clone, Debug)]
pub struct Backfill {
    /// Only what was created since; payment methods are listed by customer, so of those always all.
    pub since: Option<DateTime<Utc>>,
    /// In the order of [`Backfill::STAGES`].
    pub stages: Vec<Stage>,
    pub mode: Mode,
}

impl Backfill {
    /// What a backfill reads, in this order.
    pub const STAGES: [Stage; 11] = [
        Stage::ClerkUsers,
        Stage::Products,
        Stage::Prices,
        Stage::Customers,
        Stage::Subscriptions,
        Stage::SubscriptionSchedules,
        Stage::PaymentMethods,
        Stage::Invoices,
        Stage::CheckoutSessions,
        Stage::PaymentIntents,
        Stage::Events,
    ];
}

impl Reconciler {
    /// Reads it all, going on where an interrupted backfill of the same things ended.
    pub async fn backfill(&self, what: &Backfill, on_progress: OnProgress<'_>) -> Result<Report, ReconcileError> {
        let walk = Walk {
            stages: Backfill::STAGES.into_iter().filter(|stage| what.stages.contains(stage)).collect(),
            mode: what.mode,
            scope: Scope::Everything,
            customers: Customers::Known,
            since: what.since,
            recent_since: None,
            cursor: Some(CURSOR),
            spread_over: None,
            most_pages: None,
        };
        let mut report = Report::default();
        self.walk(&walk, DateTime::UNIX_EPOCH, &mut report, on_progress).await?;
        if what.mode == Mode::Apply && self.reads_stripe() {
            let drained = self.drain_refetches().await?;
            report.drift.extend(drained.report.drift);
            report.problems.extend(drained.report.problems);
        }
        Ok(report)
    }

    /// Feeds events as a webhook would have brought them; those that the ledger has are duplicates.
    pub(super) async fn take_events(&self, reads: Vec<Read>, mode: Mode, report: &mut Report) -> Result<(), ReconcileError> {
        report.objects += reads.len() as u64;
        let events = self.decode_events(reads, report);
        match mode {
            Mode::Apply => self.feed(events, report).await,
            Mode::DryRun => Ok(()),
        }
    }
}
