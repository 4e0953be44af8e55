//! `project`: the facts of a user, the plan catalog and now, to the user's rows. Pure: no history, no clock, no SQL.

use chrono::{DateTime, Utc};

use crate::domain::billing::customer_facts::{ClerkFacts, CustomerFacts, Known};
use crate::domain::billing::facts::{ClerkUser, Import};
use crate::domain::billing::plan::Catalog;
use crate::domain::billing::rows::{Rows, UsageReset};
use crate::domain::billing::stored::{Alert, NewestEvent, Refetch, StoredUser};
use crate::domain::rules::Rules;

/// Everything that a user's rows are a function of, beside the catalog, the rules and now.
#[derive(Clone, Debug)]
pub struct UserFacts<'a> {
    /// The Clerk id.
    pub user_id: &'a str,
    /// The Clerk user; a deleted one whose object was never seen has a default fact and `deleted_at`.
    pub user: Option<&'a Known<ClerkUser>>,
    /// Every customer linked to the user, by id.
    pub customers: Vec<&'a CustomerFacts>,
    pub clerk: Option<&'a ClerkFacts>,
    pub import: Option<&'a Import>,
    /// The newest event over all of the user's owner ids.
    pub newest: Option<&'a NewestEvent>,
    /// The stored rows: application-owned inputs, `sent_at` marks, the usage period. `None` for a user without rows.
    pub stored: Option<&'a StoredUser>,
}

/// A user's rows and what else follows from the same facts.
#[derive(Clone, Debug, Default)]
pub struct Projected {
    pub rows: Rows,
    pub usage_reset: Option<UsageReset>,
    pub refetches: Vec<Refetch>,
    pub alerts: Vec<Alert>,
}

/// Computes the rows. `now` is the test clock's time for a user whose customers live by one.
pub fn project(facts: &UserFacts<'_>, catalog: &Catalog, rules: &Rules, now: DateTime<Utc>) -> Projected {
    let _ = (facts, catalog, rules, now);
    Projected::default()
}
