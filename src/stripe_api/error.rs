//! What can go wrong with a request. No error holds the key or anything of an object.

use std::fmt::Display;

use stripe_client_core::StripeClientErr;
use thiserror::Error;

/// Why Stripe gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    #[error("STRIPE_API_BASE or STRIPE_API_KEY cannot be used: {0}")]
    Settings(&'static str),
    #[error("Stripe does not accept STRIPE_API_KEY")]
    Unauthorized,
    #[error("STRIPE_API_KEY may not read {path}: give the restricted key the permission {permission}")]
    MissingScope { path: String, permission: String },
    #[error("Stripe does not know {path}")]
    NotFound { path: String },
    #[error("Stripe refused {path} with {status}{}", code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused { path: String, status: u16, code: Option<String> },
    #[error("Stripe gave no answer to {path} in {attempts} attempts, at last: {cause}")]
    Exhausted { path: String, attempts: u32, cause: String },
    #[error("Stripe's answer to {path} cannot be read")]
    Unreadable { path: String },
}

impl ApiError {
    /// Whether what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ApiError::NotFound { .. })
    }

    /// Whether the same request can succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, ApiError::Exhausted { .. })
    }
}

impl StripeClientErr for ApiError {
    fn deserialize_err(_message: impl Display) -> Self {
        ApiError::Unreadable { path: String::new() }
    }
}
