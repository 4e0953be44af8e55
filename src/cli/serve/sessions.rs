//! What verifies the tokens of signed-in users, by the settings.

use std::sync::Arc;

use anyhow::{Context, bail};

use crate::clerk_api::JwksClient;
use crate::config::{Config, JwtKeys};
use crate::domain::signature::session_token::{PublicKeys, SessionRules};
use crate::http::sessions::Sessions;

/// `None` when no keys are set.
pub fn sessions(config: &Config) -> anyhow::Result<Option<Sessions>> {
    let (Some(keys), Some(issuer)) = (&config.jwt_keys, &config.jwt_issuer) else { return Ok(None) };
    let authorized_parties = config.jwt_authorized_parties.clone();
    if authorized_parties.is_empty() {
        tracing::warn!("BILLSYNC_JWT_AUTHORIZED_PARTIES is not set: sessions of any origin are accepted");
    }
    let rules = SessionRules { issuer: issuer.clone(), authorized_parties };
    let text = match keys {
        JwtKeys::Url(url) => {
            let client = JwksClient::new(url).context("BILLSYNC_JWT_KEYS")?;
            let fetch = move || -> futures_util::future::BoxFuture<'static, Result<String, String>> {
                let client = client.clone();
                Box::pin(async move { client.fetch().await })
            };
            return Ok(Some(Sessions::with_fetched_keys(rules, Arc::new(fetch))));
        }
        JwtKeys::Text(text) => text.clone(),
    };
    match PublicKeys::parse(&text) {
        Ok(keys) => Ok(Some(Sessions::with_keys(rules, keys))),
        Err(error) => bail!("BILLSYNC_JWT_KEYS: {error}"),
    }
}
