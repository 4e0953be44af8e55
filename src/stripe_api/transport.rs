//! One attempt over HTTP, on connections that are kept: async-stripe's own client opens one per request, which a backfill
//! would feel.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use stripe_client_core::{RequestBuilder, VERSION};
use thiserror::Error;

use super::ApiError;
use super::answer::true_at;
use crate::clock::Clock;
use crate::config::Secret;

/// The largest answer that is read; a page of a hundred large subscriptions is a few MiB.
const LARGEST_BODY: usize = 64 * 1024 * 1024;
const IDLE_CONNECTIONS: usize = 16;
const STRIPE_VERSION: HeaderName = HeaderName::from_static("stripe-version");

/// The pool of connections, and what every request carries.
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    base: String,
    authorization: HeaderValue,
    version: HeaderValue,
    clock: Clock,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("base", &self.base).finish_non_exhaustive()
    }
}

/// A whole answer, of whatever status.
#[derive(Debug)]
pub(super) struct Attempt {
    pub status: u16,
    pub body: Bytes,
    pub as_of: DateTime<Utc>,
    pub api_version: Option<String>,
    pub retry_after: Option<Duration>,
    /// What Stripe itself says about trying again.
    pub should_retry: Option<bool>,
}

/// Why there was no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Cut {
    #[error("timed out")]
    TimedOut,
    #[error("could not connect")]
    NoConnection,
    #[error("the connection was cut")]
    Broken,
}

impl Transport {
    pub(super) fn new(key: &Secret, base: &str, clock: Clock) -> Result<Transport, ApiError> {
        let base = base.trim_end_matches('/').to_owned();
        base.parse::<Uri>().map_err(|_| ApiError::Settings("the base is not a URL"))?;
        let bearer = format!("Bearer {}", key.expose());
        let mut authorization =
            HeaderValue::try_from(bearer).map_err(|_| ApiError::Settings("the key cannot stand in a header"))?;
        authorization.set_sensitive(true);
        // Named, because another crate of the build may bring a second one, and then there is no default.
        let builder = HttpsConnectorBuilder::new().with_provider_and_webpki_roots(ring::default_provider());
        let builder = builder.map_err(|_| ApiError::Settings("there is no TLS"))?;
        let connector = builder.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Transport { client, base, authorization, version: HeaderValue::from_static(VERSION.as_str()), clock })
    }

    /// Sends the request once and reads the whole answer.
    pub(super) async fn attempt(&self, request: &RequestBuilder, timeout: Duration) -> Result<Attempt, Cut> {
        tokio::time::timeout(timeout, self.exchange(request)).await.unwrap_or(Err(Cut::TimedOut))
    }

    async fn exchange(&self, request: &RequestBuilder) -> Result<Attempt, Cut> {
        let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let request = Request::get(format!("{}/v1{}{query}", self.base, request.path))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(STRIPE_VERSION, self.version.clone())
            .header(USER_AGENT, concat!("billsync/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|_| Cut::NoConnection)?;
        let (began, started) = (self.clock.now(), Instant::now());
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| if error.is_connect() { Cut::NoConnection } else { Cut::Broken })?;
        let round_trip = TimeDelta::from_std(started.elapsed()).unwrap_or(TimeDelta::MAX);
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(|_| Cut::Broken)?.to_bytes();
        let headers = &head.headers;
        let date = text(headers, &DATE).and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.to_utc());
        Ok(Attempt {
            status: head.status.as_u16(),
            body,
            as_of: true_at(began, date, round_trip),
            api_version: text(headers, &STRIPE_VERSION).or(Some(VERSION.as_str())).map(str::to_owned),
            retry_after: text(headers, &RETRY_AFTER).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs),
            should_retry: text(headers, &HeaderName::from_static("stripe-should-retry")).and_then(|said| said.parse().ok()),
        })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
