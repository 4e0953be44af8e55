//! What the tests share: a Postgres for the run and a database per test, a server in this process or in one of its own,
//! and signed events to send to it.

pub mod database;
pub mod events;
pub mod examples;
pub mod fake_clerk;
pub mod pooler;
pub mod round_trips;
pub mod server;
pub mod service;
pub mod stripe;
pub mod wait;

pub use wait::until;
