//! What events mean: facts in, rows out. `accounts` is the fold that ties the others together.

pub mod access;
pub mod accounts;
pub mod card;
pub mod clerk_billing;
pub mod contest;
pub mod customer_facts;
pub mod differences;
pub mod effects;
pub mod email_schedule;
pub mod facts;
pub mod invoice_index;
pub mod linking;
pub mod ordering;
pub mod plan;
pub mod projection;
pub mod rows;
pub mod stored;
pub mod subscription;
pub mod trial;
pub mod usage_period;
