//! Session tokens against a key pair made for these tests with OpenSSL, which also signed the vector.

use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use super::*;

const PRIVATE_KEY: &str = include_str!("tests/private_key.pem");
const PUBLIC_KEY: &str = include_str!("tests/public_key.pem");
const RSA_PUBLIC_KEY: &str = include_str!("tests/rsa_public_key.pem");
const MODULUS: &str = include_str!("tests/modulus.txt");

/// Signed by OpenSSL: kid `ins_1`, `user_1`, 2026-03-10T12:00:00Z to 12:01:00Z.
const VECTOR: &str = include_str!("tests/token.txt");

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn now() -> DateTime<Utc> {
    at("2026-03-10T12:00:30Z")
}

fn rules() -> SessionRules {
    SessionRules { issuer: "https://clerk.example.com".into(), authorized_parties: vec!["https://app.example.com".into()] }
}

fn claims() -> Value {
    json!({"iss": "https://clerk.example.com", "sub": "user_1", "exp": now().timestamp() + 60, "nbf": now().timestamp() - 10,
        "iat": now().timestamp(), "azp": "https://app.example.com"})
}

fn jwks(id: &str) -> String {
    json!({"keys": [{"kty": "EC", "kid": "other"}, {"kty": "RSA", "use": "sig", "kid": id, "alg": "RS256", "n": MODULUS.trim(), "e": "AQAB"}]})
        .to_string()
}

fn sign(header: &Value, claims: &Value) -> String {
    let pem: String = PRIVATE_KEY.lines().filter(|line| !line.starts_with("-----")).collect();
    let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(pem).expect("base64")).expect("a key");
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn signed(claims: &Value) -> String {
    sign(&json!({"alg": "RS256", "typ": "JWT", "kid": "ins_1"}), claims)
}

#[test]
fn a_token_that_another_implementation_signed_is_accepted_with_each_form_of_the_key() {
    for keys in [PUBLIC_KEY, RSA_PUBLIC_KEY, &jwks("ins_1")] {
        let keys = PublicKeys::parse(keys).expect(keys);
        assert_eq!(keys.verify(VECTOR.trim(), &rules(), now()), Ok("user_1".into()));
        assert_eq!(keys.verify(&signed(&claims()), &rules(), now()), Ok("user_1".into()));
    }
    let other = PublicKeys::parse(&jwks("ins_2")).expect("keys");
    assert_eq!(other.verify(VECTOR.trim(), &rules(), now()), Err(SessionTokenError::UnknownKey));
}

#[test]
fn each_claim_is_checked() {
    let keys = PublicKeys::parse(PUBLIC_KEY).expect("a key");
    let second = now().timestamp();
    for (name, value, expected) in [
        ("exp", json!(second - 5), Err(SessionTokenError::Expired)),
        ("exp", json!(second - 4), Ok(())),
        ("exp", json!("soon"), Err(SessionTokenError::Malformed)),
        ("exp", Value::Null, Err(SessionTokenError::Malformed)),
        ("nbf", json!(second + 6), Err(SessionTokenError::Early)),
        ("nbf", json!(second + 5), Ok(())),
        ("nbf", Value::Null, Ok(())),
        ("iat", json!(second + 6), Err(SessionTokenError::Early)),
        ("iss", json!("https://clerk.example.com/"), Err(SessionTokenError::Issuer)),
        ("iss", Value::Null, Err(SessionTokenError::Malformed)),
        ("azp", json!("https://evil.example.com"), Err(SessionTokenError::Party)),
        ("azp", Value::Null, Err(SessionTokenError::Party)),
        ("sub", json!(""), Err(SessionTokenError::Malformed)),
        ("sub", json!(7), Err(SessionTokenError::Malformed)),
        ("sts", json!("pending"), Err(SessionTokenError::Pending)),
        ("sts", json!("active"), Ok(())),
    ] {
        let mut changed = claims();
        changed[name] = value.clone();
        assert_eq!(keys.verify(&signed(&changed), &rules(), now()).map(|_| ()), expected, "{name} {value}");
    }
    let anybody = SessionRules { authorized_parties: Vec::new(), ..rules() };
    let mut without = claims();
    without["azp"] = Value::Null;
    assert!(keys.verify(&signed(&without), &anybody, now()).is_ok());
}

#[test]
fn nothing_but_rs256_by_our_key_proves_anything() {
    let keys = PublicKeys::parse(PUBLIC_KEY).expect("a key");
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "rs256"}),
        json!({"alg": "RS512"}),
        json!({"alg": "RS256", "crit": ["b64"]}),
    ] {
        assert_eq!(keys.verify(&sign(&header, &claims()), &rules(), now()), Err(SessionTokenError::Algorithm), "{header}");
    }
    let token = signed(&claims());
    let (signed_part, signature) = token.rsplit_once('.').expect("two parts");
    let (header, _) = signed_part.split_once('.').expect("two parts");
    let mut other = claims();
    other["sub"] = json!("user_2");
    let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(other.to_string()));
    assert_eq!(keys.verify(&forged, &rules(), now()), Err(SessionTokenError::Mismatch));
    for malformed in
        ["", ".", "..", "a.b.c", &format!("{token}."), &format!("{signed_part}.%%"), &token[1..], &"x.".repeat(20_000)]
    {
        assert_eq!(keys.verify(malformed, &rules(), now()), Err(SessionTokenError::Malformed), "{malformed:.40}");
    }
    assert_eq!(keys.verify(&format!("{signed_part}."), &rules(), now()), Err(SessionTokenError::Mismatch));
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    for text in ["", "{}", "not a key", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----", PRIVATE_KEY, "{\"keys\": 1}"] {
        assert_eq!(PublicKeys::parse(text).map(|_| ()), Err(KeyError::Malformed), "{text:.30}");
    }
    for text in ["{\"keys\": []}", r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#, r#"{"keys": [{"kty": "oct"}]}"#] {
        assert_eq!(PublicKeys::parse(text).map(|_| ()), Err(KeyError::NoKey), "{text}");
    }
}
