//! The HTTP side: routes, their answers, and the server that serves them. The only place that knows actix.

pub mod application;
pub mod auth;
mod body;
mod discovery;
pub mod end_signals;
mod events;
mod health;
mod input;
mod listing;
pub mod openapi;
mod overview;
mod page;
pub mod problem;
mod request;
pub mod server;
pub mod sessions;
mod usage;
mod users;
mod webhooks;
