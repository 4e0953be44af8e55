//! Ten thousand users, a kill in the middle, and another run.

use serde_json::json;

use super::{import, state, with_profiles};
use crate::support::service::billsync;
use crate::support::until;

const TEN_THOUSAND: &str = "insert into user_profiles (user_id, email, full_name, current_plan, subscription_status, trial_status, \
        stripe_customer_id, stripe_subscription_id, usage_creators_current_month, trial_end_date) \
    select 'user_' || n, 'u' || n || '@example.com', 'No. ' || n, (array['free', 'glow_up', 'viral_surge'])[1 + n % 3], \
        case when n % 3 = 0 then 'none' else 'active' end, case when n % 3 = 0 then 'pending' else 'converted' end, \
        case when n % 3 > 0 then 'cus_' || n end, case when n % 3 > 0 then 'sub_' || n end, n % 50, \
        case when n % 3 > 0 then timestamp '2025-03-01' + n * interval '1 minute' end \
    from generate_series(1, 10000) n";

#[tokio::test]
async fn ten_thousand_users_survive_a_kill_and_are_complete_after_another_run() {
    let database = with_profiles(TEN_THOUSAND).await;
    let mut child =
        billsync(&[("DATABASE_URL", &database.url)]).args(["import", "user-profiles", "--batch", "50"]).spawn().unwrap();
    let imported = "select count(*) from billsync.provider_objects where provider = 'import'";
    until("some are imported", async || database.ask::<i64>(imported).await >= 500).await;
    child.kill().unwrap();
    child.wait().unwrap();
    // The server may still be at a statement whose client is gone.
    let connected = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'billsync'";
    until("its connections have ended", async || database.ask::<i64>(connected).await == 0).await;
    let halfway: i64 = database.ask(imported).await;
    assert!((500..10_000).contains(&halfway), "{halfway}");
    let whole = "select count(*) from users u join user_subscriptions s on s.user_id = u.id join user_billing b on b.user_id = u.id \
        join user_usage g on g.user_id = u.id join user_system_data d on d.user_id = u.id";
    assert_eq!(database.ask::<i64>(whole).await, halfway, "a user is imported as a whole or not at all");

    let report = import(&database, &["--batch", "500"], 0);
    assert_eq!(report["rows"], 10_000);
    assert_eq!(report["imported"].as_i64().unwrap() + report["unchanged"].as_i64().unwrap(), 10_000);
    assert_eq!(report["unchanged"], halfway);
    let verified = &report["verified"];
    assert_eq!((&verified["found"], &verified["wrong"], &verified["explained"]), (&json!(10_000), &json!([]), &json!([])));
    let sums: String = database
        .ask(
            "select concat_ws(' ', count(*), sum(usage_creators_current_month), count(stripe_customer_id), \
            count(*) filter (where current_plan = 'glow_up')) from user_usage g join user_billing b using (user_id) \
            join user_subscriptions s using (user_id)",
        )
        .await;
    let expected: String = database
        .ask(
            "select concat_ws(' ', count(*), sum(usage_creators_current_month), count(stripe_customer_id), \
            count(*) filter (where current_plan = 'glow_up')) from user_profiles",
        )
        .await;
    assert_eq!(sums, expected);
    // Without, the server would read the tables as if they were empty, which takes many times as long.
    let uncounted = "select count(*) from pg_stat_user_tables where last_analyze is null and relname in \
        ('users', 'user_subscriptions', 'user_billing', 'user_usage', 'user_system_data', 'provider_objects', 'owners')";
    assert_eq!(database.ask::<i64>(uncounted).await, 0);
    let before = state(&database).await;
    assert_eq!(import(&database, &[], 0)["unchanged"], 10_000);
    assert_eq!(state(&database).await, before);
}
