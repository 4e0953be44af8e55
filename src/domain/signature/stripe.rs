//! Stripe's signature scheme: `Stripe-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>…]`, see "Verify webhook signatures
//! manually" in Stripe's documentation. Strict where Stripe's own libraries disagree with each other.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Key, Parsed, SecretError, SignatureError, VerifiedBody, check_age, find_match, parse_timestamp, single_value};

/// The header that carries timestamp and signatures.
pub const SIGNATURE_HEADER: &str = "stripe-signature";

/// An endpoint's signing secret.
#[derive(Clone, Debug)]
pub struct StripeSecret(Key);

impl StripeSecret {
    /// Reads a secret from the configuration. The key is the whole string, prefix included.
    pub fn parse(text: &str) -> Result<Parsed<StripeSecret>, SecretError> {
        let secret = text.trim();
        match secret {
            "" => Err(SecretError::Empty),
            "whsec_" => Err(SecretError::OnlyPrefix),
            _ => Ok(Parsed { secret: StripeSecret(Key::new(secret.as_bytes())?), trimmed: secret.len() != text.len() }),
        }
    }
}

/// Verifies a request. `headers` may be all headers of the request, by any case of their names.
pub fn verify(
    headers: &[(&str, &[u8])],
    body: Bytes,
    secrets: &[StripeSecret],
    tolerance: Duration,
    now: DateTime<Utc>,
) -> Result<VerifiedBody, SignatureError> {
    let header = single_value(headers, SIGNATURE_HEADER)?;
    let malformed = SignatureError::Malformed(SIGNATURE_HEADER);
    let mut timestamp = None;
    let mut has_signature = false;
    let mut candidates = Vec::new();
    for part in header.split(|byte| *byte == b',') {
        if let Some(digits) = part.strip_prefix(b"t=") {
            if timestamp.replace(digits).is_some() {
                return Err(malformed);
            }
        } else if let Some(code) = part.strip_prefix(b"v1=") {
            has_signature = true;
            candidates.extend(parse_code(code));
        }
    }
    let timestamp = timestamp.ok_or(malformed)?;
    let signed_at = parse_timestamp(timestamp).ok_or(malformed)?;
    if !has_signature {
        return Err(SignatureError::NoSignature);
    }
    let parts: [&[u8]; 3] = [timestamp, b".", &body];
    let matched = find_match(secrets.iter().map(|secret| &secret.0), &parts, &candidates).ok_or(SignatureError::Mismatch)?;
    check_age(signed_at, tolerance, now)?;
    Ok(VerifiedBody { bytes: body, secret_index: Some(matched) })
}

/// Lower-case hexadecimal, as Stripe writes it.
fn parse_code(text: &[u8]) -> Option<[u8; 32]> {
    if text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut code = [0; 32];
    hex::decode_to_slice(text, &mut code).ok()?;
    Some(code)
}
