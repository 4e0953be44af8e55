//! The one integration binary: every test sees what a user sees, against a real Postgres, or what the pure core makes of
//! a story.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets an error fails")]

mod answers;
mod api;
mod architecture;
mod backup;
mod baseline;
mod batch;
mod clerk_users;
mod cli;
mod committer;
mod convergence;
mod decoding;
mod embedded;
mod http;
mod journeys_in_postgres;
mod journeys_over_http;
mod kill;
mod pooler;
mod readme;
mod rebuild;
mod reconcile;
mod sample_data;
mod schedule;
mod schema;
mod signatures;
mod stories;
mod stripe_api;
mod support;
mod usage;
mod user_profiles;
mod webhooks;
