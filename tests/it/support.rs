//! What the tests share: a Postgres for the run and a database per test.

pub mod database;
pub mod wait;

pub use wait::until;
