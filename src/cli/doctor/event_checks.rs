//! Whether events come, and which of them wait for somebody: deliveries, failures, open questions, how far catching up is.

use chrono::{DateTime, TimeDelta, Utc};

use crate::cli::doctor::database_checks::cannot_tell;
use crate::cli::doctor::finding::Findings;
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::domain::event::Provider;
use crate::metrics::CURSOR_LIMIT;
use crate::reconcile::caught_up_to;
use crate::store::{Backlog, Store};

/// A provider that has not delivered for so long may have given the endpoint up.
const SILENCE: TimeDelta = TimeDelta::days(7);
/// An open question is settled within seconds when somebody asks.
const LATE_REFETCH: TimeDelta = TimeDelta::hours(1);
/// Catching up happens every ten minutes.
const LATE_CATCH_UP: TimeDelta = TimeDelta::hours(2);

/// When each provider's signature was last found right. Which of several secrets it was, the log tells, not the ledger.
pub async fn check_deliveries(config: &Config, store: &Store, findings: &mut Findings) {
    let newest = match store.list_newest_webhooks().await {
        Ok(newest) => newest,
        Err(error) => return cannot_tell("secrets", "when the newest webhooks came", &error, findings),
    };
    for (provider, name, secrets, setting) in [
        (Provider::Stripe, "Stripe", &config.stripe_webhook_secrets, "STRIPE_WEBHOOK_SECRETS"),
        (Provider::Clerk, "Clerk", &config.clerk_webhook_secrets, "CLERK_WEBHOOK_SECRETS"),
    ] {
        let at = newest.iter().find(|(known, _)| *known == provider).map(|(_, at)| *at);
        check_delivery(name, secrets, setting, at, findings);
    }
}

fn check_delivery(provider: &str, secrets: &[Secret], setting: &str, newest_at: Option<DateTime<Utc>>, findings: &mut Findings) {
    if secrets.is_empty() {
        return;
    }
    let whose = match secrets.len() {
        1 => format!("the secret of {setting}"),
        _ => format!("a secret of {setting} (which one is logged at BILLSYNC_LOG=debug)"),
    };
    let Some(at) = newest_at else {
        findings.warn(
            "secrets",
            format!("{whose} has verified no webhook of {provider} yet"),
            "billsync send --story ada --to http://127.0.0.1:8787   # then compare the endpoint's address and secret in the Dashboard",
        );
        return;
    };
    let age = Clock::System.now() - at;
    let told = format!("{whose} verified the newest webhook of {provider} {} ago", span(age));
    if age > SILENCE {
        findings.warn(
            "secrets",
            told,
            format!("compare the endpoint's address and secret in {provider}'s Dashboard with {setting}"),
        );
    } else {
        findings.ok("secrets", told);
    }
}

/// Failed events, objects that Stripe has to be asked about, events that were never delivered.
pub async fn check_backlog(config: &Config, store: &Store, findings: &mut Findings) {
    match store.count_backlog(Clock::System.now() - LATE_REFETCH).await {
        Ok(backlog) => report_backlog(&backlog, findings),
        Err(error) => cannot_tell("backlog", "what waits", &error, findings),
    }
    match caught_up_to(store).await {
        Ok(known_until) => check_catch_up(config, known_until, findings),
        Err(error) => cannot_tell("backlog", "how far catching up is", &error, findings),
    }
}

fn report_backlog(backlog: &Backlog, findings: &mut Findings) {
    match &backlog.newest_failed {
        Some(newest) => findings.error(
            "backlog",
            format!("{}, the newest is {newest}", counted(backlog.failed, "event has failed", "events have failed")),
            format!("billsync inspect event {newest}   # names the cause; when it is mended: billsync replay --failed"),
        ),
        None => findings.ok("backlog", "no event has failed"),
    }
    let waiting =
        counted(backlog.refetches, "object waits to be read from its provider", "objects wait to be read from their provider");
    if backlog.late_refetches > 0 {
        findings.warn(
            "backlog",
            format!("{waiting}, {} of them for more than an hour", backlog.late_refetches),
            "billsync schedule run refetch   # serve does it every 3 s when STRIPE_API_KEY, CLERK_SECRET_KEY are set",
        );
    } else {
        findings
            .ok("backlog", if backlog.refetches == 0 { "no object waits to be read from its provider".into() } else { waiting });
    }
}

fn check_catch_up(config: &Config, known_until: Option<DateTime<Utc>>, findings: &mut Findings) {
    let fix = "billsync schedule run catch-up   # serve does it every 10 min when STRIPE_API_KEY is set";
    let Some(known_until) = known_until else {
        // Without a key nobody catches up, which has been told.
        if config.stripe_api_key.is_some() {
            findings.warn("backlog", "Stripe's list of events was never read to its end", fix);
        }
        return;
    };
    let age = Clock::System.now() - known_until;
    let told = format!("every event that Stripe lists was known {} ago", span(age));
    if age.to_std().is_ok_and(|age| age > CURSOR_LIMIT) {
        findings.error("backlog", format!("{told}; after 30 days Stripe forgets those that never came"), fix);
    } else if age > LATE_CATCH_UP {
        findings.warn("backlog", told, fix);
    } else {
        findings.ok("backlog", told);
    }
}

/// `1 event has failed`, `2 events have failed`.
pub fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A span of time in the unit that a person would choose.
pub fn span(time: TimeDelta) -> String {
    let seconds = time.num_seconds().max(0);
    let (count, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7_199 => (seconds / 60, "minute"),
        7_200..=172_799 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
