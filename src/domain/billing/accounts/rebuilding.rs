//! Working out anew what is stored from the facts alone: the owner rows, which only cache, and the users' rows.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::billing::accounts::relations::is_clerk_user;
use crate::domain::billing::accounts::{Accounts, Context};
use crate::domain::billing::differences::{Difference, owner_differences};
use crate::domain::billing::rows::{Effect, Rows};
use crate::domain::billing::stored::{NewestEvent, Owner};
use crate::domain::rules::Rules;

/// The resolution of the stored instants: just before one of them nothing that it brings has happened.
const INSTANT: TimeDelta = TimeDelta::microseconds(1);

/// What an owner row keeps of events, read off the ledger.
#[derive(Clone, Debug, Default)]
pub struct OwnerHistory {
    pub newest: Option<NewestEvent>,
    /// Of a customer: [`Owner::has_facts`].
    pub has_facts: bool,
}

/// A user's rows, worked out anew.
#[derive(Clone, Debug, Default)]
pub struct RebuiltRows {
    /// Every column that changes, also by the passing of time.
    pub effects: Vec<Effect>,
    /// The columns that were wrong.
    pub differences: Vec<Difference>,
}

impl Accounts {
    /// Makes an owner row what the facts and the ledger say it is; what differed. The owner rows of the Clerk users that
    /// speak for a customer have to be right before the customer's own.
    pub fn rebuild_owner(&mut self, owner_id: &str, history: OwnerHistory, rules: &Rules) -> Vec<Difference> {
        let stored = self.owners.get(owner_id).cloned();
        let mut recomputed = Owner { owner_id: owner_id.to_owned(), newest: history.newest, ..Owner::default() };
        if is_clerk_user(owner_id) {
            if let Some(user) = self.clerk_users.get(owner_id) {
                recomputed.emails.clone_from(&user.fact.verified_emails);
                recomputed.claimed_customer_id.clone_from(&user.fact.stripe_customer_id);
            }
            recomputed.imported_customer_id = self.imports.get(owner_id).and_then(|import| import.stripe_customer_id.clone());
            self.change_owner(owner_id, |owner| *owner = recomputed);
        } else {
            let customer = self.customer_mut(owner_id);
            customer.has_facts = history.has_facts;
            recomputed.has_facts = history.has_facts;
            recomputed.test_clock = customer.test_clock().cloned();
            recomputed.emails = customer.customer.as_ref().and_then(|known| known.fact.email.clone()).into_iter().collect();
            self.change_owner(owner_id, |owner| *owner = recomputed);
            self.link(owner_id, rules);
        }
        let Some(recomputed) = self.owners.get(owner_id) else { return Vec::new() };
        let differences = owner_differences(stored.as_ref(), recomputed);
        if stored.is_none() && differences.is_empty() {
            // Nobody has asked for a row that says nothing.
            self.owners.remove(owner_id);
        }
        differences
    }

    /// Projects a user's rows. A column is wrong unless its value is the one that follows from the facts now or, while a
    /// change that the clock brings is still to be made, just before that change.
    pub fn rebuild_rows(&mut self, user_id: &str, context: Context<'_>) -> RebuiltRows {
        let stored = self.users.get(user_id).map(|user| &user.current.rows);
        let late: Vec<Vec<Effect>> = stored
            .map(|rows| changes_due(rows, context.now))
            .unwrap_or_default()
            .into_iter()
            .map(|at| self.clone().reproject(user_id, Context { now: at - INSTANT, ..context }))
            .collect();
        let effects = self.reproject(user_id, context);
        let column = |effect: &Effect| (effect.table.clone(), effect.column.clone());
        let was_right = |effect: &Effect| late.iter().any(|then| !then.iter().any(|other| column(other) == column(effect)));
        let differences = effects.iter().filter(|effect| !was_right(effect)).cloned().map(Difference::from).collect();
        RebuiltRows { effects, differences }
    }
}

/// The instants that have come and that the rows do not show yet.
fn changes_due(rows: &Rows, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let announced = [rows.subscription.next_change_at, rows.usage.usage_reset_date];
    announced.into_iter().flatten().filter(|at| *at <= now).collect()
}
