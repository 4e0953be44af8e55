//! What an operator does about users: made from Clerk's API, linked, listed, erased.

mod api;
mod ensuring;
mod erasing;
mod linking;
