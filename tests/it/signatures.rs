//! Every vector and every row of the tables of cases, for both schemes, and independent signers and verifiers.

#![expect(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::time::Duration;

use billsync::domain::signature::standard_webhooks::{self, ClerkSecret, VerifiedMessage};
use billsync::domain::signature::stripe::{self, StripeSecret};
use billsync::domain::signature::{SecretError, SignatureError, VerifiedBody};
use bytes::Bytes;
use chrono::DateTime;
use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use sha2::Sha256;

const NOW: i64 = 1_700_000_000;
const TOLERANCE: Duration = Duration::from_secs(300);
const STRIPE_SECRET: &str = "whsec_test_secret";
const BODY: &[u8] = b"{\"id\":\"evt_1\",\"object\":\"event\"}";

type Outcome<T> = Result<T, &'static str>;

fn stripe_secrets(texts: &[&str]) -> Vec<StripeSecret> {
    texts.iter().map(|text| StripeSecret::parse(text).expect("a usable secret").secret).collect()
}

fn verify_stripe_with(secrets: &[&str], headers: &[&[u8]], body: &[u8], now: i64) -> Outcome<VerifiedBody> {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|value| ("Stripe-Signature", *value)).collect();
    let now = DateTime::from_timestamp(now, 999_000_000).expect("a time");
    stripe::verify(&headers, Bytes::copy_from_slice(body), &stripe_secrets(secrets), TOLERANCE, now)
        .map_err(SignatureError::reason)
}

fn verify_stripe(header: &str) -> Outcome<()> {
    verify_stripe_with(&[STRIPE_SECRET], &[header.as_bytes()], BODY, NOW).map(drop)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn v1(secret: &str, timestamp: &str, body: &[u8]) -> String {
    hex::encode(mac(secret.as_bytes(), &[timestamp.as_bytes(), b".", body]))
}

fn good() -> String {
    v1(STRIPE_SECRET, "1700000000", BODY)
}

#[test]
fn stripe_vectors() {
    let vectors = [
        (
            1_234_567_890,
            "{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\"\n}",
            "45969f456b3331a0f76e237ed33423d5f758908f1f0432d30e7d45ba89bb9edd",
        ),
        (1_700_000_000, "{\"a\":\"é🦀\"}", "71a1ebee3fc28e4516f50a99b8804aadb2376e0fe8dea197982caed9388c5f9a"),
    ];
    for (timestamp, body, code) in vectors {
        let header = format!("t={timestamp},v1={code}");
        let verified = verify_stripe_with(&[STRIPE_SECRET], &[header.as_bytes()], body.as_bytes(), timestamp).expect("a vector");
        assert_eq!(verified.bytes(), body.as_bytes());
        assert_eq!(verified.secret_index(), Some(0));
    }
}

#[test]
fn stripe_accepts() {
    let (good, bad) = (good(), "0".repeat(64));
    for header in [
        format!("t=1700000000,v1={good}"),
        format!("v1={good},t=1700000000"),
        format!("t=1700000000,v0={bad},v1={good}"),
        format!("t=1700000000,v2=whatever,v1={good}"),
        format!("t=1700000000,nonsense,,=,v1={good}"),
        format!("t=1700000000,v1={bad},v1={good}"),
        format!("t=1700000000,v1={good},v1={bad}"),
        format!("t=1700000000,v1=short,v1={good}"),
    ] {
        assert_eq!(verify_stripe(&header), Ok(()), "{header}");
    }
}

#[test]
fn stripe_says_which_of_the_secrets_matched() {
    let header = format!("t=1700000000,v1={}", v1("whsec_old", "1700000000", BODY));
    let verified = verify_stripe_with(&["whsec_new", "whsec_old"], &[header.as_bytes()], BODY, NOW).expect("rolled");
    assert_eq!(verified.secret_index(), Some(1));
    let both = format!("{header},v1={}", v1("whsec_new", "1700000000", BODY));
    let verified = verify_stripe_with(&["whsec_new", "whsec_old"], &[both.as_bytes()], BODY, NOW).expect("during the roll");
    assert_eq!(verified.secret_index(), Some(0));
    assert_eq!(verify_stripe_with(&[], &[both.as_bytes()], BODY, NOW).map(drop), Err("mismatch"));
}

#[test]
fn stripe_rejects() {
    let good = good();
    let cases = [
        (String::new(), "missing"),
        ("  ".to_owned(), "missing"),
        ("garbage".to_owned(), "malformed"),
        (",,,".to_owned(), "malformed"),
        (format!("v1={good}"), "malformed"),
        (format!("t=,v1={good}"), "malformed"),
        (format!("t=abc,v1={good}"), "malformed"),
        (format!("t=1700000000.0,v1={good}"), "malformed"),
        (format!("t=-1700000000,v1={good}"), "malformed"),
        (format!("t=+1700000000,v1={good}"), "malformed"),
        (format!("t= 1700000000,v1={good}"), "malformed"),
        (format!("t=99999999999999999999,v1={good}"), "malformed"),
        (format!("t=1700000000,t=1700000000,v1={good}"), "malformed"),
        (format!("t=1700000000,v0={good}"), "no_signature"),
        ("t=1700000000".to_owned(), "no_signature"),
        (format!("t=1700000000, v1={good}"), "no_signature"),
        (format!("t=1700000000,v1={}", good.to_uppercase()), "mismatch"),
        (format!("t=1700000000,v1={}", &good[..63]), "mismatch"),
        (format!("t=1700000000,v1={}", &good[..62]), "mismatch"),
        (format!("t=1700000000,v1={good}00"), "mismatch"),
        (format!("t=1700000000,v1={good} "), "mismatch"),
        (format!("t=1700000000,v1={}zz", &good[..62]), "mismatch"),
        ("t=1700000000,v1=".to_owned(), "mismatch"),
        (format!("t=1700000000,v1={}", v1("other", "1700000000", BODY)), "mismatch"),
        (format!("t=1700000001,v1={good}"), "mismatch"),
        (format!("t=01700000000,v1={good}"), "mismatch"),
        (format!("t=1700000000,v1={good},{}", "x".repeat(10_000)), "malformed"),
    ];
    for (header, reason) in cases {
        assert_eq!(verify_stripe(&header), Err(reason), "{header}");
    }
}

#[test]
fn stripe_rejects_an_altered_body() {
    let header = format!("t=1700000000,v1={}", good());
    let newline = [BODY, b"\n"].concat();
    let mut altered = BODY.to_vec();
    altered[2] ^= 1;
    for body in [newline.as_slice(), &altered, b""] {
        assert_eq!(verify_stripe_with(&[STRIPE_SECRET], &[header.as_bytes()], body, NOW).map(drop), Err("mismatch"));
    }
}

#[test]
fn stripe_header_missing_repeated_or_not_text() {
    let header = format!("t=1700000000,v1={}", good());
    let verify = |headers: &[&[u8]]| verify_stripe_with(&[STRIPE_SECRET], headers, BODY, NOW).map(drop);
    assert_eq!(verify(&[]), Err("missing"));
    assert_eq!(verify(&[header.as_bytes(), header.as_bytes()]), Err("malformed"));
    assert_eq!(verify(&[b"t=1700000000,v1=\xff\xfe"]), Err("mismatch"));
    assert_eq!(verify(&[b"\xff\xfe"]), Err("malformed"));
    assert_eq!(verify(&[[b"\xff,", header.as_bytes()].concat().as_slice()]), Ok(()));
}

#[test]
fn stripe_age() {
    let header = format!("t=1700000000,v1={}", good());
    let at = |now| verify_stripe_with(&[STRIPE_SECRET], &[header.as_bytes()], BODY, now).map(drop);
    assert_eq!(at(NOW + 299), Ok(()));
    assert_eq!(at(NOW + 300), Ok(()));
    assert_eq!(at(NOW + 301), Err("stale"));
    assert_eq!(at(NOW - 300), Ok(()));
    assert_eq!(at(NOW - 301), Err("stale"));
    // A forged one is told from a stale one.
    let forged = format!("t=1700000000,v1={}", "0".repeat(64));
    assert_eq!(verify_stripe_with(&[STRIPE_SECRET], &[forged.as_bytes()], BODY, NOW + 301).map(drop), Err("mismatch"));
    let now = DateTime::from_timestamp(NOW + 301, 0).expect("a time");
    let headers = [("stripe-signature", header.as_bytes())];
    let configured =
        stripe::verify(&headers, Bytes::from_static(BODY), &stripe_secrets(&[STRIPE_SECRET]), Duration::from_secs(600), now);
    assert!(configured.is_ok());
}

#[test]
fn an_empty_body_can_be_genuine() {
    let header = format!("t=1700000000,v1={}", v1(STRIPE_SECRET, "1700000000", b""));
    assert!(verify_stripe_with(&[STRIPE_SECRET], &[header.as_bytes()], b"", NOW).is_ok());
}

#[test]
fn stripe_secrets_from_the_configuration() {
    let parsed = StripeSecret::parse(" whsec_test_secret\n").expect("trimmed");
    assert!(parsed.trimmed);
    let header = format!("t=1700000000,v1={}", good());
    let now = DateTime::from_timestamp(NOW, 0).expect("a time");
    let headers = [("STRIPE-SIGNATURE", header.as_bytes())];
    assert!(stripe::verify(&headers, Bytes::from_static(BODY), &[parsed.secret], TOLERANCE, now).is_ok());
    assert!(!StripeSecret::parse(STRIPE_SECRET).expect("clean").trimmed);
    assert_eq!(StripeSecret::parse(" \t").map(drop), Err(SecretError::Empty));
    assert_eq!(StripeSecret::parse("whsec_").map(drop), Err(SecretError::OnlyPrefix));
    assert!(!format!("{:?}", StripeSecret::parse("whsec_visible")).contains("visible"));
}

#[test]
fn stripe_agrees_with_async_stripe() {
    let body = "{\"id\":\"evt_1\",\"é\":\"🦀\"}";
    let header = stripe_webhook::Webhook::generate_test_header(body, STRIPE_SECRET, Some(NOW));
    assert!(verify_stripe_with(&[STRIPE_SECRET], &[header.as_bytes()], body.as_bytes(), NOW).is_ok());
    assert_eq!(verify_stripe_with(&["whsec_other"], &[header.as_bytes()], body.as_bytes(), NOW).map(drop), Err("mismatch"));
    assert_eq!(header, format!("t=1700000000,v1={}", v1(STRIPE_SECRET, "1700000000", body.as_bytes())));
}

const SECRET_A: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECRET_B: &str = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const SVIX: [&str; 3] = ["svix-id", "svix-timestamp", "svix-signature"];
const WEBHOOK: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

fn clerk_secrets(texts: &[&str]) -> Vec<ClerkSecret> {
    texts.iter().map(|text| ClerkSecret::parse(text).expect("a usable secret").secret).collect()
}

fn verify_clerk(headers: &[(&str, &[u8])], body: &[u8], now: i64) -> Outcome<VerifiedMessage> {
    let now = DateTime::from_timestamp(now, 999_000_000).expect("a time");
    let secrets = clerk_secrets(&[SECRET_A]);
    standard_webhooks::verify(headers, Bytes::copy_from_slice(body), &secrets, TOLERANCE, now).map_err(SignatureError::reason)
}

fn message<'h>(names: [&'h str; 3], values: [&'h str; 3]) -> [(&'h str, &'h [u8]); 3] {
    [0, 1, 2].map(|at| (names[at], values[at].as_bytes()))
}

fn sign(id: &str, timestamp: &str, body: &[u8]) -> String {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let key = engine.decode(SECRET_A).expect("base64");
    format!("v1,{}", engine.encode(mac(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])))
}

fn clerk_with(signature: &str) -> Outcome<()> {
    verify_clerk(&message(SVIX, ["msg_1", "1700000000", signature]), BODY, NOW).map(drop)
}

fn good_clerk() -> String {
    sign("msg_1", "1700000000", BODY)
}

#[test]
fn clerk_vectors() {
    let vectors = [
        (
            SECRET_A,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            SECRET_B,
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            "{\"email\":\"test@example.com\",\"username\":\"test_user\"}",
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (
            SECRET_A,
            "msg_utf8",
            1_614_265_330,
            "{\"name\":\"Ünïcödé 🦀\",\"n\":1.0}",
            "v1,2dOGG+khcCGz/BM5m13uT/NTIadXfEIaH1I5ZFRft2w=",
        ),
        (SECRET_A, "msg_empty", 1_614_265_330, "", "v1,za1CKH5Eq2VQZ+33R4AiRaBlqULcMRs1lL1rbBuq59U="),
    ];
    for (secret, id, timestamp, body, signature) in vectors {
        let now = DateTime::from_timestamp(timestamp, 0).expect("a time");
        let at = timestamp.to_string();
        let mixed_case = ["Svix-Id", "SVIX-TIMESTAMP", "sViX-sIgNaTuRe"];
        for names in [SVIX, WEBHOOK, mixed_case] {
            for written in [secret.to_owned(), format!("whsec_{secret}")] {
                let headers = message(names, [id, &at, signature]);
                let verified = standard_webhooks::verify(
                    &headers,
                    Bytes::copy_from_slice(body.as_bytes()),
                    &clerk_secrets(&[&written]),
                    TOLERANCE,
                    now,
                );
                let verified = verified.expect("a vector");
                assert_eq!((verified.id.as_str(), verified.body.secret_index()), (id, Some(0)));
            }
        }
    }
}

#[test]
fn clerk_secrets_from_the_configuration() {
    let unpadded = "c2VjcmV0IQ";
    for text in [unpadded, "whsec_c2VjcmV0IQ", "c2VjcmV0IQ==", " whsec_c2VjcmV0IQ== "] {
        assert!(ClerkSecret::parse(text).is_ok(), "{text}");
    }
    assert!(ClerkSecret::parse(" c2VjcmV0IQ").expect("trimmed").trimmed);
    assert_eq!(ClerkSecret::parse("").map(drop), Err(SecretError::Empty));
    assert_eq!(ClerkSecret::parse("  ").map(drop), Err(SecretError::Empty));
    assert_eq!(ClerkSecret::parse("whsec_").map(drop), Err(SecretError::OnlyPrefix));
    for text in ["not base64!", "whsec_*", "whsec_a", "====", "c2Vj cmV0"] {
        let error = ClerkSecret::parse(text).map(drop).expect_err("not base64");
        assert_eq!(error, SecretError::NotBase64);
        assert!(!error.to_string().contains(text));
    }
    assert!(!format!("{:?}", ClerkSecret::parse(SECRET_A)).contains("MfKQ"));
}

#[test]
fn clerk_needs_each_header_once() {
    let signature = good_clerk();
    let values = ["msg_1", "1700000000", signature.as_str()];
    for names in [SVIX, WEBHOOK] {
        assert!(verify_clerk(&message(names, values), BODY, NOW).is_ok());
        for missing in 0..3 {
            let mut headers = message(names, values).to_vec();
            headers.remove(missing);
            assert_eq!(verify_clerk(&headers, BODY, NOW).map(drop), Err("missing"));
            for blank in ["", " ", "\t "] {
                let mut headers = message(names, values);
                headers[missing].1 = blank.as_bytes();
                assert_eq!(verify_clerk(&headers, BODY, NOW).map(drop), Err("missing"));
            }
            let mut headers = message(names, values).to_vec();
            headers.push(headers[missing]);
            assert_eq!(verify_clerk(&headers, BODY, NOW).map(drop), Err("malformed"));
        }
    }
}

#[test]
fn clerk_timestamps_are_digits() {
    for timestamp in
        ["hello", "-1700000000", "1700000000.0", "+1", "+1700000000", "1700000000x", " 1700000000", "17000000000000000000000"]
    {
        let signature = sign("msg_1", timestamp, BODY);
        let headers = message(SVIX, ["msg_1", timestamp, &signature]);
        assert_eq!(verify_clerk(&headers, BODY, NOW).map(drop), Err("malformed"), "{timestamp}");
    }
}

#[test]
fn clerk_age() {
    let signature = good_clerk();
    let headers = message(SVIX, ["msg_1", "1700000000", &signature]);
    for (now, expected) in [(NOW + 300, Ok(())), (NOW - 300, Ok(())), (NOW + 301, Err("stale")), (NOW - 301, Err("stale"))] {
        assert_eq!(verify_clerk(&headers, BODY, now).map(drop), expected);
    }
}

#[test]
fn clerk_signs_id_and_timestamp() {
    let signature = good_clerk();
    for values in [["msg_2", "1700000000", &signature], ["msg_1", "1700000001", &signature], ["msg_1", "01700000000", &signature]]
    {
        assert_eq!(verify_clerk(&message(SVIX, values), BODY, NOW).map(drop), Err("mismatch"));
    }
    assert_eq!(verify_clerk(&message(SVIX, ["msg_1", "1700000000", &signature]), b"{}", NOW).map(drop), Err("mismatch"));
}

#[test]
fn clerk_signature_lists() {
    let good = good_clerk();
    let code = &good[3..];
    let bad = format!("v1,{}", "A".repeat(43) + "=");
    let accepted = [
        good.clone(),
        format!("{bad} v2,{code} {good}"),
        format!("{bad} {good}"),
        format!("v1, {good}"),
        format!("nonsense {good}"),
        format!("v1,{} {good}", &code[..8]),
        format!("v1,*** {good}"),
        format!("{bad}  {good}"),
        format!("{bad} {bad} {bad} {good}"),
        format!("v1a,{code} {good}"),
        format!("{good} {bad}"),
    ];
    for list in accepted {
        assert_eq!(clerk_with(&list), Ok(()), "{list}");
    }
    let rejected = [
        ("v1,".to_owned(), "mismatch"),
        (code.to_owned(), "no_signature"),
        (format!("v1,{}", &code[..8]), "mismatch"),
        ("v1,not base64".to_owned(), "mismatch"),
        (format!("v1,{}", code.trim_end_matches('=')), "mismatch"),
        (format!("{bad} {bad} {bad}"), "mismatch"),
        (format!("v1a,{code}"), "no_signature"),
        (format!("v2,{code}"), "no_signature"),
        (format!("V1,{code}"), "no_signature"),
        (format!(" v1 ,{code}"), "no_signature"),
        (format!("{good},x"), "mismatch"),
        (format!("{good}{}", " ".repeat(5000)), "malformed"),
    ];
    for (list, reason) in rejected {
        assert_eq!(clerk_with(&list), Err(reason), "{list}");
    }
}

#[test]
fn clerk_header_families() {
    let (good, bad) = (good_clerk(), sign("msg_2", "1700000000", BODY));
    let svix = message(SVIX, ["msg_1", "1700000000", &good]);
    let webhook_bad = message(WEBHOOK, ["msg_2", "1700000000", &good]);
    let both = [svix.as_slice(), &webhook_bad].concat();
    assert_eq!(verify_clerk(&both, BODY, NOW).expect("svix decides").id, "msg_1");
    let svix_bad = message(SVIX, ["msg_1", "1700000000", &bad]);
    let webhook = message(WEBHOOK, ["msg_2", "1700000000", &bad]);
    assert_eq!(verify_clerk(&[svix_bad.as_slice(), &webhook].concat(), BODY, NOW).map(drop), Err("mismatch"));
    // Half of one family is not completed by the other.
    assert_eq!(verify_clerk(&[&svix[..1], webhook.as_slice()].concat(), BODY, NOW).map(drop), Err("missing"));
}

#[test]
fn clerk_ids_that_are_no_text() {
    let signature = good_clerk();
    let headers: [(&str, &[u8]); 3] =
        [("svix-id", b"\xff\xfe"), ("svix-timestamp", b"1700000000"), ("svix-signature", signature.as_bytes())];
    assert_eq!(verify_clerk(&headers, BODY, NOW).map(drop), Err("malformed"));
    let long = "m".repeat(100_000);
    assert_eq!(verify_clerk(&message(SVIX, [&long, "1700000000", &signature]), BODY, NOW).map(drop), Err("malformed"));
}

proptest! {
    #[test]
    fn svix_signs_what_we_verify(id in "[a-zA-Z0-9_]{1,40}", body in "\\PC{0,200}", key in proptest::collection::vec(any::<u8>(), 1..80)) {
        use base64::Engine;
        let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(&key));
        let body_bytes = body.clone();
        let svix = svix::webhooks::Webhook::new(&secret).expect("a secret");
        let signature = svix.sign(&id, NOW, body.as_bytes()).expect("signed");
        let now = DateTime::from_timestamp(NOW, 0).expect("a time");
        let headers = message(SVIX, [&id, "1700000000", &signature]);
        let verified = standard_webhooks::verify(&headers, Bytes::from(body.clone()), &clerk_secrets(&[&secret]), TOLERANCE, now);
        prop_assert_eq!(verified.map(|message| message.id), Ok(id.clone()));
        let other = standard_webhooks::verify(&headers, Bytes::from(body), &clerk_secrets(&[SECRET_B]), TOLERANCE, now);
        prop_assert_eq!(other.map(drop), Err(SignatureError::Mismatch));
        // The other way round: what our tests sign, svix accepts.
        let ours = format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac(&key, &[id.as_bytes(), b".1700000000.", body_bytes.as_bytes()])));
        let mut map = reqwest::header::HeaderMap::new();
        for (name, value) in SVIX.into_iter().zip([id.as_str(), "1700000000", ours.as_str()]) {
            map.insert(name, value.parse().expect("a header"));
        }
        prop_assert!(svix.verify_ignoring_timestamp(body_bytes.as_bytes(), &map).is_ok());
    }

    #[test]
    fn async_stripe_signs_what_we_verify(body in "\\PC{0,200}", secret in "whsec_[a-zA-Z0-9]{1,60}") {
        let header = stripe_webhook::Webhook::generate_test_header(&body, &secret, Some(NOW));
        prop_assert!(verify_stripe_with(&[&secret], &[header.as_bytes()], body.as_bytes(), NOW).is_ok());
        prop_assert_eq!(header, format!("t=1700000000,v1={}", v1(&secret, "1700000000", body.as_bytes())));
    }

    #[test]
    fn no_header_is_a_panic_or_a_forgery(header in proptest::collection::vec(any::<u8>(), 0..300), parts in "(t=[0-9a-z.+-]{0,12},|v[01]=[0-9a-fA-F]{0,70},| |,|=){0,8}") {
        for value in [header.as_slice(), parts.as_bytes()] {
            prop_assert!(verify_stripe_with(&[STRIPE_SECRET], &[value], BODY, NOW).is_err());
            let headers: [(&str, &[u8]); 3] = [("svix-id", value), ("svix-timestamp", b"1700000000"), ("svix-signature", value)];
            prop_assert!(verify_clerk(&headers, BODY, NOW).is_err());
        }
    }
}
