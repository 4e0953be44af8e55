//! The HTTP side: routes, their answers, and the server that serves them. The only place that knows actix.

pub mod application;
pub mod auth;
mod body;
pub mod end_signals;
mod health;
pub mod problem;
mod request;
pub mod server;
mod usage;
mod webhooks;
