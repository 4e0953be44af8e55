//! An operator's word on whose a customer is: written, and the rows that follow from it, in one transaction under the locks of
//! a batch. The ledger tells everybody concerned, so that `inspect` shows why a row changed.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Applied, BatchError, Concerned, Erasures, Folded, Told, Work, job_event, run};
use crate::clock::Clock;
use crate::domain::billing::accounts::{Accounts, Context};
use crate::domain::billing::stored::{LinkedBy, OperatorLink};
use crate::domain::event::{Event, Outcome, Provider};
use crate::domain::rules::Rules;
use crate::store::{Store, StoreError, Tx, write_operator_link};

/// How often an account that somebody else holds is tried, each time for as long as a batch waits for a lock.
const ATTEMPTS: usize = 20;

/// What the operator says of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorWord {
    /// It is that Clerk user's, who need not be known yet.
    BelongsTo(String),
    /// It is nobody's, whatever anything else says.
    Nobody,
    /// Nothing (any more): the other evidence decides.
    Nothing,
}

/// A customer, and what the operator says of it.
#[derive(Clone, Debug)]
pub struct OperatorChange {
    pub customer_id: String,
    pub word: OperatorWord,
    /// Why, for whoever reads the ledger.
    pub reason: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorLinked {
    /// Whose the customer was.
    pub before: Option<String>,
    /// Whose it is.
    pub after: Option<String>,
    pub linked_by: Option<LinkedBy>,
    /// False when the operator had said so already.
    pub changed: bool,
    /// Whether an event has named the customer.
    pub customer_is_known: bool,
    /// Whether the user whose it is has rows.
    pub user_is_known: bool,
    /// Users whose rows changed.
    pub users_changed: usize,
    /// Nothing was done: the user was erased.
    pub refused: bool,
}

/// Writes the operator's word and whatever follows from it. An account that others hold is waited for, for some seconds.
pub async fn link_by_operator(
    store: &Store,
    change: &OperatorChange,
    rules: &Rules,
    clock: &Clock,
) -> Result<OperatorLinked, BatchError> {
    let users: Vec<String> = change.named_user().into_iter().map(str::to_owned).collect();
    let mut attempts = ATTEMPTS;
    loop {
        let concerned = Concerned::of_accounts(std::slice::from_ref(&change.customer_id), &users, rules);
        match run(store, concerned, &Work::Operator(change), rules, clock).await {
            Err(BatchError::Contended(_)) if attempts > 0 => attempts -= 1,
            Err(error) => return Err(error),
            Ok(done) => return Ok(OperatorLinked { users_changed: done.users, ..done.linked }),
        }
    }
}

impl OperatorChange {
    fn named_user(&self) -> Option<&str> {
        if let OperatorWord::BelongsTo(user) = &self.word { Some(user) } else { None }
    }

    fn link(&self) -> Option<OperatorLink> {
        let customer_id = self.customer_id.clone();
        match &self.word {
            OperatorWord::BelongsTo(user) => Some(OperatorLink { customer_id, clerk_user_id: Some(user.clone()) }),
            OperatorWord::Nobody => Some(OperatorLink { customer_id, clerk_user_id: None }),
            OperatorWord::Nothing => None,
        }
    }

    fn event_type(&self) -> &'static str {
        if self.word == OperatorWord::Nothing { "operator.unlink" } else { "operator.link" }
    }

    /// What the ledger says.
    fn sentence(&self) -> String {
        let customer = &self.customer_id;
        let said = match &self.word {
            OperatorWord::BelongsTo(user) => format!("{customer} belongs to {user}"),
            OperatorWord::Nobody => format!("{customer} is nobody's"),
            OperatorWord::Nothing => format!("nothing is said of {customer}"),
        };
        self.reason.as_ref().map_or_else(|| said.clone(), |reason| format!("{said}: {reason}"))
    }

    /// One entry for everybody who loses, gains or keeps the customer; where there is nobody, one for the customer.
    pub(super) fn apply(&self, accounts: &mut Accounts, erasures: &Erasures, context: Context<'_>) -> Folded {
        if self.named_user().is_some_and(|user| erasures.has(user)) {
            return Folded { linked: OperatorLinked { refused: true, ..OperatorLinked::default() }, ..Folded::default() };
        }
        let owner_before = accounts.owner(&self.customer_id).cloned();
        let link = self.link();
        let changed = accounts.operator_link(&self.customer_id) != link.as_ref();
        let effects = accounts.link_by_operator(&self.customer_id, link, context);
        let owner = accounts.owner(&self.customer_id);
        let after = owner.and_then(|owner| owner.clerk_user_id.clone());
        let linked = OperatorLinked {
            changed,
            linked_by: owner.and_then(|owner| owner.linked_by),
            customer_is_known: owner_before.as_ref().is_some_and(|owner| owner.has_facts || owner.newest.is_some()),
            user_is_known: after.as_ref().is_some_and(|user| accounts.rows(user).is_some()),
            before: owner_before.and_then(|owner| owner.clerk_user_id),
            after,
            users_changed: 0,
            refused: false,
        };
        let mut folded = Folded { linked, ..Folded::default() };
        if !changed && effects.is_empty() {
            return folded;
        }
        let users = [&folded.linked.before, &folded.linked.after].into_iter().flatten().map(String::as_str);
        let mut users: BTreeSet<String> = users.chain(self.named_user()).map(str::to_owned).collect();
        users.extend(effects.iter().map(|effect| effect.user_id.clone()));
        let nobody = users.is_empty();
        for owner_id in if nobody { vec![self.customer_id.clone()] } else { users.into_iter().collect() } {
            let own_effects = effects.iter().filter(|effect| effect.user_id == owner_id).cloned().collect();
            let applied = Applied { outcome: Outcome::Applied, reason: Some(self.sentence()), effects: own_effects };
            folded.told.push(Told { applied, in_ledger: true, stand_in: None });
            folded.own_events.push(self.event(owner_id, nobody, context));
        }
        folded
    }

    fn event(&self, owner_id: String, of_customer: bool, context: Context<'_>) -> Event {
        let mut event = job_event(self.event_type(), owner_id, context.now);
        event.object_id = Some(self.customer_id.clone());
        if of_customer {
            event.provider = Provider::Stripe;
            event.clerk_user_ids.clear();
        }
        let payload = json!({"customer_id": self.customer_id, "clerk_user_id": self.named_user(), "reason": self.reason});
        event.payload.text = payload.to_string().into();
        event
    }

    /// Writes the word itself.
    pub(super) async fn record(&self, tx: &mut Tx) -> Result<(), StoreError> {
        write_operator_link(tx, &self.customer_id, self.link().as_ref(), self.reason.as_deref()).await
    }
}
