//! billsync: keeps Postgres equal to what Stripe and Clerk say.

pub mod clerk_api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod embedded_postgres;
pub mod ensure;
pub mod http;
pub mod ingest;
pub mod metrics;
pub mod reconcile;
pub mod schedule;
pub mod store;
pub mod stripe_api;
pub mod telemetry;
