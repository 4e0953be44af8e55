//! Signature verification, both schemes, and [`VerifiedBody`]: the proof that a body was verified. No parsing of events.

pub mod session_token;
pub mod standard_webhooks;
pub mod stripe;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// A body whose origin is established: by a signature, or because the operator supplied it.
#[derive(Clone, Debug)]
pub struct VerifiedBody {
    bytes: Bytes,
    secret_index: Option<usize>,
}

impl VerifiedBody {
    /// For what the operator's own files or ledger hold (`replay`) and what an authenticated API call returned.
    pub fn from_operator(bytes: Bytes) -> VerifiedBody {
        VerifiedBody { bytes, secret_index: None }
    }

    /// The raw bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Which of the configured secrets matched, counted from 0: tells when a rolled one is no longer in use.
    pub fn secret_index(&self) -> Option<usize> {
        self.secret_index
    }
}

/// Why a request was not accepted as the provider's. Carries nothing that the sender wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum SignatureError {
    /// A header that the scheme needs is not there, or blank.
    #[error("no {0} header")]
    Missing(&'static str),
    #[error("malformed {0} header")]
    Malformed(&'static str),
    /// No signature of a scheme that we verify.
    #[error("no v1 signature")]
    NoSignature,
    /// No signature matches any configured secret.
    #[error("the signature matches no configured secret")]
    Mismatch,
    /// Genuine, but signed too long ago, or too far ahead of our clock.
    #[error("signed {} s {} our clock", .seconds.abs(), if *.seconds < 0 { "ahead of" } else { "behind" })]
    Stale { seconds: i64 },
}

impl SignatureError {
    /// Every [`SignatureError::reason`].
    pub const REASONS: [&'static str; 5] = ["missing", "malformed", "no_signature", "mismatch", "stale"];

    /// A stable label for metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            SignatureError::Missing(_) => "missing",
            SignatureError::Malformed(_) => "malformed",
            SignatureError::NoSignature => "no_signature",
            SignatureError::Mismatch => "mismatch",
            SignatureError::Stale { .. } => "stale",
        }
    }
}

/// Why a configured secret cannot be used. The value is never part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    #[error("the secret is empty")]
    Empty,
    #[error("nothing follows the whsec_ prefix")]
    OnlyPrefix,
    #[error("what follows the whsec_ prefix is not base64")]
    NotBase64,
}

/// A secret as read from the configuration.
#[derive(Clone, Debug)]
pub struct Parsed<S> {
    pub secret: S,
    /// Whether there was white space around it, which deserves a warning.
    pub trimmed: bool,
}

/// An HMAC-SHA256 key, expanded once. Never shown.
#[derive(Clone)]
struct Key(Hmac<Sha256>);

impl Key {
    fn new(bytes: &[u8]) -> Result<Key, SecretError> {
        Hmac::new_from_slice(bytes).map(Key).map_err(|_| SecretError::Empty)
    }

    /// The code of `parts`, one after the other.
    fn authenticate(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// Longer signature headers are not looked at. Eleven signatures, the most that a provider sends, take 600 bytes.
const LONGEST_HEADER: usize = 4096;

/// The only value of a header. Several are refused: a proxy and we could disagree on which one counts.
fn single_value<'h>(headers: &[(&str, &'h [u8])], name: &'static str) -> Result<&'h [u8], SignatureError> {
    let mut values = headers.iter().filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let value = values.next().filter(|value| !value.trim_ascii().is_empty()).ok_or(SignatureError::Missing(name))?;
    if values.next().is_some() || value.len() > LONGEST_HEADER {
        return Err(SignatureError::Malformed(name));
    }
    Ok(value)
}

/// Digits only: no sign, no fraction, no white space.
fn parse_timestamp(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Checked after a signature matched, so that the answer tells stale from forged. In whole seconds, both ways: a clock that
/// far off is a fault worth seeing.
fn check_age(signed_at: i64, tolerance: Duration, now: DateTime<Utc>) -> Result<(), SignatureError> {
    let seconds = now.timestamp().saturating_sub(signed_at);
    if seconds.unsigned_abs() > tolerance.as_secs() { Err(SignatureError::Stale { seconds }) } else { Ok(()) }
}

/// The first key under which one of the candidates is the code of `parts`. Compares in constant time.
fn find_match<'k>(keys: impl Iterator<Item = &'k Key>, parts: &[&[u8]], candidates: &[[u8; 32]]) -> Option<usize> {
    keys.map(|key| key.authenticate(parts))
        .position(|code| candidates.iter().fold(0, |found, candidate| found | code.ct_eq(candidate).unwrap_u8()) == 1)
}
