//! The demo's signing secrets: the configured ones, else random ones that a file in `BILLSYNC_HOME` keeps, so that the
//! address which the demo prints can go on being used with them.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::{Config, Secret};

const FILE: &str = "demo-secrets.toml";

#[derive(Serialize, Deserialize)]
struct SecretsFile {
    stripe_webhook_secrets: String,
    clerk_webhook_secrets: String,
}

/// Gives the configuration the secrets that it lacks. Returns the file that holds them, if they are not configured.
pub fn complete(config: &mut Config) -> anyhow::Result<Option<PathBuf>> {
    if !config.stripe_webhook_secrets.is_empty() && !config.clerk_webhook_secrets.is_empty() {
        return Ok(None);
    }
    let path = config.home.join(FILE);
    let secrets = read_or_make(&config.home, &path).with_context(|| path.display().to_string())?;
    if config.stripe_webhook_secrets.is_empty() {
        config.stripe_webhook_secrets = vec![Secret::new(secrets.stripe_webhook_secrets)];
    }
    if config.clerk_webhook_secrets.is_empty() {
        config.clerk_webhook_secrets = vec![Secret::new(secrets.clerk_webhook_secrets)];
    }
    Ok(Some(path))
}

/// The secrets that a demo in this folder keeps, if one ran there: Stripe's and Clerk's.
pub fn find(home: &Path) -> Option<(Secret, Secret)> {
    let text = std::fs::read_to_string(home.join(FILE)).ok()?;
    let file: SecretsFile = toml::from_str(&text).ok()?;
    Some((Secret::new(file.stripe_webhook_secrets), Secret::new(file.clerk_webhook_secrets)))
}

fn read_or_make(home: &Path, path: &Path) -> anyhow::Result<SecretsFile> {
    match std::fs::read_to_string(path) {
        Ok(text) => return toml::from_str(&text).map_err(|_| anyhow::anyhow!("not what the demo wrote; remove the file")),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let secrets = SecretsFile { stripe_webhook_secrets: random_secret(), clerk_webhook_secrets: random_secret() };
    let text = format!("# Made by `billsync demo`; for trying only.\n{}", toml::to_string(&secrets)?);
    std::fs::create_dir_all(home)?;
    // Written aside and moved into place, so that another demo never reads half of it.
    let aside = home.join(format!(".{FILE}.{}", Uuid::new_v4()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    std::fs::rename(&aside, path)?;
    Ok(secrets)
}

/// 256 bits in the form that both providers use. Version 4 UUIDs come from the operating system's random source.
fn random_secret() -> String {
    let bytes = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
    format!("whsec_{}", STANDARD.encode(bytes))
}
