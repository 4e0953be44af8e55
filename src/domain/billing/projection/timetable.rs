//! What of a user's rows goes by the calendar: the e-mail schedule, and the next instant at which time alone changes a row.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::billing::card::expires_at;
use crate::domain::billing::email_schedule::{Message, card_reminder};
use crate::domain::billing::projection::evidence::{Evidence, Source};
use crate::domain::billing::projection::standing::Standing;
use crate::domain::billing::rows::BillingColumns;
use crate::domain::billing::subscription::{Status, StripeSubscription};
use crate::domain::billing::trial::DECISION;

/// Every message that follows from the facts.
pub fn list_messages(
    evidence: &Evidence<'_>,
    standing: &Standing,
    billing: &BillingColumns,
    signup_at: Option<DateTime<Utc>>,
) -> Vec<Message> {
    let mut messages = vec![Message::welcome(evidence.facts.user_id, signup_at)];
    let trial_subject = evidence.trial.map(|trial| trial.subject);
    for subscription in &evidence.subscriptions {
        add_trial(&mut messages, subscription, trial_subject == Some(subscription.id), standing);
    }
    for customer in &evidence.facts.customers {
        for (id, invoice) in customer.invoices.open() {
            let (Some(of), Some(finalized_at)) = (invoice.subscription.as_deref(), invoice.finalized_at) else { continue };
            let status =
                customer.subscriptions.get(of).map(|known| StripeSubscription::new(customer, known, evidence.catalog).status);
            let unpaid = matches!(status, Some(Status::PastDue | Status::Unpaid));
            messages.push(Message::payment_failed(id, finalized_at, unpaid));
        }
    }
    if let Some(clerk) = &evidence.clerk {
        clerk.add_messages(&mut messages, trial_subject.map(|subject| (subject, standing.trial_status.as_str())));
    }
    if let (Source::Import(_), Some(id), Some(end)) =
        (evidence.source, evidence.imported_subscription_id(), standing.trial_end_date)
    {
        messages.push(Message::trial_ending(id, end, standing.status == "trialing"));
        messages.push(Message::trial_ended(id, end, standing.trial_status == "expired"));
    }
    if let (Some(id), Some(expires_at)) = (&billing.payment_method_id, expires_at(&billing.card)) {
        messages.push(Message::card_expiring(id, expires_at));
    }
    messages
}

fn add_trial(messages: &mut Vec<Message>, subscription: &StripeSubscription<'_>, counts: bool, standing: &Standing) {
    let Some(trial_end) = subscription.fact.trial_end else { return };
    let trialing = counts && subscription.status == Status::Trialing;
    messages.push(Message::trial_ending(subscription.id, trial_end, trialing));
    messages.push(Message::trial_ended(subscription.id, trial_end, counts && standing.trial_status == "expired"));
}

/// The least instant after now at which the rows have to be looked at again.
pub fn next_change_at(
    evidence: &Evidence<'_>,
    standing: &Standing,
    billing: &BillingColumns,
    messages: &[Message],
) -> Option<DateTime<Utc>> {
    let later = |at: Option<DateTime<Utc>>, by: TimeDelta| at.and_then(|at| at.checked_add_signed(by));
    let expires_at = expires_at(&billing.card);
    let mut instants = vec![
        standing.trial_end_date,
        later(standing.trial_end_date, DECISION),
        standing.cancel_date,
        standing.renewal_date.filter(|_| standing.status == "past_due"),
        expires_at,
        expires_at.and_then(card_reminder),
    ];
    instants.extend(messages.iter().map(|message| message.due_at));
    if let Some(clerk) = &evidence.clerk {
        instants.extend(clerk.changes());
    }
    if let Some(primary) = evidence.primary.as_ref().filter(|primary| primary.status.is_live()) {
        instants.extend(primary.next_plan_changes(evidence.now));
    }
    instants.into_iter().flatten().filter(|at| *at > evidence.now).min()
}
