//! What an operator says of a customer, applied in memory: the link follows at once, and with it the rows of whoever loses
//! or gains the customer.

use crate::domain::billing::accounts::{Accounts, Context};
use crate::domain::billing::rows::Effect;
use crate::domain::billing::stored::OperatorLink;

impl Accounts {
    /// What the operator has said of the customer.
    pub fn operator_link(&self, customer_id: &str) -> Option<&OperatorLink> {
        self.operator_links.get(customer_id)
    }

    /// Sets what the operator says, or with `None` takes it back, and resolves the link anew.
    pub fn link_by_operator(&mut self, customer_id: &str, link: Option<OperatorLink>, context: Context<'_>) -> Vec<Effect> {
        match link {
            Some(link) => self.operator_links.insert(customer_id.to_owned(), link),
            None => self.operator_links.remove(customer_id),
        };
        self.relink(customer_id, context)
    }
}
