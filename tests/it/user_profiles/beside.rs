//! An import that is ended by a person, that runs beside `serve` and webhooks of the same users, and several at once.

use std::process::{Child, Stdio};

use billsync::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{import, state, with_profiles};
use crate::cli::on;
use crate::http::client::exchange;
use crate::support::database::TestDatabase;
use crate::support::events::{customer_created, subscription_updated, user_created};
use crate::support::service::{Service, billsync};
use crate::support::until;

/// Users with a plan, a customer each, and counters.
fn users(count: u32) -> String {
    format!(
        "insert into user_profiles (user_id, email, full_name, current_plan, subscription_status, trial_status, stripe_customer_id, \
            usage_campaigns_current, usage_creators_current_month, enrichments_current_month) \
        select 'user_' || n, 'user_' || n || '@example.com', 'No. ' || n, 'viral_surge', 'active', 'converted', 'cus_' || n, \
            1, n % 50 + 1, 2 from generate_series(1, {count}) n"
    )
}

/// An import in a process of its own, told in JSON.
fn begin(database: &TestDatabase, batch: &str) -> Child {
    let mut command = billsync(&[("DATABASE_URL", &database.url)]);
    command.args(["import", "user-profiles", "--json", "--batch", batch]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Its exit code, report and complaints.
async fn end(child: Child) -> (Option<i32>, Value, String) {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaints}"));
    (output.status.code(), printed["report"].clone(), complaints)
}

async fn count_imported(database: &TestDatabase) -> i64 {
    database.ask("select count(*) from billsync.provider_objects where provider = 'import'").await
}

async fn until_some_are_imported(database: &TestDatabase, count: i64) {
    until("some are imported", async || count_imported(database).await >= count).await;
}

/// What was counted is counted once; only for those of whom a provider has spoken another period may have begun since, with what is
/// counted in it at zero.
async fn expect_counters_of_the_table(database: &TestDatabase) {
    let differing = "select count(*) from user_profiles p join users u on u.user_id = p.user_id join user_usage g on g.user_id = u.id \
        join user_subscriptions s on s.user_id = u.id \
        where g.usage_campaigns_current <> p.usage_campaigns_current \
          or (g.usage_creators_current_month, g.enrichments_current_month) <> (p.usage_creators_current_month, p.enrichments_current_month) \
            and (s.current_plan = p.current_plan or (g.usage_creators_current_month, g.enrichments_current_month) <> (0, 0))";
    assert_eq!(database.ask::<i64>(differing).await, 0);
}

#[tokio::test]
async fn ended_by_ctrl_c_or_sigterm_it_says_so_and_goes_on_when_run_again() {
    for signal in [Signal::INT, Signal::TERM] {
        let database = with_profiles(&users(3_000)).await;
        let child = begin(&database, "10");
        until_some_are_imported(&database, 100).await;
        kill_process(Pid::from_child(&child), signal).unwrap();
        let (code, report, _) = end(child).await;
        let halfway = count_imported(&database).await;
        assert_eq!(
            (code, &report["is_stopped"], report["imported"].as_i64()),
            (Some(1), &json!(true), Some(halfway)),
            "{report}"
        );
        assert!((100..3_000).contains(&halfway), "{halfway}");
        let whole = "select count(*) from users u join user_subscriptions s on s.user_id = u.id join user_billing b on b.user_id = u.id \
            join user_usage g on g.user_id = u.id join user_system_data d on d.user_id = u.id";
        assert_eq!(database.ask::<i64>(whole).await, halfway, "a user is imported as a whole or not at all");

        let report = import(&database, &[], 0);
        assert_eq!(
            (report["unchanged"].as_i64(), report["imported"].as_i64()),
            (Some(halfway), Some(3_000 - halfway)),
            "{report}"
        );
        assert_eq!((&report["verified"]["found"], &report["verified"]["wrong"]), (&json!(3_000), &json!([])));
        assert_eq!(report["verified"]["explained"], json!([]));
        expect_counters_of_the_table(&database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_serve_and_webhooks_of_the_same_users_both_are_right() {
    const USERS: u32 = 600;
    let database = with_profiles(&users(USERS)).await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let child = begin(&database, "20");
    // From both ends of the table: some users are heard of before their import, some after, some in the same moment.
    let now = Clock::System.now();
    for number in (1..=USERS / 4).flat_map(|number| [number, USERS + 1 - number]) {
        for webhook in [user_created(number, now), customer_created(number, now), subscription_updated(number, 1, now)] {
            let answer = exchange(service.address, webhook.request(Clock::System.now())).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    let (code, report, complaints) = end(child).await;
    assert_eq!(
        (code, &report["left"], &report["verified"]["wrong"]),
        (Some(0), &json!([]), &json!([])),
        "{report}\n{complaints}"
    );
    drop(service);

    let told = USERS / 2;
    let plans: String = database
        .ask(
            "select string_agg(current_plan || ' ' || n, ', ' order by current_plan) from \
            (select current_plan, count(*) as n from user_subscriptions group by 1) counted",
        )
        .await;
    assert_eq!(plans, format!("glow_up {told}, viral_surge {}", USERS - told), "what Stripe says counts more than the table");
    expect_counters_of_the_table(&database).await;
    assert!(on(&database.url, &["rebuild"], 0).contains("no difference"));
    let before = state(&database).await;
    let again = import(&database, &[], 0);
    assert_eq!((&again["unchanged"], &again["verified"]["superseded"]), (&json!(USERS), &json!(told)), "{again}");
    assert_eq!(state(&database).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_import_everybody_once() {
    let database = with_profiles(&users(1_000)).await;
    let children = ["30", "50", "70"].map(|batch| begin(&database, batch));
    let mut imported = 0;
    for child in children {
        let (code, report, complaints) = end(child).await;
        assert_eq!(
            (code, &report["left"], &report["verified"]["wrong"]),
            (Some(0), &json!([]), &json!([])),
            "{report}\n{complaints}"
        );
        assert_eq!(report["imported"].as_i64().unwrap() + report["unchanged"].as_i64().unwrap(), 1_000, "{report}");
        imported += report["imported"].as_i64().unwrap();
    }
    assert_eq!(imported, 1_000);
    assert_eq!(database.ask::<i64>("select count(*) from billsync.webhook_events where provider = 'import'").await, 1_000);
    expect_counters_of_the_table(&database).await;
}
