//! Nothing that lets its reader act or look in somebody's name is kept, nor what a message said.

use serde_json::{Value, json};

use super::{clerk_body, clerk_event, decode_clerk, decode_stripe, ignored, object, stripe_event, stripe_update, the_snapshot};

const REDACTED: &str = "[redacted]";

#[test]
fn secrets_and_ways_in() {
    let session = json!({"id": "cs_1", "object": "checkout.session", "status": "open", "url": "https://checkout/SECRET", "client_secret": "SECRET",
        "success_url": "https://app/ok", "line_items": {"object": "list", "url": "/v1/list"},
        "payment_intent": {"id": "pi_1", "object": "payment_intent", "client_secret": "SECRET"},
        "invoice": {"id": "in_1", "hosted_invoice_url": "SECRET", "invoice_pdf": "SECRET", "charge": {"receipt_url": "SECRET"}}});
    let event =
        stripe_update("checkout.session.updated", session, json!({"url": "SECRET", "client_secret": null, "status": "x"}));
    assert!(!event.payload.text.contains("SECRET"));
    let snapshot = the_snapshot(&event);
    assert!(!format!("{snapshot:?}").contains("SECRET"));
    let object = object(snapshot);
    assert_eq!((&object["url"], &object["client_secret"]), (&json!(REDACTED), &json!(REDACTED)));
    assert_eq!((&object["success_url"], &object["line_items"]["url"]), (&json!("https://app/ok"), &json!("/v1/list")));
    assert_eq!(object["invoice"]["charge"]["receipt_url"], json!(REDACTED));
    let previous = snapshot.previous_attributes.as_ref().expect("previous attributes");
    let previous: Value = serde_json::from_str(previous.as_str()).expect("JSON");
    assert_eq!(previous, json!({"url": REDACTED, "client_secret": null, "status": "x"}));
    let kept: Value = serde_json::from_str(&event.payload.text).expect("JSON");
    assert_eq!(kept["data"]["object"], object);
}

#[test]
fn sessions_of_every_kind_and_keys_of_every_kind() {
    for object_type in ["checkout.session", "billing_portal.session", "identity.verification_session"] {
        let event = stripe_event("x.created", json!({"url": "SECRET", "object": object_type, "id": "x_1"}));
        assert!(!event.payload.text.contains("SECRET"), "{object_type}");
        let nested = stripe_event(
            "x.created",
            json!({"id": "y_1", "object": "y", "session": {"id": "x", "url": "SECRET", "object": object_type}}),
        );
        assert!(!nested.payload.text.contains("SECRET"), "{object_type}");
    }
    for object_type in ["ephemeral_key", "terminal.connection_token", "webhook_endpoint"] {
        let event = stripe_event("x.created", json!({"id": "x_1", "object": object_type, "secret": "SECRET"}));
        assert!(!event.payload.text.contains("SECRET"), "{object_type}");
    }
}

#[test]
fn redaction_survives_escapes_doubles_depth_and_other_types() {
    let cases = [
        r#"{"id":"pi_1","object":"payment_intent","client\u005fsecret":"SECRET"}"#.to_owned(),
        r#"{"id":"pi_1","object":"payment_intent","client_secret":"SECRET","client_secret":"SECRET"}"#.to_owned(),
        r#"{"id":"pi_1","object":"payment_intent","client_secret":{"value":["SECRET"],"client_secret":"SECRET"}}"#.to_owned(),
        r#"{"id":"cs_1","\u006fbject":"checkout\u002esession","status":"open","\u0075rl":"SECRET"}"#.to_owned(),
        format!(
            r#"{{"id":"pi_1","object":"payment_intent","x":{}{{"client_secret":"SECRET"}}{}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        ),
        r#"{"id":"pi_1","object":"payment_intent","client_secret":"SECRET\ud800","x":"\ud800"}"#.to_owned(),
    ];
    for case in cases {
        let text = format!(r#"{{"id":"evt_1","object":"event","type":"x.y","created":1700000000,"data":{{"object":{case}}}}}"#);
        let event = decode_stripe(text.as_bytes()).expect("an event");
        assert!(!event.payload.text.contains("SECRET"), "{case}");
        assert!(!format!("{:?}", event.content).contains("SECRET"), "{case}");
    }
}

#[test]
fn a_flaw_that_is_redacted_does_not_keep_the_text_out_of_jsonb() {
    let text = r#"{"id":"evt_1","object":"event","type":"x.y","created":1700000000,"data":{"object":{"id":"x","object":"x","secret":"\ud800"}}}"#;
    assert!(decode_stripe(text.as_bytes()).expect("an event").payload.fits_jsonb);
}

#[test]
fn messages_keep_ids_and_status_alone() {
    let email = json!({"id": "ema_1", "object": "email", "slug": "verification_code", "status": "queued", "user_id": "user_1",
        "email_address_id": "idn_1", "to_email_address": "CODE", "subject": "CODE is your code", "body": "CODE", "body_plain": "CODE",
        "data": {"otp_code": "CODE", "app": {"name": "CODE"}}, "delivered_by_clerk": true, "something_new": ["CODE"]});
    let event = clerk_event("email.created", email.clone());
    ignored(&event);
    assert_eq!((event.object_id.as_deref(), event.owner_id.as_deref()), (Some("ema_1"), Some("user_1")));
    let kept: Value = serde_json::from_str(&event.payload.text).expect("JSON");
    let expected = json!({"id": "ema_1", "object": "email", "slug": "verification_code", "status": "queued", "user_id": "user_1",
        "email_address_id": "idn_1", "to_email_address": REDACTED, "subject": REDACTED, "body": REDACTED, "body_plain": REDACTED,
        "data": REDACTED, "delivered_by_clerk": REDACTED, "something_new": REDACTED});
    assert_eq!(kept["data"], expected);
    assert_eq!(kept["type"], json!("email.created"));
    let sms = json!({"id": "sms_1", "object": "sms_message", "slug": "verification_code", "status": "queued", "user_id": null,
        "phone_number_id": "idn_2", "message": "CODE", "to_phone_number": "CODE", "data": {"otp_code": "CODE"}});
    let event = clerk_event("sms.created", sms);
    let kept: Value = serde_json::from_str(&event.payload.text).expect("JSON");
    assert_eq!((&kept["data"]["user_id"], &kept["data"]["phone_number_id"]), (&json!(null), &json!("idn_2")));
    assert!(!event.payload.text.contains("CODE"));
    // A message by any other name, with a kept field that nests, with more than Clerk's envelope, or without an object.
    let mut nested = email;
    nested["slug"] = json!({"code": "CODE"});
    nested["id"] = json!(["CODE"]);
    let mut extended = clerk_body("email.created", json!("CODE"));
    extended["copy"] = json!({"subject": "CODE"});
    for text in [clerk_body("message.created", nested.clone()), clerk_body("email.updated", nested), extended] {
        let event = decode_clerk(text.to_string().as_bytes()).expect("an event");
        assert!(!event.payload.text.contains("CODE"), "{}", event.payload.text);
    }
}

#[test]
fn where_a_request_came_from_is_dropped() {
    let user = json!({"id": "user_1", "object": "user", "unsafe_metadata": {"event_attributes": "kept"}});
    let event = clerk_event("user.created", user.clone());
    let kept: Value = serde_json::from_str(&event.payload.text).expect("JSON");
    assert!(kept.get("event_attributes").is_none() && !event.payload.text.contains("203.0.113.7"));
    assert_eq!(kept["data"], user);
    let twice = r#"{"event_attributes":{"ip":"203.0.113.7"},"type":"user.created","timestamp":1760000000835,"event\u005fattributes":"203.0.113.7",
        "data":{"id":"user_1","object":"user"},"event_attributes":["203.0.113.7"]}"#;
    let event = decode_clerk(twice.as_bytes()).expect("an event");
    assert!(!event.payload.text.contains("203.0.113.7"));
    assert!(serde_json::from_str::<Value>(&event.payload.text).is_ok(), "{}", event.payload.text);
}
