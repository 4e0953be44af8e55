//! The one integration binary: every test sees what a user sees, against a real Postgres.

mod committer;
mod decoding;
mod http;
mod signatures;
