//! Every metric's name and labels, and nothing else: whoever counts something calls a function of this file.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use chrono::{DateTime, Utc};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::domain::event::{Event, Outcome, Provider};
use crate::domain::signature::SignatureError;

const EVENTS: &str = "billsync_events_total";
const SIGNATURE_FAILURES: &str = "billsync_signature_failures_total";
const REFUSED: &str = "billsync_requests_refused_total";
const BATCH_EVENTS: &str = "billsync_batch_events";
const COMMIT_SECONDS: &str = "billsync_commit_seconds";
const QUEUE_EVENTS: &str = "billsync_queue_events";
const LOCK_WAITS: &str = "billsync_lock_waits_total";
const NEWEST_EVENT_AGE: &str = "billsync_newest_event_age_seconds";
const ALERTS: &str = "billsync_alerts_total";
const SCHEDULE_LAST_SUCCESS: &str = "billsync_schedule_last_success_timestamp_seconds";
const SCHEDULE_RUN_SECONDS: &str = "billsync_schedule_run_seconds";
const SCHEDULE_ROWS: &str = "billsync_schedule_rows_total";
const SCHEDULE_RUNS: &str = "billsync_schedule_runs_total";
const DRIFT: &str = "billsync_drift_total";
const REFETCH_QUEUE: &str = "billsync_refetch_queue_objects";
const CURSOR_AGE: &str = "billsync_sync_cursor_age_seconds";
const CURSOR_STALE: &str = "billsync_sync_cursor_stale";
const METER_REQUESTS: &str = "billsync_meter_requests_total";

const SECONDS_BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
const BATCH_BUCKETS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// How old the position of catching up may be: Stripe forgets events after 30 days, so somebody has to look before.
pub const CURSOR_LIMIT: Duration = Duration::from_secs(20 * 86_400);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
/// When the newest event of Stripe and of Clerk occurred, in microseconds since the epoch; the least value when none is known.
static NEWEST_EVENT: [AtomicI64; 2] = [AtomicI64::new(i64::MIN), AtomicI64::new(i64::MIN)];
/// Up to when all of Stripe's events are known, in microseconds since the epoch; the least value while nobody catches up.
static CAUGHT_UP_TO: AtomicI64 = AtomicI64::new(i64::MIN);

/// Starts counting; what was counted before is lost. Later calls do nothing.
pub fn install() {
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        // The only error is an empty list of buckets; the fallback has summaries instead.
        let builder = builder
            .set_buckets_for_metric(Matcher::Full(COMMIT_SECONDS.into()), &SECONDS_BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(BATCH_EVENTS.into()), &BATCH_BUCKETS))
            .unwrap_or_else(|_no_buckets| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if ::metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed: /metrics stays empty");
        }
        describe();
        begin_at_zero();
        handle
    });
}

fn describe() {
    describe_counter!(EVENTS, "Events settled, by provider, type and outcome");
    describe_counter!(SIGNATURE_FAILURES, "Webhooks whose signature was refused, by provider and reason");
    describe_counter!(REFUSED, "Webhooks whose sender was asked to retry or to stop, by reason");
    describe_histogram!(BATCH_EVENTS, "Events per transaction");
    describe_histogram!(COMMIT_SECONDS, "Seconds from the begin to the end of a transaction");
    describe_gauge!(QUEUE_EVENTS, "Events accepted and not settled");
    describe_counter!(LOCK_WAITS, "Transactions given up because somebody else held a lock");
    describe_gauge!(NEWEST_EVENT_AGE, "Seconds since the newest received event occurred, by provider");
    describe_counter!(ALERTS, "What a person should look at, by name");
    describe_gauge!(SCHEDULE_LAST_SUCCESS, "When a scheduled task last got to its end, by task");
    describe_gauge!(SCHEDULE_RUN_SECONDS, "Seconds that the last run of a scheduled task took, by task");
    describe_counter!(SCHEDULE_ROWS, "Rows that scheduled tasks changed, by task");
    describe_counter!(SCHEDULE_RUNS, "Runs of scheduled tasks, by task and outcome");
    describe_counter!(DRIFT, "Objects that differed from Stripe's and were corrected, by object type");
    describe_gauge!(REFETCH_QUEUE, "Objects that Stripe has to be asked about");
    describe_gauge!(CURSOR_AGE, "Seconds since the time up to which all of the provider's events are known, by cursor");
    describe_gauge!(CURSOR_STALE, "1 when that is more than 20 days: Stripe forgets events after 30; by cursor");
    describe_counter!(METER_REQUESTS, "Requests to consume and release, by meter and outcome");
}

/// What an alert is on exists before it first happens: an increase from nothing to one is none for Prometheus.
fn begin_at_zero() {
    for (provider, types) in [(Provider::Stripe, STRIPE_TYPES), (Provider::Clerk, CLERK_TYPES)] {
        for reason in SignatureError::REASONS {
            counter!(SIGNATURE_FAILURES, "provider" => provider.as_str(), "reason" => reason).increment(0);
        }
        for event_type in types.iter().copied().chain([OTHER_TYPE]) {
            let outcome = Outcome::Failed.as_str();
            counter!(EVENTS, "provider" => provider.as_str(), "type" => event_type, "outcome" => outcome).increment(0);
        }
    }
    record_queue_depth(0);
}

/// The metrics in Prometheus' text format; empty unless [`install`]ed.
pub fn render(now: DateTime<Utc>) -> String {
    for (provider, newest) in [Provider::Stripe, Provider::Clerk].into_iter().zip(&NEWEST_EVENT) {
        let newest = newest.load(Ordering::Relaxed);
        if newest != i64::MIN {
            let age = Duration::from_micros(now.timestamp_micros().saturating_sub(newest).try_into().unwrap_or(0));
            gauge!(NEWEST_EVENT_AGE, "provider" => provider.as_str()).set(age.as_secs_f64());
        }
    }
    let caught_up_to = CAUGHT_UP_TO.load(Ordering::Relaxed);
    if caught_up_to != i64::MIN {
        let age = Duration::from_micros(now.timestamp_micros().saturating_sub(caught_up_to).try_into().unwrap_or(0));
        gauge!(CURSOR_AGE, "cursor" => "stripe_events").set(age.as_secs_f64());
        gauge!(CURSOR_STALE, "cursor" => "stripe_events").set(f64::from(u8::from(age > CURSOR_LIMIT)));
    }
    RECORDER.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Folds recorded samples into their histograms. Without a call every few seconds memory grows while nobody scrapes.
pub fn fold_samples() {
    if let Some(handle) = RECORDER.get() {
        handle.run_upkeep();
    }
}

/// One event was settled.
pub fn count_event(event: &Event, outcome: Outcome) {
    let event_type = known_type(event.provider, &event.event_type);
    counter!(EVENTS, "provider" => event.provider.as_str(), "type" => event_type, "outcome" => outcome.as_str()).increment(1);
    if event.source.counts_as_newest_event() {
        note_newest(event.provider, event.occurred_at);
    }
}

/// When the newest event of that provider occurred, for the age that is shown.
pub fn note_newest(provider: Provider, occurred_at: DateTime<Utc>) {
    let newest = match provider {
        Provider::Stripe => &NEWEST_EVENT[0],
        Provider::Clerk => &NEWEST_EVENT[1],
        Provider::Import => return,
    };
    newest.fetch_max(occurred_at.timestamp_micros(), Ordering::Relaxed);
}

/// A webhook's signature was refused; `reason` is one of a fixed few.
pub fn count_signature_failure(provider: Provider, reason: &'static str) {
    counter!(SIGNATURE_FAILURES, "provider" => provider.as_str(), "reason" => reason).increment(1);
}

/// A webhook was refused for another reason than its signature; `reason` is one of a fixed few.
pub fn count_refused(provider: Provider, reason: &'static str) {
    counter!(REFUSED, "provider" => provider.as_str(), "reason" => reason).increment(1);
}

/// One transaction was tried.
pub fn record_batch(events: usize, took: Duration) {
    histogram!(BATCH_EVENTS).record(u32::try_from(events).unwrap_or(u32::MAX));
    histogram!(COMMIT_SECONDS).record(took);
}

/// How many events are accepted and not settled.
pub fn record_queue_depth(events: usize) {
    gauge!(QUEUE_EVENTS).set(u32::try_from(events).unwrap_or(u32::MAX));
}

/// A transaction was given up because somebody else held a lock.
pub fn count_lock_wait() {
    counter!(LOCK_WAITS).increment(1);
}

/// An [`crate::domain::billing::stored::Alert`] was raised.
pub fn count_alert(name: &'static str) {
    counter!(ALERTS, "name" => name).increment(1);
}

/// A scheduled task ran in this process; `succeeded_at` when it got to its end.
pub fn record_scheduled_run(task: &'static str, took: Duration, rows: u64, succeeded_at: Option<DateTime<Utc>>) {
    let outcome = if succeeded_at.is_some() { "succeeded" } else { "failed" };
    counter!(SCHEDULE_RUNS, "task" => task, "outcome" => outcome).increment(1);
    counter!(SCHEDULE_ROWS, "task" => task).increment(rows);
    gauge!(SCHEDULE_RUN_SECONDS, "task" => task).set(took.as_secs_f64());
    if let Some(at) = succeeded_at {
        // Seconds since the epoch fit exactly.
        gauge!(SCHEDULE_LAST_SUCCESS, "task" => task).set(Duration::from_secs(at.timestamp().unsigned_abs()).as_secs_f64());
    }
}

/// An object differed from what Stripe says. `object_type` is one that the projection reads.
pub fn count_drift(object_type: &str) {
    counter!(DRIFT, "object_type" => object_type.to_owned()).increment(1);
}

/// How many objects Stripe has to be asked about.
pub fn record_refetch_queue(objects: u64) {
    gauge!(REFETCH_QUEUE).set(u32::try_from(objects).unwrap_or(u32::MAX));
}

/// Up to when all of Stripe's events are known.
pub fn note_caught_up_to(at: DateTime<Utc>) {
    CAUGHT_UP_TO.store(at.timestamp_micros(), Ordering::Relaxed);
}

/// A meter was asked; `outcome` is one of a fixed few.
pub fn count_meter_request(meter: &'static str, outcome: &'static str) {
    counter!(METER_REQUESTS, "meter" => meter, "outcome" => outcome).increment(1);
}

/// The label of every type that has no series of its own.
const OTHER_TYPE: &str = "other";

/// The type as a label: senders choose it, so only a fixed list gets a series of its own.
fn known_type(provider: Provider, event_type: &str) -> &'static str {
    let known = match provider {
        Provider::Stripe => STRIPE_TYPES,
        Provider::Clerk => CLERK_TYPES,
        Provider::Import => return "import",
    };
    known.iter().find(|known| **known == event_type).copied().unwrap_or(OTHER_TYPE)
}

const STRIPE_TYPES: &[&str] = &[
    "customer.subscription.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "customer.updated",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
    "customer.created",
    "customer.deleted",
    "checkout.session.completed",
    "checkout.session.expired",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "invoice.created",
    "invoice.updated",
    "invoice.finalized",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.marked_uncollectible",
    "invoice.voided",
    "invoice.deleted",
    "payment_method.attached",
    "payment_method.detached",
    "payment_method.updated",
    "payment_method.automatically_updated",
    "payment_intent.created",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "customer.source.created",
    "customer.source.updated",
    "customer.source.deleted",
    "customer.source.expiring",
    "subscription_schedule.created",
    "subscription_schedule.updated",
    "subscription_schedule.released",
    "subscription_schedule.canceled",
    "subscription_schedule.completed",
    "subscription_schedule.aborted",
    "subscription_schedule.expiring",
    "charge.succeeded",
    "charge.refunded",
    "charge.dispute.created",
    "test_helpers.test_clock.advancing",
    "test_helpers.test_clock.ready",
];

const CLERK_TYPES: &[&str] = &[
    "user.created",
    "user.updated",
    "user.deleted",
    "subscription.created",
    "subscription.updated",
    "subscription.active",
    "subscription.pastDue",
    "subscriptionItem.created",
    "subscriptionItem.updated",
    "subscriptionItem.active",
    "subscriptionItem.canceled",
    "subscriptionItem.upcoming",
    "subscriptionItem.ended",
    "subscriptionItem.abandoned",
    "subscriptionItem.incomplete",
    "subscriptionItem.pastDue",
    "subscriptionItem.freeTrialEnding",
    "paymentAttempt.created",
    "paymentAttempt.updated",
    "session.created",
    "session.ended",
    "email.created",
    "sms.created",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_a_sender_made_up_gets_no_series_of_its_own() {
        assert_eq!(known_type(Provider::Stripe, "invoice.paid"), "invoice.paid");
        assert_eq!(known_type(Provider::Stripe, "user.created"), "other");
        assert_eq!(known_type(Provider::Clerk, "user.created"), "user.created");
        assert_eq!(known_type(Provider::Clerk, "made.up"), "other");
    }
}
