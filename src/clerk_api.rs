//! Clerk's Backend API, and the only caller of it: users, one by one and page by page. What is read goes on as text; what it
//! means is the decoder's business. The key is shown to nobody but Clerk.

mod error;
mod jwks;
mod pace;
mod request;
mod users;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::{ClientConfig, RootCertStore};

use crate::clerk_api::pace::Pace;
use crate::clock::Clock;
use crate::config::Secret;

pub use crate::clerk_api::error::ClerkApiError;
pub use crate::clerk_api::jwks::JwksClient;
pub use crate::clerk_api::users::{FetchedUser, MOST_IDS, UserCursor, UserPage};

/// Where Clerk's API is, unless a setting says otherwise.
pub const DEFAULT_BASE: &str = "https://api.clerk.com";

/// The bounds of a [`ClerkApi`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests are at least this far apart: 8 a second, below the 10 that Clerk allows to an instance in development.
    pub interval: Duration,
    /// How often a request is tried before it is given up.
    pub attempts: u32,
    /// After the first try; doubles from try to try, and is jittered by half.
    pub first_delay: Duration,
    /// The longest wait between two tries, also where Clerk asks for more: then the request is given up.
    pub longest_delay: Duration,
    /// Of one try, from connecting to the last byte.
    pub timeout: Duration,
    /// Users of a page; Clerk's limit is 500.
    pub page_size: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            interval: Duration::from_millis(125),
            attempts: 6,
            first_delay: Duration::from_millis(250),
            longest_delay: Duration::from_secs(60),
            timeout: Duration::from_secs(20),
            page_size: 200,
        }
    }
}

/// A client of Clerk's API. Clones share connections and pace.
#[derive(Clone)]
pub struct ClerkApi {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    base: Url,
    key: Secret,
    options: Options,
    pace: Pace,
    clock: Clock,
}

impl fmt::Debug for ClerkApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClerkApi").field("base", &self.inner.base.as_str()).finish_non_exhaustive()
    }
}

impl ClerkApi {
    /// Prepares a client; nothing is sent yet. `base` is [`DEFAULT_BASE`] but in tests.
    pub fn new(key: Secret, base: &str, options: Options, clock: Clock) -> Result<ClerkApi, ClerkApiError> {
        let base = Url::parse(base).map_err(|_| ClerkApiError::Unusable("CLERK_API_BASE is not a URL"))?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls()?)
            // Whoever answers with a redirect would be sent the key.
            .redirect(Policy::none())
            .timeout(options.timeout)
            .user_agent(concat!("billsync/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|_| ClerkApiError::Unusable("the HTTP client cannot be made"))?;
        let pace = Pace::new(options.interval);
        Ok(ClerkApi { inner: Arc::new(Inner { client, base, key, options, pace, clock }) })
    }

    /// Whether Clerk accepts the key: one small read, tried once.
    pub async fn check_key(&self) -> Result<(), ClerkApiError> {
        let mut url = self.url(&["v1", "users"])?;
        url.query_pairs_mut().append_pair("limit", "1");
        self.get_once(&url).await.map(|_answer| ()).map_err(|failure| failure.into_error(1))
    }

    fn url(&self, path: &[&str]) -> Result<Url, ClerkApiError> {
        let mut url = self.inner.base.clone();
        let unusable = || ClerkApiError::Unusable("CLERK_API_BASE cannot have a path appended");
        url.path_segments_mut().map_err(|()| unusable())?.pop_if_empty().extend(path);
        Ok(url)
    }
}

/// Mozilla's roots are compiled in, so that a container without a certificate store works too.
fn tls() -> Result<ClientConfig, ClerkApiError> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| ClerkApiError::Unusable("TLS cannot be set up"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn is_loopback(base: &Url) -> bool {
    base.host_str().is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127."))
}
