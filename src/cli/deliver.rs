//! Delivering one webhook over HTTP like the providers do: signed at the moment of the attempt, to the route of its provider.

pub mod sign;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use reqwest::{Client, StatusCode};
use serde::Deserialize;

use crate::cli::server_address::ServerAddress;
use crate::clock::Clock;
use crate::config::Secret;

/// Clerk waits 15 s for an answer, Stripe longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Where to deliver, and how to sign.
#[derive(Clone, Debug)]
pub struct Courier {
    client: Client,
    server: ServerAddress,
    stripe_secret: Option<Secret>,
    clerk_secret: Option<Secret>,
    clock: Clock,
}

/// One webhook, ready to be signed.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub body: Bytes,
    /// The `svix-id` of Clerk's, whose body has no id; `None` for Stripe's.
    pub message_id: Option<String>,
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Of a 200.
    pub outcome: Option<String>,
    /// Of anything else: what the server says about it.
    pub detail: Option<String>,
    pub took: Duration,
}

#[derive(Deserialize)]
struct Document {
    outcome: Option<String>,
    detail: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Some(outcome) => f.write_str(outcome),
            None => write!(f, "refused with {}", self.status),
        }
    }
}

impl Courier {
    /// Prepares to deliver to that server; nothing is sent yet.
    pub fn new(
        server: &ServerAddress,
        stripe_secret: Option<Secret>,
        clerk_secret: Option<Secret>,
        clock: Clock,
    ) -> anyhow::Result<Courier> {
        Ok(Courier { client: server.client(ANSWER_TIMEOUT)?, server: server.clone(), stripe_secret, clerk_secret, clock })
    }

    /// The server that it delivers to.
    pub fn server(&self) -> &ServerAddress {
        &self.server
    }

    /// Delivers one webhook, once. An error means that there was no answer.
    pub async fn deliver(&self, webhook: &Webhook) -> anyhow::Result<Answer> {
        let at = self.clock.now().timestamp();
        let (route, headers) = match &webhook.message_id {
            None => {
                let secret = self.stripe_secret.as_ref().context("no secret to sign Stripe's events with")?;
                ("webhooks/stripe", vec![("stripe-signature", sign::stripe_signature(secret, at, &webhook.body)?)])
            }
            Some(id) => {
                let secret = self.clerk_secret.as_ref().context("no secret to sign Clerk's events with")?;
                let signature = sign::svix_signature(secret, id, at, &webhook.body)?;
                let headers = vec![("svix-id", id.clone()), ("svix-timestamp", at.to_string()), ("svix-signature", signature)];
                ("webhooks/clerk", headers)
            }
        };
        let mut request = self.client.post(self.server.join(route)?).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let begun = Instant::now();
        let response = request.body(webhook.body.clone()).send().await.map_err(without_address)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(without_address).context("the server's answer broke off")?;
        let document = serde_json::from_slice::<Document>(&bytes).unwrap_or(Document { outcome: None, detail: None });
        let outcome = document.outcome.filter(|word| status == StatusCode::OK && word.bytes().all(|b| b.is_ascii_lowercase()));
        ensure!(outcome.is_some() || !status.is_success(), "what answers there with {} is not billsync", status.as_u16());
        // It is printed on a terminal.
        let detail = document.detail.map(|detail| detail.chars().filter(|c| !c.is_control()).collect());
        Ok(Answer { status: status.as_u16(), outcome, detail, took: begun.elapsed() })
    }
}

/// The address is told by whoever tells of the error.
fn without_address(error: reqwest::Error) -> reqwest::Error {
    error.without_url()
}
