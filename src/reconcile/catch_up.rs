//! Catching up: every event since the last time, whether or not it was delivered. `delivery_success` of Stripe's list knows
//! only endpoints that existed, so all are read and those that the ledger has are duplicates.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::event::Outcome;
use crate::metrics;
use crate::reconcile::{ReconcileError, Reconciler, Report};
use crate::store::{Store, StoreError};
use crate::stripe_api::{ApiError, Filter, Page, Resource};

/// The name of its position.
const CURSOR: &str = "stripe_events";

/// Read again each time: an event may be listed later than it says it was created.
const OVERLAP: TimeDelta = TimeDelta::hours(1);

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaughtUp {
    pub events: u64,
    /// Among them those that the ledger did not have.
    pub new: u64,
}

/// Up to when everything is known, and the window that is being read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    known_until: Option<DateTime<Utc>>,
    window: Option<Window>,
    /// When it was tried first: until it has succeeded once, ignorance counts from then.
    #[serde(default)]
    first_tried_at: Option<DateTime<Utc>>,
}

/// Stripe lists the newest event first, so a window is fixed before it is read: only its end moves `known_until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    after: Option<String>,
}

/// Up to when every event of Stripe is known; `None` before a first reading has come to its end.
pub async fn caught_up_to(store: &Store) -> Result<Option<DateTime<Utc>>, StoreError> {
    let position: Option<Position> = store.find_cursor(CURSOR).await?;
    Ok(position.and_then(|position| position.known_until))
}

impl Reconciler {
    /// Reads all events since the position, which is kept page by page: an interrupted reading goes on where it ended.
    pub async fn catch_up(&self) -> Result<CaughtUp, ReconcileError> {
        let mut position: Position = self.store.find_cursor(CURSOR).await?.unwrap_or_default();
        let now = self.clock.now().trunc_subsecs(0);
        if position.first_tried_at.is_none() {
            position.first_tried_at = Some(now);
            self.store.save_cursor(CURSOR, &position).await?;
        }
        if let Some(known_until) = position.known_until.or(position.first_tried_at) {
            note_age(known_until, now);
        }
        let begin = || {
            let oldest = self.oldest_listed_event();
            let since = position.known_until.map_or(oldest, |at| (at - OVERLAP).max(oldest));
            Window { since, until: now, after: None }
        };
        let mut window = position.window.clone().unwrap_or_else(begin);
        let mut caught_up = CaughtUp::default();
        loop {
            let page = self.fetch_window(&mut window).await?;
            self.take_page(&page, &mut caught_up).await?;
            window.after = page.next;
            let is_done = window.after.is_none();
            position = if is_done {
                Position { known_until: Some(window.until), window: None, ..position }
            } else {
                Position { window: Some(window.clone()), ..position }
            };
            self.store.save_cursor(CURSOR, &position).await?;
            if is_done {
                metrics::note_caught_up_to(window.until);
                return Ok(caught_up);
            }
        }
    }

    async fn fetch_window(&self, window: &mut Window) -> Result<Page, ReconcileError> {
        let filter = Filter {
            created_since: Some(window.since.timestamp()),
            created_before: Some(window.until.timestamp()),
            ..Filter::default()
        };
        match self.stripe()?.fetch_page(Resource::Events, &filter, window.after.as_deref()).await {
            // Stripe has forgotten the event that the position names.
            Err(ApiError::Refused { status: 400, .. }) if window.after.take().is_some() => {
                Ok(self.stripe()?.fetch_page(Resource::Events, &filter, None).await?)
            }
            page => Ok(page?),
        }
    }

    async fn take_page(&self, page: &Page, caught_up: &mut CaughtUp) -> Result<(), ReconcileError> {
        let events = self.decode_events(page.objects.clone(), &mut Report::default());
        caught_up.events += events.len() as u64;
        let receipts = self.submit_all(events).await?;
        caught_up.new += receipts.iter().filter(|receipt| receipt.outcome != Outcome::Duplicate).count() as u64;
        Ok(())
    }
}

fn note_age(known_until: DateTime<Utc>, now: DateTime<Utc>) {
    metrics::note_caught_up_to(known_until);
    let age = (now - known_until).to_std().unwrap_or_default();
    if age > metrics::CURSOR_LIMIT {
        metrics::count_alert("catch_up_stale");
        tracing::warn!(known_until = %known_until, "has not caught up with Stripe's events for 20 days; after 30 they are lost");
    }
}
