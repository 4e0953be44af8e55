//! `demo`, from nothing to the rows, as a newcomer runs it.

use std::path::Path;

use super::{billsync, run};

fn demo(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    // Whatever database the machine names, the demo leaves alone.
    run(billsync(arguments).current_dir(folder).env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing"))
}

#[test]
fn it_shows_every_story_and_can_be_run_again() {
    let folder = tempfile::tempdir().unwrap();
    for plans in ["filled with the 4 plans", "as it is"] {
        let (code, printed, complaints) = demo(folder.path(), &["demo", "--exit"]);
        assert_eq!((code, complaints.as_str()), (0, ""), "{printed}");
        assert!(printed.contains(plans), "{printed}");
        let row = |name: &str| {
            let address = format!("{name}@example.com");
            let line = printed.lines().find(|line| line.contains(&address));
            line.unwrap_or_else(|| panic!("no {address} in\n{printed}")).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for (name, expected) in [
            ("ada", "glow_up trialing active to"),
            ("ben", "viral_surge active converted"),
            ("cleo", "glow_up past_due"),
            ("dan", "free canceled"),
            ("eve", "glow_up active"),
            ("finn", "viral_surge, then free active"),
        ] {
            assert!(row(name).contains(expected), "{name}: {printed}");
        }
        assert!(printed.contains("6 duplicate") && printed.contains("1 refused with 400"), "{printed}");
    }
    assert!(folder.path().join(".billsync/demo-secrets.toml").exists());
    let (code, printed, _) = run(billsync(&["inspect", "user", "cleo@example.com"]).current_dir(folder.path()));
    assert_eq!(code, 0);
    assert!(printed.contains("user_subscriptions.subscription_status: active -> past_due"), "{printed}");
}

#[test]
fn it_refuses_to_invent_users_in_a_database_of_somebodys() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, complaints) = demo(folder.path(), &["demo", "--exit", "--database-url", "postgres://u@127.0.0.1:1/db"]);
    assert_eq!(code, 2);
    assert!(complaints.contains("embedded database alone"), "{complaints}");
}
