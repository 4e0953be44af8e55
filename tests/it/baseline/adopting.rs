//! From another's database to ours: mended by the printed SQL alone, adopted, and then kept up to date by webhooks.

use billsync::ingest::committer::Options;
use serde_json::json;

use super::{DRIZZLE, OLDER_LAYOUT, PRISMA, adopt, baseline, made_by, mend, plans_fixture};
use crate::cli::{on, run_on};
use crate::support::database::TestDatabase;
use crate::support::events::{customer_created, subscription_updated, user_created};
use crate::support::server::server_on;

async fn rows(database: &TestDatabase, sql: &str) -> serde_json::Value {
    let text: Option<String> = database.ask(&format!("select json_agg(r)::text from ({sql}) r")).await;
    text.map_or(json!([]), |text| serde_json::from_str(&text).unwrap())
}

const SUBSCRIPTIONS: &str = "select u.user_id, s.current_plan, s.subscription_status, s.trial_status, \
    to_char(s.trial_end_date at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as trial_end, b.stripe_customer_id as customer, \
    b.card_last_4 as card, g.usage_creators_current_month as used, u.business_name as business, u.onboarding_step as step \
    from users u left join user_subscriptions s on s.user_id = u.id left join user_billing b on b.user_id = u.id \
    left join user_usage g on g.user_id = u.id order by u.user_id";

#[tokio::test]
async fn a_database_of_an_orms_push_is_mended_adopted_and_lives_on() {
    let database = made_by(DRIZZLE).await;
    let adopted = adopt(&database).await;
    assert_eq!(adopted["differences"], json!([]));
    // The campaign of somebody without a row of users has made one.
    assert_eq!((adopted["adopted"]["users"].as_i64(), adopted["adopted"]["customers"].as_i64()), (Some(4), Some(2)), "{adopted}");
    let harmless = adopted["harmless"].to_string();
    for name in ["audit_log", "favourite_colour"] {
        assert!(harmless.contains(name), "{harmless}");
    }
    assert_eq!(on(&database.url, &["migrate", "run"], 0), "The schema is up to date.\n");
    assert!(!on(&database.url, &["migrate", "status"], 0).contains("pending"));
    assert!(run_on(&database.url, &["migrate", "baseline"]).2.contains("managed by billsync already"));

    on(&database.url, &["plans", "apply", &plans_fixture()], 0);
    let expected = json!([
        {"user_id": "user_1", "current_plan": "glow_up", "subscription_status": "active", "trial_status": "converted",
         "trial_end": "2025-02-08 10:00", "customer": "cus_1", "card": "4242", "used": 37, "business": "Ada Ltd", "step": "completed"},
        {"user_id": "user_2", "current_plan": "viral_surge", "subscription_status": "trialing", "trial_status": "active",
         "trial_end": "2026-03-15 10:00", "customer": "cus_2", "card": null, "used": 4, "business": null, "step": "pending"},
        {"user_id": "user_3", "current_plan": "free", "subscription_status": "none", "trial_status": "pending",
         "trial_end": null, "customer": null, "card": null, "used": 0, "business": null, "step": "step-1"},
        {"user_id": "user_unknown", "current_plan": "free", "subscription_status": "none", "trial_status": "pending",
         "trial_end": null, "customer": null, "card": null, "used": 0, "business": null, "step": "pending"},
    ]);
    on(&database.url, &["rebuild"], 0);
    assert_eq!(rows(&database, SUBSCRIPTIONS).await, expected);

    // Clerk's word on the person leaves the imported subscription alone; Stripe's on the customer replaces it.
    let server = server_on(&database.url, Options::default()).await;
    let now = server.clock.now();
    assert_eq!(server.outcome(&user_created(1, now)).await, "applied");
    assert_eq!(rows(&database, SUBSCRIPTIONS).await[0], expected[0]);
    assert_eq!(server.outcome(&subscription_updated(1, 1, now)).await, "applied");
    server.stop().await;
    let row = &rows(&database, SUBSCRIPTIONS).await[0];
    assert_eq!((&row["subscription_status"], &row["trial_status"]), (&json!("active"), &json!("pending")));
    assert_eq!((&row["used"], &row["business"]), (&json!(37), &json!("Ada Ltd")));
    // The clock of the server stands in the past, so a rebuild by the true one may find the next usage period.
    let all_but_usage = SUBSCRIPTIONS.replace("g.usage_creators_current_month as used, ", "");
    let before = rows(&database, &all_but_usage).await;
    assert_ne!(run_on(&database.url, &["rebuild"]).0, 1);
    assert_eq!(rows(&database, &all_but_usage).await, before);
    let kept: String = database.ask("select favourite_colour from users where user_id = 'user_1'").await;
    assert_eq!(kept, "red");
    let sent: String = database
        .ask("select email_schedule_status #>> '{welcome:user_1,sent_at}' from user_system_data d join users u on u.id = d.user_id \
            where u.user_id = 'user_1'")
        .await;
    assert_eq!(sent, "2025-01-01T00:05:00Z");
}

#[tokio::test]
async fn names_in_camel_case_ids_of_text_and_repeated_rows_are_mended() {
    let database = made_by(PRISMA).await;
    adopt(&database).await;
    on(&database.url, &["plans", "apply", &plans_fixture()], 0);
    on(&database.url, &["rebuild"], 0);
    let found = rows(&database, SUBSCRIPTIONS).await;
    assert_eq!(
        (&found[0]["current_plan"], &found[0]["customer"], &found[0]["step"]),
        (&json!("glow_up"), &json!("cus_1"), &json!("step-2"))
    );
    assert_eq!(
        (&found[1]["current_plan"], &found[1]["customer"], &found[1]["step"]),
        (&json!("free"), &json!(null), &json!("pending"))
    );
    // Whatever did not fit can still be read.
    let aside: Vec<(&str, i64)> = vec![
        ("select count(*) from user_billing_before_billsync", 1),
        ("select count(*) from user_billing where stripe_customer_id_before_billsync = 'cus_1'", 1),
        ("select count(*) from user_billing where card_last_4_before_billsync = 'x4242'", 1),
        ("select count(*) from users where onboarding_step_before_billsync = 'finished'", 1),
        ("select count(*) from user_subscriptions where length(current_plan_before_billsync) = 60", 1),
        ("select count(*) from scraping_jobs where keywords = '[\"a\", \"b\"]' and progress = 0.5", 1),
        ("select count(*) from \"Post\" p join users u on u.id = p.\"authorId\" where u.user_id = 'user_1'", 1),
    ];
    for (sql, expected) in aside {
        assert_eq!(database.ask::<i64>(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn the_older_layout_is_adopted_and_its_ids_go_on_meaning_the_same_users() {
    let database = made_by(OLDER_LAYOUT).await;
    let adopted = adopt(&database).await;
    assert_eq!(adopted["adopted"]["users"], 2, "{adopted}");
    assert!(adopted["harmless"].to_string().contains("user_profiles"), "{adopted}");
    let owners: String = database
        .ask(
            "select string_agg(u.user_id || ':' || x.name, ' ' order by x.name) from users u join \
            (select user_id, name from campaigns union all select p.user_id, l.name from creator_lists l \
                join users p on p.id = l.user_id) x on x.user_id = u.user_id",
        )
        .await;
    assert_eq!(owners, "user_2:Favourites user_1:Spring");
    assert_eq!(on(&database.url, &["migrate", "run"], 0), "The schema is up to date.\n");
}

#[tokio::test]
async fn a_database_with_one_table_gets_every_other() {
    let database =
        made_by("create table users (id uuid primary key default gen_random_uuid(), user_id text not null unique)").await;
    let found = baseline(&database, 3);
    assert!(
        found["differences"].as_array().unwrap().iter().any(|d| d["table"] == "campaigns" && d["found"] == "missing"),
        "{found}"
    );
    let adopted = adopt(&database).await;
    assert_eq!(adopted["adopted"]["users"], 0);
    let server = server_on(&database.url, Options::default()).await;
    assert_eq!(server.outcome(&user_created(1, server.clock.now())).await, "applied");
    assert_eq!(server.outcome(&customer_created(1, server.clock.now())).await, "applied");
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_left_of_a_comparison_or_of_a_dry_run() {
    let database = made_by(DRIZZLE).await;
    let state = "select md5(string_agg(n.nspname || c.relname || a.attname || format_type(a.atttypid, a.atttypmod), ',' order by 1)) \
        from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid \
        where n.nspname not like 'pg\\_%' and a.attnum > 0";
    let state = state.replace("order by 1", "order by n.nspname, c.relname, a.attnum");
    let before: String = database.ask(&state).await;
    baseline(&database, 3);
    assert_eq!(database.ask::<String>(&state).await, before);
    mend(&database).await;
    let before: String = database.ask(&state).await;
    let tried = on(&database.url, &["migrate", "baseline", "--dry-run"], 0);
    assert!(tried.contains("would be adopted"), "{tried}");
    assert_eq!(database.ask::<String>(&state).await, before);
    assert_eq!(database.ask::<i64>("select count(*) from pg_namespace where nspname like 'billsync%'").await, 0);
}

#[tokio::test]
async fn with_the_plans_in_the_catalog_the_rows_are_projected_at_once() {
    let database = made_by(DRIZZLE).await;
    mend(&database).await;
    database
        .execute(
            "insert into subscription_plans (plan_key, plan_name, campaigns_limit, creators_limit) values ('free', 'Free', 0, 0), \
            ('glow_up', 'Glow Up', 3, 1000), ('viral_surge', 'Viral Surge', 10, 10000)",
        )
        .await;
    let adopted = baseline(&database, 0);
    assert_eq!(adopted["projected"]["users"], 4, "{adopted}");
    on(&database.url, &["rebuild"], 0);
    let limits: String = database
        .ask("select string_agg(plan_creators_limit::text, ' ' order by u.user_id) from user_usage g join users u on u.id = g.user_id")
        .await;
    assert_eq!(limits, "1000 10000 0 0");
}

#[tokio::test]
async fn a_managed_database_is_refused_and_an_unmanaged_one_is_not_migrated_over() {
    let database = crate::support::database::database().await;
    let (code, printed, complaints) = run_on(&database.url, &["migrate", "baseline", "--dry-run"]);
    assert_eq!((code, printed.as_str()), (1, ""), "{complaints}");
    assert!(complaints.contains("billsync migrate status"), "{complaints}");
    let database = made_by(DRIZZLE).await;
    let (code, _, complaints) = run_on(&database.url, &["migrate", "run"]);
    assert_eq!(code, 1);
    assert!(complaints.contains("billsync migrate baseline"), "{complaints}");
    let left: i64 = database.ask("select count(*) from pg_namespace where nspname = 'billsync'").await;
    assert_eq!(left, 0, "what was refused is not begun, or it could not be adopted any more");
    let database = made_by("create table campaigns (id integer primary key)").await;
    let (code, _, complaints) = run_on(&database.url, &["migrate", "run"]);
    assert_eq!(code, 1);
    assert!(complaints.contains("public.campaigns is there"), "{complaints}");
}

#[tokio::test]
async fn where_there_is_nothing_to_adopt_it_says_what_makes_the_tables() {
    for made in
        ["select 1", "create table posts (id integer primary key); create view campaigns_of_posts as select id from posts"]
    {
        let database = made_by(made).await;
        for arguments in [&["migrate", "baseline"][..], &["migrate", "baseline", "--dry-run", "--json"]] {
            let (code, printed, complaints) = run_on(&database.url, arguments);
            assert_eq!((code, printed.as_str()), (1, ""), "{complaints}");
            assert!(complaints.contains("nothing to adopt") && complaints.contains("`billsync migrate run`"), "{complaints}");
        }
        on(&database.url, &["migrate", "run"], 0);
    }
}

#[tokio::test]
async fn whoever_finds_tables_of_others_says_at_once_how_to_adopt_them() {
    let database = made_by(DRIZZLE).await;
    let diagnosis = on(&database.url, &["doctor", "--offline", "--problems"], 1);
    assert!(diagnosis.contains("fix: billsync migrate baseline > mend.sql"), "{diagnosis}");
    assert!(!diagnosis.contains("migrate run") && !diagnosis.contains("have not run"), "{diagnosis}");
    let (code, _, complaints) = run_on(&database.url, &["plans", "list"]);
    assert!(code == 1 && complaints.contains("billsync migrate baseline") && !complaints.contains("migrate run"), "{complaints}");
}

#[tokio::test]
async fn of_two_who_adopt_at_once_one_does() {
    let database = made_by(DRIZZLE).await;
    mend(&database).await;
    let url = database.url.clone();
    let tasks = [1, 2].map(|_| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || run_on(&url, &["migrate", "baseline", "--json"]).0)
    });
    let mut codes = Vec::new();
    for task in tasks {
        codes.push(task.await.unwrap());
    }
    codes.sort_unstable();
    assert_eq!(codes, [0, 1]);
    assert_eq!(database.ask::<i64>("select count(*) from billsync.provider_objects").await, 4);
}

#[tokio::test]
async fn roles_that_would_see_nothing_are_told_and_a_stranger_is_told_whom_to_connect_as() {
    let database = made_by(DRIZZLE).await;
    let role = format!("reader_{}", std::process::id());
    database
        .execute(&format!("create role {role}; grant usage on schema public to {role}; grant select on users to {role}"))
        .await;
    let stranger = format!("{}&options=-c%20role%3D{role}", database.url);
    let (code, printed, complaints) = run_on(&stranger, &["migrate", "baseline"]);
    assert_eq!((code, printed.as_str()), (1, ""), "{complaints}");
    assert!(complaints.contains("the owner of the database"), "{complaints}");
    mend(&database).await;
    let (code, printed, complaints) = run_on(&database.url, &["migrate", "baseline", "--json"]);
    assert_eq!(code, 0, "{complaints}");
    let adopted: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(adopted["adopted"]["shut_out"], json!([role]));
    assert!(complaints.contains("row-level security"), "{complaints}");
    database.execute(&format!("drop owned by {role}; drop role {role}")).await;
}
