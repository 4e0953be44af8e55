//! Clerk's signature scheme (Svix, Standard Webhooks): id, timestamp and a list of signatures in three headers, under the
//! `svix-` or the `webhook-` names. Only the symmetric `v1` is verified.

use std::time::Duration;

use base64::alphabet::STANDARD as STANDARD_ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Key, Parsed, SecretError, SignatureError, VerifiedBody, check_age, find_match, parse_timestamp, single_value};

const PREFIX: &str = "whsec_";
/// Svix allows its ids 256 characters and uses 31.
const LONGEST_MESSAGE_ID: usize = 255;

/// An endpoint's signing secret.
#[derive(Clone, Debug)]
pub struct ClerkSecret(Key);

impl ClerkSecret {
    /// Reads a secret from the configuration: base64, padded or not, after an optional `whsec_`.
    pub fn parse(text: &str) -> Result<Parsed<ClerkSecret>, SecretError> {
        let secret = text.trim();
        let encoded = secret.strip_prefix(PREFIX).unwrap_or(secret);
        if encoded.is_empty() {
            return Err(if secret.is_empty() { SecretError::Empty } else { SecretError::OnlyPrefix });
        }
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let engine = GeneralPurpose::new(&STANDARD_ALPHABET, config);
        let key = engine.decode(encoded).map_err(|_| SecretError::NotBase64)?;
        Ok(Parsed { secret: ClerkSecret(Key::new(&key)?), trimmed: secret.len() != text.len() })
    }
}

/// A verified request: the body has no id of its own, the header's is the event's.
#[derive(Clone, Debug)]
pub struct VerifiedMessage {
    pub id: String,
    pub body: VerifiedBody,
}

/// The names of the three headers.
struct Family {
    id: &'static str,
    timestamp: &'static str,
    signature: &'static str,
}

const SVIX: Family = Family { id: "svix-id", timestamp: "svix-timestamp", signature: "svix-signature" };
const WEBHOOK: Family = Family { id: "webhook-id", timestamp: "webhook-timestamp", signature: "webhook-signature" };

impl Family {
    /// The `svix-` names decide as soon as one of them is there: two families must not be mixed into one message.
    fn of(headers: &[(&str, &[u8])]) -> Family {
        let is_svix = |name: &str| [SVIX.id, SVIX.timestamp, SVIX.signature].iter().any(|known| name.eq_ignore_ascii_case(known));
        if headers.iter().any(|(name, _)| is_svix(name)) { SVIX } else { WEBHOOK }
    }
}

/// Verifies a request. `headers` may be all headers of the request, by any case of their names.
pub fn verify(
    headers: &[(&str, &[u8])],
    body: Bytes,
    secrets: &[ClerkSecret],
    tolerance: Duration,
    now: DateTime<Utc>,
) -> Result<VerifiedMessage, SignatureError> {
    let family = Family::of(headers);
    let id = single_value(headers, family.id)?;
    let timestamp = single_value(headers, family.timestamp)?;
    let signatures = single_value(headers, family.signature)?;
    let text = std::str::from_utf8(id).ok().filter(|text| is_message_id(text)).ok_or(SignatureError::Malformed(family.id))?;
    let signed_at = parse_timestamp(timestamp).ok_or(SignatureError::Malformed(family.timestamp))?;
    let mut codes = signatures.split(|byte| *byte == b' ').filter_map(|entry| entry.strip_prefix(b"v1,")).peekable();
    if codes.peek().is_none() {
        return Err(SignatureError::NoSignature);
    }
    let candidates: Vec<[u8; 32]> = codes.filter_map(parse_code).collect();
    let parts: [&[u8]; 5] = [id, b".", timestamp, b".", &body];
    let matched = find_match(secrets.iter().map(|secret| &secret.0), &parts, &candidates).ok_or(SignatureError::Mismatch)?;
    check_age(signed_at, tolerance, now)?;
    Ok(VerifiedMessage { id: text.to_owned(), body: VerifiedBody { bytes: body, secret_index: Some(matched) } })
}

/// The id becomes the event's, by which a repetition is known, so it has to be kept exactly as it was signed.
fn is_message_id(text: &str) -> bool {
    text.len() <= LONGEST_MESSAGE_ID && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Padded base64, as providers write it.
fn parse_code(text: &[u8]) -> Option<[u8; 32]> {
    // The buffer has to hold what the decoder estimates, which is more than 32.
    let mut buffer = [0; 64];
    if text.len() != 44 || STANDARD.decode_slice(text, &mut buffer).ok()? != 32 {
        return None;
    }
    buffer.first_chunk().copied()
}
