//! The API as its callers see it: over HTTP, against a real Postgres.

mod campaigns;
mod description;
mod events;
mod filters;
mod infinity;
mod items;
mod jobs;
mod key_set;
mod own_rows;
mod parameters;
mod pooled;
mod profiles;
mod sessions;
mod strictness;
mod updates;

use std::net::SocketAddr;
use std::sync::Arc;

use billsync::clock::Clock;
use billsync::domain::event::Event;
use billsync::domain::rules::Rules;
use billsync::http::application::Application;
use billsync::http::auth::ApiToken;
use billsync::http::server::ServerOptions;
use billsync::ingest::committer;
use billsync::store::{Store, StoreSettings};
use serde_json::Value;

use crate::batch::{Bench, at, clerk_user, customer, stripe_event};
use crate::http::client::{Answer, exchange};
use crate::stories::journey::catalog;
use crate::support::database::database;

pub const TOKEN: &str = "an-api-token-of-thirty-two-characters";

/// A running API in front of a database of its own, with the stories' catalog.
pub struct Api {
    pub bench: Bench,
    pub address: SocketAddr,
    _application: Application,
}

/// An API on a bench of its own.
pub async fn api() -> Api {
    api_with(|_options| {}).await
}

/// The same with other options.
pub async fn api_with(change: impl FnOnce(&mut ServerOptions)) -> Api {
    api_on(|url| StoreSettings::new(url), change).await
}

/// The same on a store with other settings.
pub async fn api_on(settings: impl FnOnce(&str) -> StoreSettings, change: impl FnOnce(&mut ServerOptions)) -> Api {
    let database = database().await;
    let store = Store::connect(&settings(&database.url)).await.unwrap();
    store.apply_plans(catalog(None).plans()).await.unwrap();
    let bench = Bench { database, store, rules: Rules::default(), clock: Clock::manual(at("2026-03-10T12:00:00Z")) };
    let mut options = ServerOptions {
        listen: "127.0.0.1:0".into(),
        store: Some(bench.store.clone()),
        api_tokens: vec![ApiToken::new("test", TOKEN).unwrap()],
        ..ServerOptions::default()
    };
    change(&mut options);
    let rules = Arc::new(bench.rules.clone());
    let application =
        Application::start(bench.store.clone(), rules, bench.clock.clone(), committer::Options::default(), options).unwrap();
    Api { address: application.addresses()[0], bench, _application: application }
}

impl Api {
    /// Commits events one after the other.
    pub async fn commit(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.bench.commit(&[Arc::new(event)]).await;
        }
    }

    /// Users `from..to` as Clerk made them.
    pub async fn users(&self, from: u32, to: u32) {
        let events: Vec<_> = (from..to).map(|number| Arc::new(clerk_user(number))).collect();
        self.bench.commit(&events).await;
    }

    /// Gives a user a Stripe customer of the same number.
    pub async fn link(&self, number: u32) {
        let at = self.bench.clock.now().timestamp();
        self.commit([stripe_event(&format!("evt_cus_{number}"), "customer.created", at, &customer(number))]).await;
    }

    /// A request with the application's token.
    pub async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send_as(TOKEN, method, path, body).await
    }

    /// A request with another token.
    pub async fn send_as(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(self.address, request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    /// The JSON of a 200.
    pub async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// The JSON of a 2xx.
    pub async fn write(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.send(method, path, &body.to_string()).await;
        assert!((200..300).contains(&answer.status), "{method} {path} {body}: {answer:?}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// Asserts that a request is refused with that status, naming that parameter.
    pub async fn refuses(&self, method: &str, path: &str, body: &str, status: u16, parameter: &str) {
        let answer = self.send(method, path, body).await;
        let detail = answer.problem(status);
        let named = answer.json()["parameter"].as_str().map(str::to_owned);
        assert_eq!(named.as_deref(), Some(parameter), "{method} {path} {body}: {detail}");
        assert!(detail.contains(parameter), "{method} {path} {body}: {detail}");
    }

    /// Every row of a list, page by page.
    pub async fn all_pages(&self, path: &str, limit: usize) -> Vec<Value> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.read(&format!("{path}{joint}limit={limit}{cursor}")).await;
            let data = page["data"].as_array().unwrap().clone();
            assert!(data.len() <= limit, "{path}");
            rows.extend(data);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    }
}
