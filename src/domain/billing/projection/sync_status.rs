//! `user_subscriptions.billing_sync_status`: how far the rows can be trusted, the gravest reason first.

use crate::domain::billing::projection::evidence::{Evidence, Source};
use crate::domain::billing::projection::findings::Findings;
use crate::domain::billing::projection::standing::NONE;
use crate::domain::billing::subscription::Status;

/// The first that holds.
pub fn sync_status(evidence: &Evidence<'_>, findings: &Findings) -> &'static str {
    let facts = evidence.facts;
    if facts.newest.is_some_and(|newest| newest.failed) {
        "error"
    } else if findings.needs_reconcile() {
        "needs_reconcile"
    } else if facts.customers.is_empty() && evidence.clerk.is_none() {
        "not_linked"
    } else if is_pending(evidence) {
        "pending"
    } else {
        "synced"
    }
}

/// Whether somebody who is linked has no subscription that came to something. A user of Clerk's default plan alone, without
/// a customer, is complete as they are.
fn is_pending(evidence: &Evidence<'_>) -> bool {
    let unfinished = |status| matches!(status, Status::Incomplete | Status::IncompleteExpired);
    if evidence.subscriptions.iter().any(|subscription| !unfinished(subscription.status)) {
        return false;
    }
    if let Source::Import(import) = evidence.source {
        let status = import.subscription_status.as_deref().unwrap_or(NONE);
        return status == NONE || unfinished(Status::parse(status));
    }
    let items = evidence.clerk.as_ref().map_or(&[][..], |clerk| clerk.items());
    if items.iter().any(|item| !item.is_unfinished()) {
        return false;
    }
    !evidence.facts.customers.is_empty() || !items.is_empty()
}
