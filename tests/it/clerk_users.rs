//! What an operator does about users: made from Clerk's API, linked, listed, erased.

mod api;
pub mod ensuring;
mod erasing;
mod linking;
mod listing;
