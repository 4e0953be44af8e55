//! What the tests share: a Postgres for the run and a database per test, a server in this process,
//! and signed events to send to it.

pub mod database;
pub mod events;
pub mod server;
pub mod wait;

pub use wait::until;
