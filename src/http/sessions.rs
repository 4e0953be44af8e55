//! Signed-in users as callers: whose session a token is, by public keys that are given or fetched.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use crate::domain::signature::session_token::{PublicKeys, SessionRules, SessionTokenError};

/// How long fetched keys are used before they are fetched anew.
const KEYS_LAST: TimeDelta = TimeDelta::hours(1);

/// How long a fetch is not repeated, whoever asks: anyone can send a token that names an unknown key.
const FETCHES_APART: TimeDelta = TimeDelta::seconds(60);

/// Fetches a JWK set; the error is for the log.
pub type FetchKeys = Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Verifies session tokens. Clones share what was fetched.
#[derive(Clone)]
pub struct Sessions {
    rules: SessionRules,
    keys: Keys,
}

#[derive(Clone)]
enum Keys {
    Given(Arc<PublicKeys>),
    Fetched { fetch: FetchKeys, cache: Arc<Mutex<Cache>> },
}

#[derive(Default)]
struct Cache {
    keys: Arc<PublicKeys>,
    tried_at: Option<DateTime<Utc>>,
    fetched_at: Option<DateTime<Utc>>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Sessions {
    /// With keys that do not change while the process runs.
    pub fn with_keys(rules: SessionRules, keys: PublicKeys) -> Sessions {
        Sessions { rules, keys: Keys::Given(Arc::new(keys)) }
    }

    /// With keys that are fetched when they are needed, and again when one is missing or they are old.
    pub fn with_fetched_keys(rules: SessionRules, fetch: FetchKeys) -> Sessions {
        Sessions { rules, keys: Keys::Fetched { fetch, cache: Arc::default() } }
    }

    /// The Clerk id of whoever is signed in with that token.
    pub async fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<String, SessionTokenError> {
        match &self.keys {
            Keys::Given(keys) => keys.verify(token, &self.rules, now),
            Keys::Fetched { fetch, cache } => {
                let known = current(fetch, cache, now, false).await;
                match known.verify(token, &self.rules, now) {
                    Err(SessionTokenError::UnknownKey) => current(fetch, cache, now, true).await.verify(token, &self.rules, now),
                    other => other,
                }
            }
        }
    }
}

/// The keys, fetched anew if they are old, or if one is missing. When the fetch fails, those that were there go on being used.
async fn current(fetch: &FetchKeys, cache: &Mutex<Cache>, now: DateTime<Utc>, one_is_missing: bool) -> Arc<PublicKeys> {
    let mut cache = cache.lock().await;
    let is_old = cache.fetched_at.is_none_or(|at| now - at >= KEYS_LAST);
    let may_fetch = cache.tried_at.is_none_or(|at| now - at >= FETCHES_APART);
    if may_fetch && (is_old || one_is_missing) {
        cache.tried_at = Some(now);
        let fetched = fetch().await.and_then(|text| PublicKeys::parse(&text).map_err(|error| error.to_string()));
        match fetched {
            Ok(keys) => {
                cache.keys = Arc::new(keys);
                cache.fetched_at = Some(now);
            }
            Err(cause) => tracing::warn!(%cause, "could not fetch the keys of session tokens"),
        }
    }
    Arc::clone(&cache.keys)
}
