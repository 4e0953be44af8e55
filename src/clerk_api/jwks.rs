//! The public keys of session tokens: a JWK set at an address that needs no key of ours.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::clerk_api::{ClerkApiError, is_loopback, tls};

/// Longest set that is read.
const LONGEST_SET: usize = 1024 * 1024;

/// From connecting to the last byte: a request waits for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client of one JWK set.
#[derive(Clone, Debug)]
pub struct JwksClient {
    client: Client,
    url: Url,
}

impl JwksClient {
    /// Prepares a client; nothing is sent yet.
    pub fn new(url: &str) -> Result<JwksClient, ClerkApiError> {
        let url = Url::parse(url).map_err(|_| ClerkApiError::Unusable("the address of the JWK set is not a URL"))?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls()?)
            .redirect(Policy::none())
            .timeout(TIMEOUT)
            .user_agent(concat!("billsync/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|_| ClerkApiError::Unusable("the HTTP client cannot be made"))?;
        Ok(JwksClient { client, url })
    }

    /// The set as text; the error is for the log.
    pub async fn fetch(&self) -> Result<String, String> {
        let mut response = self.client.get(self.url.clone()).send().await.map_err(|error| error.without_url().to_string())?;
        if !response.status().is_success() {
            return Err(format!("answered {}", response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST_SET {
                return Err("the set is too long".to_owned());
            }
        }
        String::from_utf8(bytes).map_err(|_| "the set is not UTF-8".to_owned())
    }
}
