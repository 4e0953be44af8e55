//! What a sender is told, each answer provoked by its real cause in a real Postgres, and that a later retry of the same
//! event then succeeds.

mod bodies;
mod crowds;
mod faults;
mod fields;
mod poison;
