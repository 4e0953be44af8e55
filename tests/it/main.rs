//! The one integration binary: every test sees what a user sees, against a real Postgres, or what the pure core makes of
//! a story.

mod committer;
mod convergence;
mod decoding;
mod http;
mod signatures;
mod stories;
