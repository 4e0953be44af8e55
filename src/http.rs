//! The HTTP side: routes, their answers, and the server that serves them. The only place that knows actix.

pub mod application;
pub mod auth;
mod body;
pub mod end_signals;
mod events;
mod health;
mod input;
pub mod openapi;
mod page;
pub mod problem;
mod request;
pub mod server;
mod usage;
mod users;
mod webhooks;
