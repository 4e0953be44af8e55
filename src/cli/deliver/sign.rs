//! Signing like the providers do, for events that we send ourselves.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::Secret;

/// The `Stripe-Signature` header of a body: the key is the whole secret, prefix included.
pub fn stripe_signature(secret: &Secret, at_seconds: i64, body: &[u8]) -> anyhow::Result<String> {
    let signature = mac(secret.expose().as_bytes(), &[at_seconds.to_string().as_bytes(), b".", body])?;
    Ok(format!("t={at_seconds},v1={}", hex::encode(signature)))
}

/// The `svix-signature` header of a body: the key is the secret's base64, without the prefix.
pub fn svix_signature(secret: &Secret, id: &str, at_seconds: i64, body: &[u8]) -> anyhow::Result<String> {
    let encoded = secret.expose().strip_prefix("whsec_").unwrap_or(secret.expose()).trim_end_matches('=');
    let key = base64::engine::general_purpose::STANDARD_NO_PAD.decode(encoded)?;
    let signature = mac(&key, &[id.as_bytes(), b".", at_seconds.to_string().as_bytes(), b".", body])?;
    Ok(format!("v1,{}", STANDARD.encode(signature)))
}

fn mac(key: &[u8], parts: &[&[u8]]) -> anyhow::Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signatures_are_those_of_the_providers_own_libraries() {
        let stripe = stripe_signature(&Secret::new("whsec_test_secret"), 1_700_000_000, "{\"a\":\"é🦀\"}".as_bytes());
        assert_eq!(stripe.expect("signs"), "t=1700000000,v1=71a1ebee3fc28e4516f50a99b8804aadb2376e0fe8dea197982caed9388c5f9a");
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let svix = svix_signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(svix.expect("signs"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
