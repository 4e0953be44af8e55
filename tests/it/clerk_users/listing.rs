//! `users list`: everybody once, page by page, and whoever is looked for.

use serde_json::Value;

use super::linking::server_with_plans;
use crate::support::database::TestDatabase;
use crate::support::events::subscription_updated;
use crate::support::server::now;
use crate::support::service::billsync;

/// Runs it; the exit code and everything that it says.
async fn run(database: &TestDatabase, arguments: &[&str]) -> (i32, String) {
    let mut command = billsync(&[("DATABASE_URL", &database.url)]);
    command.args(["users", "list"]).args(arguments).stdout(std::process::Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

async fn list(database: &TestDatabase, arguments: &[&str]) -> Value {
    let (code, shown) = run(database, &[arguments, &["--json"]].concat()).await;
    assert_eq!(code, 0, "{shown}");
    serde_json::from_str(&shown).unwrap()
}

fn ids(page: &Value) -> Vec<&str> {
    page["users"].as_array().unwrap().iter().map(|user| user["user_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_hold_everybody_once_newest_first() {
    let (server, database) = server_with_plans().await;
    server.link_users(1, 8).await;
    let mut met: Vec<String> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = match &after {
            None => list(&database, &["--limit", "3"]).await,
            Some(after) => list(&database, &["--limit", "3", "--after", after]).await,
        };
        assert!(ids(&page).len() <= 3);
        met.extend(ids(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    let newest_first: String =
        database.ask("select string_agg(user_id, ' ' order by created_at desc, id desc) from public.users").await;
    assert_eq!(met.join(" "), newest_first);
    assert_eq!(met.len(), 7);
    // An exact last page ends the list.
    assert!(list(&database, &["--limit", "7"]).await["next"].is_null());
}

#[tokio::test]
async fn filters_find_whom_they_name() {
    let (server, database) = server_with_plans().await;
    server.link_users(1, 5).await;
    assert_eq!(server.outcome(&subscription_updated(3, 1, now())).await, "applied");
    for (arguments, expected) in [
        (&["--email", "USER_2@example.com"][..], &["user_2"][..]),
        (&["--customer", "cus_4"], &["user_4"]),
        (&["--subscription", "sub_3"], &["user_3"]),
        (&["--status", "active"], &["user_3"]),
        (&["--plan", "glow_up", "--customer", "cus_3"], &["user_3"]),
        (&["--plan", "glow_up", "--customer", "cus_2"], &[]),
        (&["--created-before", "2001-01-01T00:00:00Z"], &[]),
    ] {
        assert_eq!(ids(&list(&database, arguments).await), expected, "{arguments:?}");
    }
    assert_eq!(ids(&list(&database, &["--created-from", "2001-01-01T00:00:00Z"]).await).len(), 4);
    let (code, shown) = run(&database, &["--limit", "2"]).await;
    assert_eq!(code, 0, "{shown}");
    assert!(shown.matches("@example.com").count() == 2 && shown.contains("There are more: --after 2"), "{shown}");
    let (_, nobody) = run(&database, &["--email", "nobody@example.com"]).await;
    assert!(nobody.contains("no such user"), "{nobody}");
    for wrong in [&["--limit", "0"][..], &["--after", "x"], &["--created-from", "yesterday"]] {
        assert_eq!(run(&database, wrong).await.0, 2, "{wrong:?}");
    }
}
