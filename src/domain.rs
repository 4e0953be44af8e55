//! The pure core: no async, SQL, HTTP, clock or environment. Time is an argument.

pub mod billing;
pub mod clerk;
pub mod discovery;
pub mod erasure;
pub mod event;
pub mod import;
pub mod json_text;
pub mod rules;
pub mod signature;
pub mod stripe;
pub mod user_profile;
