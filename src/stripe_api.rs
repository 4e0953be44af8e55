//! The only caller of Stripe's API. Answers are handed on as the text that Stripe sent, for the decoders that webhooks have
//! too; what is known here is how to ask: pages, pace, retries, and when an answer was true. Nothing is ever written.

mod answer;
mod error;
mod pace;
mod request;
mod retry;
mod scopes;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::Secret;

pub use self::answer::Read;
pub use self::error::ApiError;
pub use self::request::{Filter, Resource};
pub use self::scopes::MissingScope;

use self::answer::Answer;
use self::pace::Pace;
use self::request::Request;
use self::transport::Transport;

/// Where Stripe is, unless a setting says otherwise.
pub const DEFAULT_BASE: &str = "https://api.stripe.com";

/// How Stripe is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// `https://api.stripe.com`, or a test's own.
    pub base: String,
    /// At most; fewer for a while after Stripe said that it was too many.
    pub requests_per_second: u32,
    /// Requests under way at a time.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// Attempts of one request, the first included.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles from there, up to [`Options::longest_backoff`].
    pub backoff: Duration,
    pub longest_backoff: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            base: DEFAULT_BASE.to_owned(),
            requests_per_second: 20,
            concurrency: 8,
            attempt_timeout: Duration::from_secs(30),
            attempts: 6,
            backoff: Duration::from_millis(500),
            longest_backoff: Duration::from_secs(16),
        }
    }
}

/// Stripe's API under one key. Cheap to clone; all clones share connections and pace.
#[derive(Clone)]
pub struct StripeApi {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    options: Options,
    pace: Pace,
    places: Semaphore,
}

impl fmt::Debug for StripeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeApi").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

/// Some of a list, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    pub objects: Vec<Read>,
    /// Where the next page starts; `None` on the last one.
    pub next: Option<String>,
}

impl StripeApi {
    /// Prepares the client; nothing is asked yet.
    pub fn new(key: &Secret, options: Options, clock: Clock) -> Result<StripeApi, ApiError> {
        let transport = Transport::new(key, &options.base, clock)?;
        let pace = Pace::new(options.requests_per_second);
        let places = Semaphore::new(options.concurrency.max(1));
        Ok(StripeApi { inner: Arc::new(Inner { transport, options, pace, places }) })
    }

    /// One object; `None` when Stripe does not know it. A deleted one is a stub that says so.
    pub async fn fetch(&self, resource: Resource, id: &str) -> Result<Option<Read>, ApiError> {
        if !request::is_plain_id(id) {
            return Ok(None);
        }
        match self.ask(Request::Retrieve { resource, id }).await {
            Ok(answer) => Ok(Some(answer.into_read()?)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A page of a list: the first, or the one after an object.
    pub async fn fetch_page(&self, resource: Resource, filter: &Filter, after: Option<&str>) -> Result<Page, ApiError> {
        let answer = self.ask(Request::List { resource, filter, after }).await?;
        read_page(&answer)
    }

    /// All pages of a list that is known to be short, such as a customer's subscriptions.
    pub async fn fetch_all(&self, resource: Resource, filter: &Filter) -> Result<Vec<Read>, ApiError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.fetch_page(resource, filter, after.as_deref()).await?;
            all.extend(page.objects);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// What the key may not read of what reconciling needs; empty when it may read everything.
    pub async fn find_missing_scopes(&self) -> Result<Vec<MissingScope>, ApiError> {
        scopes::find_missing(self).await
    }
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Identified {
    id: String,
}

fn read_page(answer: &Answer) -> Result<Page, ApiError> {
    let unreadable = || ApiError::Unreadable { path: answer.path.clone() };
    let text = answer.text()?;
    let list: List<'_> = serde_json::from_str(text).map_err(|_| unreadable())?;
    let last = match list.data.last() {
        Some(last) if list.has_more => Some(serde_json::from_str::<Identified>(last.get()).map_err(|_| unreadable())?.id),
        _ => None,
    };
    let objects = list.data.into_iter().map(|object| answer.read_of(object.get())).collect();
    Ok(Page { objects, next: last })
}
