//! Every fixture is what its name says and does what its type should: a new one is tested by being there.

use std::path::{Path, PathBuf};

use billsync::domain::event::{Content, Event};
use serde_json::Value;

use super::{decode_clerk, decode_stripe};

/// The bodies of a folder of fixtures, by event type.
pub(super) fn bodies(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let entries = std::fs::read_dir(folder).expect("a folder of fixtures").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    paths.sort();
    let name = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).expect("a fixture"))).collect()
}

fn check(event: &Event, name: &str, body: &str, is_ignored: bool) {
    assert_eq!(event.event_type, name, "the file is named by its type");
    assert!(event.payload.fits_jsonb, "{name}");
    assert!(serde_json::from_str::<Value>(&event.payload.text).is_ok(), "{name}");
    match &event.content {
        Content::Ignored { .. } => assert!(is_ignored, "{name}"),
        Content::Unreadable { reason } => panic!("{name}: {reason}"),
        Content::Snapshots(snapshots) => {
            assert!(!is_ignored && !snapshots.is_empty(), "{name}");
            for snapshot in snapshots {
                assert!(snapshot.deletion || snapshot.fact.is_some(), "{name}: nothing that the projection reads");
                assert_eq!(snapshot.deletion, name.ends_with(".deleted"), "{name}");
            }
        }
    }
    for personal in ["@gmail", "@outlook", "sk_live", "sk_test", "whsec_"] {
        assert!(!body.contains(personal), "{name}");
    }
}

#[test]
fn stripe_fixtures() {
    let fixtures = bodies("stripe");
    assert!(fixtures.len() >= 64);
    for (name, body) in fixtures {
        let event = decode_stripe(body.as_bytes()).expect("an event");
        check(&event, &name, &body, name == "invoice.upcoming");
        let has_customer = !name.starts_with("test_helpers.") && !body.contains("\"customer\": null");
        assert!(event.owner_id.is_some() || !has_customer, "{name} names its customer");
    }
}

#[test]
fn clerk_fixtures() {
    let fixtures = bodies("clerk");
    assert!(fixtures.len() >= 22);
    for (name, body) in fixtures {
        let event = decode_clerk(body.as_bytes()).expect("an event");
        let is_ignored = ["email.", "sms.", "session."].iter().any(|prefix| name.starts_with(prefix));
        check(&event, &name, &body, is_ignored);
        assert!(event.owner_id.is_some(), "{name} names its user");
        assert!(!event.payload.text.contains("424242") && !event.payload.text.contains("client_ip"), "{name}");
    }
}

#[test]
fn every_journey_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journeys");
    let stories =
        std::fs::read_dir(&folder).expect("journeys").map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    for story in stories {
        let story = story.strip_prefix(folder.parent().expect("a parent")).expect("inside").to_str().expect("a name").to_owned();
        for (name, body) in bodies(&story).iter().filter(|(name, _)| name != "expected") {
            let is_stripe = serde_json::from_str::<Value>(body).expect("JSON").get("created").is_some();
            let event = if is_stripe { decode_stripe(body.as_bytes()) } else { decode_clerk(body.as_bytes()) };
            let event = event.unwrap_or_else(|error| panic!("{story}/{name}: {error}"));
            assert!(name.ends_with(&event.event_type), "{story}/{name}");
            let is_unreadable = matches!(event.content, Content::Unreadable { .. });
            assert!(!is_unreadable || story.ends_with("unreadable_event"), "{story}/{name}: {:?}", event.content);
        }
    }
}
