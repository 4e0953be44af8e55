//! The whole application in this process: real sockets, a real database, and a clock that the test sets.

use std::net::SocketAddr;
use std::sync::Arc;

use billsync::clock::Clock;
use billsync::domain::rules::Rules;
use billsync::domain::signature::standard_webhooks::ClerkSecret;
use billsync::domain::signature::stripe::StripeSecret;
use billsync::http::application::Application;
use billsync::http::server::ServerOptions;
use billsync::ingest::committer;
use billsync::store::{Store, StoreSettings};
use chrono::{DateTime, Utc};

use super::database::{TestDatabase, database};
use super::events::{Webhook, customer_created, user_created};
use super::until;
use crate::http::client::{Answer, CLERK_SECRET, STRIPE_SECRET, exchange, get};

/// A running application. Stopping it is optional: it ends with the test's runtime.
#[derive(Debug)]
pub struct TestServer {
    application: Application,
    pub address: SocketAddr,
    pub clock: Clock,
    pub store: Store,
}

/// Where the clock of a test stands at first.
pub fn now() -> DateTime<Utc> {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

/// A server on a database of its own.
pub async fn server() -> (TestServer, TestDatabase) {
    let database = database().await;
    (server_on(&database.url, committer::Options::default()).await, database)
}

/// A server on that database, with those bounds.
pub async fn server_on(database_url: &str, options: committer::Options) -> TestServer {
    let store = Store::connect(&StoreSettings::new(database_url)).await.unwrap();
    let clock = Clock::manual(now());
    let application = Application::start(store.clone(), Arc::new(Rules::default()), clock.clone(), options, server_options());
    let application = application.unwrap();
    TestServer { address: application.addresses()[0], application, clock, store }
}

fn server_options() -> ServerOptions {
    ServerOptions {
        listen: "127.0.0.1:0".into(),
        stripe_secrets: vec![StripeSecret::parse(STRIPE_SECRET).unwrap().secret],
        clerk_secrets: vec![ClerkSecret::parse(CLERK_SECRET).unwrap().secret],
        ..ServerOptions::default()
    }
}

impl TestServer {
    /// Sends a webhook, signed now.
    pub async fn send(&self, webhook: &Webhook) -> Answer {
        exchange(self.address, webhook.request(self.clock.now())).await
    }

    /// Sends a webhook and gives the outcome that a 200 tells.
    pub async fn outcome(&self, webhook: &Webhook) -> String {
        let answer = self.send(webhook).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["outcome"].as_str().unwrap().to_owned()
    }

    /// Makes users `from..to`, each with a customer linked to it.
    pub async fn link_users(&self, from: u32, to: u32) {
        for number in from..to {
            assert_eq!(self.outcome(&user_created(number, self.clock.now())).await, "applied");
            assert_eq!(self.outcome(&customer_created(number, self.clock.now())).await, "applied");
        }
    }

    pub async fn is_ready(&self) -> bool {
        get(self.address, "/readyz").await.status == 200
    }

    /// Waits until `/readyz` is that.
    pub async fn until_ready(&self, ready: bool) {
        until("readiness follows the database", async || self.is_ready().await == ready).await;
    }

    /// Ends it in order.
    pub async fn stop(self) {
        self.application.stop().await.unwrap();
    }
}
