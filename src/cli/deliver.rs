//! Delivering one webhook over HTTP like the providers do: signed at the moment of the attempt, to the route of its provider.

pub mod sign;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use reqwest::{Client, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use crate::clock::Clock;
use crate::config::Secret;

/// Clerk waits 15 s for an answer, Stripe longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Where to deliver, and how to sign.
#[derive(Clone, Debug)]
pub struct Courier {
    client: Client,
    /// Ends in a slash.
    base: Url,
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
    /// Prepares to deliver to the server at `to`; nothing is sent yet. Of `to` the webhook's own path may be part.
    pub fn new(to: &str, stripe_secret: Option<Secret>, clerk_secret: Option<Secret>, clock: Clock) -> anyhow::Result<Courier> {
        let base = base_of(to)?;
        let mut builder = Client::builder().timeout(ANSWER_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if base.host_str().is_some_and(is_loopback) {
            // What is sent to this machine is nothing for a proxy.
            builder = builder.no_proxy();
        }
        if base.scheme() == "https" {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            builder =
                builder.tls_backend_preconfigured(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        }
        let client = builder.build().context("the HTTP client cannot be made")?;
        Ok(Courier { client, base, stripe_secret, clerk_secret, clock })
    }

    /// The server that it delivers to, for people: without what an address may hold of a user's name and password.
    pub fn server(&self) -> Url {
        let mut shown = self.base.clone();
        // An address without a host is none.
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        shown
    }

    /// Whether that server is on this machine.
    pub fn is_local(&self) -> bool {
        self.base.host_str().is_some_and(is_loopback)
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
        let mut request = self.client.post(self.base.join(route)?).header("content-type", "application/json");
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

fn base_of(to: &str) -> anyhow::Result<Url> {
    let wrong = || format!("{to:?} is no address of a server, such as http://127.0.0.1:8787");
    let mut url =
        Url::parse(to).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).with_context(wrong)?;
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/webhooks/stripe").or_else(|| path.strip_suffix("/webhooks/clerk")).unwrap_or(path);
    let path = format!("{path}/");
    url.set_path(&path);
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_name_the_route_or_a_prefix() {
        for (given, base) in [
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787/"),
            ("http://h/webhooks/stripe", "http://h/"),
            ("https://h/billing/webhooks/clerk/", "https://h/billing/"),
            ("https://h/billing?x=1#y", "https://h/billing/"),
        ] {
            assert_eq!(base_of(given).expect("an address").as_str(), base, "{given}");
        }
        for wrong in ["", "127.0.0.1:8787", "ftp://h", "http://", "postgres://h"] {
            assert!(base_of(wrong).is_err(), "{wrong}");
        }
        assert!(is_loopback("127.0.0.1") && is_loopback("[::1]") && is_loopback("localhost") && !is_loopback("example.com"));
    }
}
