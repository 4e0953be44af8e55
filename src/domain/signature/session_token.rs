//! Clerk's session tokens: JSON Web Tokens (RFC 7519) signed by RS256 and nothing else. Public keys come as PEM or as a JWK
//! set (RFC 7517). See "Manual JWT verification" in Clerk's documentation.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;
use thiserror::Error;

/// How far the clocks of issuer and verifier may be apart.
const SKEW_SECONDS: i64 = 5;

/// Longer than any session token: they travel in a cookie.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The object identifier of RSA keys, 1.2.840.113549.1.1.1, as DER.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Why a token proves nothing. Carries nothing that its sender wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionTokenError {
    #[error("it is no session token")]
    Malformed,
    /// Anything but RS256, `none` above all.
    #[error("it is not signed by RS256")]
    Algorithm,
    #[error("its key is not known")]
    UnknownKey,
    #[error("its signature does not match")]
    Mismatch,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("it was issued by somebody else")]
    Issuer,
    #[error("it was issued to a party that is not authorized")]
    Party,
    /// Signed in, but with something left to do.
    #[error("its session is pending")]
    Pending,
}

/// Why public keys cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("it is neither a PEM public key nor a JWK set")]
    Malformed,
    #[error("it holds no RSA key of 2048 to 8192 bits")]
    NoKey,
}

/// Whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct SessionRules {
    /// Equal to `iss`.
    pub issuer: String,
    /// One of them is `azp`; when empty, `azp` is not looked at.
    pub authorized_parties: Vec<String>,
}

/// Public keys, each with its id if it has one.
#[derive(Clone, Debug, Default)]
pub struct PublicKeys(Vec<PublicKey>);

#[derive(Clone, Debug)]
struct PublicKey {
    id: Option<String>,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: there is none that we do.
    crit: Option<serde_json::Value>,
}

/// A token taken apart; nothing of it is proven.
struct Parts<'a> {
    /// Header and payload as they were signed.
    signed: &'a str,
    header: Header,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    azp: Option<String>,
    sts: Option<String>,
}

impl PublicKeys {
    /// Reads a PEM public key or a JWK set. Keys of other kinds in a set are left out.
    pub fn parse(text: &str) -> Result<PublicKeys, KeyError> {
        let text = text.trim();
        let keys = if text.starts_with('{') {
            let set: JwkSet = serde_json::from_str(text).map_err(|_| KeyError::Malformed)?;
            set.keys.into_iter().filter_map(PublicKey::from_jwk).collect()
        } else {
            vec![PublicKey::from_pem(text).ok_or(KeyError::Malformed)?]
        };
        let keys: Vec<PublicKey> = keys.into_iter().filter(|key: &PublicKey| (256..=1024).contains(&key.modulus.len())).collect();
        if keys.is_empty() { Err(KeyError::NoKey) } else { Ok(PublicKeys(keys)) }
    }

    /// Verifies a token and gives its subject, the Clerk id of whoever is signed in.
    pub fn verify(&self, token: &str, rules: &SessionRules, now: DateTime<Utc>) -> Result<String, SessionTokenError> {
        let Parts { signed, header, payload, signature } = split(token)?;
        if header.alg != "RS256" || header.crit.is_some() {
            return Err(SessionTokenError::Algorithm);
        }
        let mut candidates =
            self.0.iter().filter(|key| key.id.is_none() || header.kid.is_none() || key.id == header.kid).peekable();
        if candidates.peek().is_none() {
            return Err(SessionTokenError::UnknownKey);
        }
        if !candidates.any(|key| key.has_signed(signed.as_bytes(), &signature)) {
            return Err(SessionTokenError::Mismatch);
        }
        check_claims(&payload, rules, now)
    }
}

fn split(token: &str) -> Result<Parts<'_>, SessionTokenError> {
    let malformed = SessionTokenError::Malformed;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
    let header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
    Ok(Parts { signed, header, payload: decode(payload)?, signature: decode(signature)? })
}

fn check_claims(payload: &[u8], rules: &SessionRules, now: DateTime<Utc>) -> Result<String, SessionTokenError> {
    let claims: Claims = serde_json::from_slice(payload).map_err(|_| SessionTokenError::Malformed)?;
    #[expect(clippy::cast_precision_loss, reason = "seconds of any year that a clock shows are exact")]
    let (earliest, latest) = ((now.timestamp() - SKEW_SECONDS) as f64, (now.timestamp() + SKEW_SECONDS) as f64);
    if claims.exp <= earliest {
        return Err(SessionTokenError::Expired);
    }
    if [claims.nbf, claims.iat].into_iter().flatten().any(|from| from > latest) {
        return Err(SessionTokenError::Early);
    }
    if claims.iss != rules.issuer {
        return Err(SessionTokenError::Issuer);
    }
    let is_authorized = |party: &String| rules.authorized_parties.contains(party);
    if !rules.authorized_parties.is_empty() && !claims.azp.as_ref().is_some_and(is_authorized) {
        return Err(SessionTokenError::Party);
    }
    if claims.sts.as_deref() == Some("pending") {
        return Err(SessionTokenError::Pending);
    }
    if claims.sub.is_empty() { Err(SessionTokenError::Malformed) } else { Ok(claims.sub) }
}

impl PublicKey {
    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
    }

    fn from_jwk(jwk: Jwk) -> Option<PublicKey> {
        let is_for_signatures = jwk.kty == "RSA" && jwk.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
        let number = |text: Option<String>| Some(without_leading_zeros(&URL_SAFE_NO_PAD.decode(text?).ok()?));
        let (modulus, exponent) = (number(jwk.n)?, number(jwk.e)?);
        is_for_signatures.then_some(PublicKey { id: jwk.kid, modulus, exponent })
    }

    /// A `SubjectPublicKeyInfo` (`BEGIN PUBLIC KEY`), or a bare `RSAPublicKey` (`BEGIN RSA PUBLIC KEY`).
    fn from_pem(text: &str) -> Option<PublicKey> {
        let body = text.strip_prefix("-----BEGIN ")?;
        let (label, rest) = body.split_once("-----")?;
        let (encoded, _) = rest.split_once("-----END ")?;
        let encoded: String = encoded.split_whitespace().collect();
        let der = STANDARD.decode(encoded).ok()?;
        match label {
            "PUBLIC KEY" => {
                let (info, _) = element(&der, 0x30)?;
                let (algorithm, rest) = element(info, 0x30)?;
                let (kind, _) = element(algorithm, 0x06)?;
                let (bits, _) = element(rest, 0x03)?;
                PublicKey::from_der(bits.strip_prefix(&[0])?).filter(|_| kind == RSA_ENCRYPTION)
            }
            "RSA PUBLIC KEY" => PublicKey::from_der(&der),
            _ => None,
        }
    }

    fn from_der(der: &[u8]) -> Option<PublicKey> {
        let (numbers, _) = element(der, 0x30)?;
        let (modulus, rest) = element(numbers, 0x02)?;
        let (exponent, _) = element(rest, 0x02)?;
        Some(PublicKey { id: None, modulus: without_leading_zeros(modulus), exponent: without_leading_zeros(exponent) })
    }
}

/// The contents of a DER element of that tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn without_leading_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

#[cfg(test)]
mod tests;
