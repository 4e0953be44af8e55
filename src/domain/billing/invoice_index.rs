//! A customer's invoices, indexed by the three things that are asked of them: whether a trial was converted, which are
//! open, and which one names a Clerk user. Every answer costs the logarithm of their number.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::domain::billing::facts::Invoice;
use crate::domain::billing::stored::InvoiceSummary;

/// What the invoices of a subscription say of its trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Whether any invoice that counts, whatever its status, has a line that starts at `since` or later.
    pub billed: bool,
    /// The earliest payment of such an invoice.
    pub converted_at: Option<DateTime<Utc>>,
}

/// An invoice's `created`, newest first, then its id.
type NewestFirst = (Reverse<Option<DateTime<Utc>>>, String);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct InvoiceIndex {
    invoices: BTreeMap<String, Invoice>,
    open: BTreeSet<String>,
    /// Newest first, then by id; with the Clerk user id that the invoice names.
    naming: BTreeMap<NewestFirst, String>,
    lines: BTreeMap<String, SubscriptionLines>,
    summaries: Vec<InvoiceSummary>,
}

/// The lines of one subscription, over all invoices.
#[derive(Clone, Debug, Default)]
struct SubscriptionLines {
    /// Start of a line → how many invoices have it.
    starts: BTreeMap<DateTime<Utc>, usize>,
    /// Start → earliest payment, without the points that a later start with an earlier payment makes irrelevant: so the
    /// first entry at or after an instant has the least payment of all that follow.
    paid: BTreeMap<DateTime<Utc>, DateTime<Utc>>,
}

impl SubscriptionLines {
    fn add_paid(&mut self, start: DateTime<Utc>, paid_at: DateTime<Utc>) {
        if self.paid.range(start..).next().is_some_and(|(_, known)| *known <= paid_at) {
            return;
        }
        while let Some((&earlier, _)) = self.paid.range(..=start).next_back().filter(|(_, known)| **known >= paid_at) {
            self.paid.remove(&earlier);
        }
        self.paid.insert(start, paid_at);
    }
}

impl InvoiceIndex {
    /// Takes an invoice in place of what it was before; `None` when it was a draft that is deleted or belongs to another customer.
    pub fn insert(&mut self, id: &str, invoice: Option<Invoice>) {
        if self.invoices.get(id) == invoice.as_ref() {
            return;
        }
        if let Some(before) = self.invoices.remove(id) {
            self.forget(id, &before);
        }
        let Some(invoice) = invoice else { return };
        if invoice.status == "open" {
            self.open.insert(id.to_owned());
        }
        if let Some(user) = &invoice.clerk_user_id {
            self.naming.insert((Reverse(invoice.created), id.to_owned()), user.clone());
        }
        if let Some((subscription, start)) = invoice.billed_period() {
            let lines = self.lines.entry(subscription.to_owned()).or_default();
            *lines.starts.entry(start).or_default() += 1;
            if let Some(paid_at) = invoice.conversion_at() {
                lines.add_paid(start, paid_at);
            }
        }
        self.invoices.insert(id.to_owned(), invoice);
    }

    /// Takes what the database says of the invoices that were not loaded one by one.
    pub fn insert_summary(&mut self, summary: InvoiceSummary) {
        self.summaries.push(summary);
    }

    /// What the invoices of `subscription` with a line starting at `since` or later say.
    pub fn conversion(&self, subscription: &str, since: DateTime<Utc>) -> Conversion {
        let mut found = Conversion::default();
        if let Some(lines) = self.lines.get(subscription) {
            found.billed = lines.starts.range(since..).next().is_some();
            found.converted_at = lines.paid.range(since..).next().map(|(_, paid_at)| *paid_at);
        }
        for summary in self.summaries.iter().filter(|s| s.subscription == subscription && s.since == since) {
            found.billed = true;
            found.converted_at = [found.converted_at, summary.converted_at].into_iter().flatten().min();
        }
        found
    }

    /// The open invoices, by id.
    pub fn open(&self) -> impl Iterator<Item = (&str, &Invoice)> {
        self.open.iter().filter_map(|id| self.invoices.get(id).map(|invoice| (id.as_str(), invoice)))
    }

    /// The Clerk user that the newest invoice naming one names.
    pub fn clerk_user_id(&self) -> Option<&str> {
        self.naming.values().next().map(String::as_str)
    }

    fn forget(&mut self, id: &str, before: &Invoice) {
        self.open.remove(id);
        self.naming.remove(&(Reverse(before.created), id.to_owned()));
        let Some((subscription, start)) = before.billed_period() else { return };
        let Some(lines) = self.lines.get_mut(subscription) else { return };
        if let Some(count) = lines.starts.get_mut(&start) {
            *count -= 1;
            if *count == 0 {
                lines.starts.remove(&start);
            }
        }
        // A paid invoice never becomes unpaid at Stripe, so counting anew is rare enough.
        if before.conversion_at().is_some() {
            lines.paid.clear();
            for other in self.invoices.values() {
                let period = other.billed_period().filter(|(billed, _)| *billed == subscription);
                if let (Some((_, start)), Some(paid_at)) = (period, other.conversion_at()) {
                    lines.add_paid(start, paid_at);
                }
            }
        }
    }
}
