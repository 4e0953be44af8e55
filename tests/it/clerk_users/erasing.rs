//! Erasing a person: nothing personal is left in any table, and nothing that comes later brings it back.

mod afterwards;
mod person;

use billsync::domain::erasure::id_hash;
use billsync::domain::rules::Rules;
use billsync::ingest::erasure::erase_user;
use billsync::store::Erasure;
use sqlx::{AssertSqlSafe, PgConnection};

use self::person::{SECRETS, USER, sequel, story};
use super::linking::server_with_plans;
use crate::support::database::TestDatabase;
use crate::support::events::{customer_created, subscription_updated, user_created};
use crate::support::server::{TestServer, now};
use crate::support::service::billsync;
use crate::support::until;

/// A server on which the person has done everything that a person does.
pub async fn server_with_person() -> (TestServer, TestDatabase) {
    let (server, database) = server_with_plans().await;
    for webhook in story() {
        let answer = server.send(&webhook).await;
        assert_eq!(answer.status, 200, "{}: {answer:?}", webhook.id);
    }
    let rows = format!(
        "insert into public.campaigns (user_id, name, search_type, status) values ('{USER}', 'Zephyrine', 'x', 'draft');
         insert into public.creator_lists (user_id, name) select id, 'Zephyrine' from public.users where user_id = '{USER}'"
    );
    database.execute(&rows).await;
    (server, database)
}

pub async fn erase(server: &TestServer) -> Erasure {
    erase_user(&server.store, USER, &Rules::default(), &server.clock).await.unwrap()
}

/// Every row of every table of ours that holds one of the texts, in any case.
pub async fn traces(database: &TestDatabase, texts: &[&str]) -> Vec<String> {
    let mut connection: PgConnection = database.connect().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname in ('public', 'billsync') and c.relkind = 'r' order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    let mut found = Vec::new();
    for table in &tables {
        // Bytes are shown as text, so that they are searched too.
        let raw = if table.contains("webhook_payloads") { "|| coalesce(convert_from(t.payload_raw, 'UTF8'), '')" } else { "" };
        for text in texts {
            let sql = format!("select to_jsonb(t)::text {raw} from {table} t where (to_jsonb(t)::text {raw}) ilike '%{text}%'");
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
            found.extend(rows.into_iter().map(|row| format!("{text} in {table}: {row}")));
        }
    }
    found
}

/// Nothing personal is anywhere, and the user has no rows.
pub async fn assert_gone(database: &TestDatabase, after: &str) {
    let found = traces(database, &SECRETS).await;
    assert!(found.is_empty(), "after {after}: {found:#?}");
    assert_eq!(database.ask::<i64>("select count(*) from public.users").await, 0, "after {after}");
}

/// The rows and what they are looked up by are what the facts say.
pub async fn assert_rebuilt(database: &TestDatabase) {
    let mut command = billsync(&[("DATABASE_URL", &database.url)]);
    command.args(["rebuild", "--dry-run", "--json"]).stdout(std::process::Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn nothing_personal_is_left_in_any_table() {
    let (server, database) = server_with_person().await;
    for secret in SECRETS {
        assert!(!traces(&database, &[secret]).await.is_empty(), "the story does not hold {secret}");
    }
    let ledger_before: i64 = database.ask("select count(*) from billsync.webhook_events").await;
    let erasure = erase(&server).await;
    assert_gone(&database, "the erasure").await;

    assert_eq!((erasure.users, erasure.application_rows, erasure.customers.as_slice()), (1, 2, &["cus_z".to_owned()][..]));
    assert!(erasure.objects_deleted > 0 && erasure.objects_reduced > 0 && erasure.payloads_deleted > 0, "{erasure:?}");
    // The ledger's rows stay, one is added; what the objects say of the billing stays.
    assert_eq!(database.ask::<i64>("select count(*) from billsync.webhook_events").await, ledger_before + 1);
    let status: String = database.ask("select fact ->> 'status' from billsync.provider_objects where object_id = 'sub_z'").await;
    assert_eq!(status, "active");
    let tombstones: i64 = database
        .ask(&format!("select count(*) from billsync.erasures where id_hash in ('{}', '{}')", id_hash(USER), id_hash("cus_z")))
        .await;
    assert_eq!(tombstones, 2);
    assert_rebuilt(&database).await;
    // Again, it finds nothing to do.
    let again = erase(&server).await;
    assert_eq!((again.users, again.objects_deleted, again.mentions_replaced), (0, 0, 0), "{again:?}");
}

#[tokio::test]
async fn others_keep_everything() {
    let (server, database) = server_with_person().await;
    server.link_users(1, 3).await;
    assert_eq!(server.outcome(&subscription_updated(1, 1, now())).await, "applied");
    let of_others = "select md5(string_agg(r, '|' order by r)) from ( \
        select to_jsonb(u)::text as r from public.users u where user_id <> 'user_zephyrine' \
        union all select to_jsonb(o)::text from billsync.provider_objects o where owner_id in ('user_1', 'user_2', 'cus_1', 'cus_2') \
        union all select to_jsonb(p)::text from billsync.webhook_payloads p where event_id in \
            ('msg_user_1', 'msg_user_2', 'evt_cus_1', 'evt_cus_2', 'evt_sub_1_1') \
        union all select to_jsonb(e)::text from billsync.webhook_events e where owner_id in ('user_1', 'user_2', 'cus_1', 'cus_2')) x";
    let before: String = database.ask(of_others).await;
    erase(&server).await;
    assert_eq!(database.ask::<String>(of_others).await, before);
    assert!(traces(&database, &SECRETS).await.is_empty());
    assert_eq!(database.ask::<i64>("select count(*) from public.user_billing").await, 2);
}

#[tokio::test]
async fn a_customer_that_moved_on_stays_whole() {
    let (server, database) = server_with_plans().await;
    server.link_users(1, 2).await;
    assert_eq!(server.outcome(&user_created(2, now())).await, "applied");
    let word = billsync::ingest::transaction::OperatorWord::BelongsTo("user_2".into());
    super::linking::say(&server, word).await;
    erase_user(&server.store, "user_1", &Rules::default(), &server.clock).await.unwrap();
    let traces = traces(&database, &["user_1"]).await;
    assert!(traces.is_empty(), "{traces:#?}");
    assert_eq!(database.ask::<String>("select stripe_customer_id from public.user_billing").await, "cus_1");
    // Its events go on, also those that name the erased user; the link holds.
    let renamed = crate::support::events::Webhook::stripe("evt_again", customer_created(1, now()).body.clone());
    assert_eq!(server.outcome(&subscription_updated(1, 1, now())).await, "applied");
    assert!(["duplicate", "applied", "stale"].contains(&&*server.outcome(&renamed).await));
    assert_eq!(database.ask::<String>("select current_plan from public.user_subscriptions").await, "glow_up");
}

#[tokio::test]
async fn an_erasure_in_the_middle_of_a_storm_leaves_nothing() {
    let (server, database) = server_with_person().await;
    let storm = async {
        for round in 0..8 {
            let events = sequel().into_iter().filter(|webhook| webhook.id != "evt_pm_z2" && webhook.id != "msg_z_3");
            let sends = events.map(|webhook| {
                let (again, server) = (webhook.renamed(&format!("{}_{round}", webhook.id)), &server);
                async move { server.send(&again).await.status }
            });
            for status in futures_util::future::join_all(sends).await {
                // Whoever waited too long for the locks is asked to come back.
                assert!(status == 200 || status == 503, "{status}");
            }
        }
    };
    futures_util::future::join(storm, erase(&server)).await;
    assert_gone(&database, "the storm").await;
}

/// What making and changing campaigns locks, in its order.
#[tokio::test]
async fn an_erasure_waits_for_whoever_changes_a_campaign() {
    let (server, database) = server_with_person().await;
    let mut other: PgConnection = database.connect().await;
    // Of two who wait for each other the erasure tries again; here it shall not be the one who notices.
    let begin = "begin; set local deadlock_timeout = '10ms'";
    let lock = format!("{begin}; select from public.campaigns where user_id = '{USER}' for update");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut other).await.unwrap();
    let change = async {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        until("the erasure waits for the campaign", async || database.ask::<i64>(waiting).await > 0).await;
        let count = format!(
            "update public.user_usage set usage_campaigns_current = 0 \
                where user_id = (select id from public.users where user_id = '{USER}'); \
            select from public.users where user_id = '{USER}' for key share; commit"
        );
        sqlx::raw_sql(AssertSqlSafe(count)).execute(&mut other).await
    };
    let (changed, _erasure) = futures_util::future::join(change, erase(&server)).await;
    changed.expect("no deadlock");
    assert_gone(&database, "the change").await;
}

#[tokio::test]
async fn the_command_asks_says_what_it_did_and_what_goes_on() {
    let (_server, database) = server_with_person().await;
    let run = async |arguments: &[&str]| {
        let mut command = billsync(&[("DATABASE_URL", &database.url)]);
        command.args(arguments).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, _, complaints) = run(&["users", "delete", USER]).await;
    assert!(code == 2 && complaints.contains("--yes"), "{complaints}");
    assert_eq!(database.ask::<i64>("select count(*) from public.users").await, 1, "nothing happens unasked");
    let (code, said, complaints) = run(&["users", "delete", USER, "--yes"]).await;
    assert!(code == 0 && said.contains("is erased") && said.contains("cus_z"), "{said}{complaints}");
    assert!(complaints.contains("still running at Stripe") && complaints.contains("sub_z"), "{complaints}");
    assert_gone(&database, "the command").await;
    let (code, _, complaints) = run(&["users", "link", "--customer", "cus_other", "--user", USER]).await;
    assert!(code == 1 && complaints.contains("was erased"), "{complaints}");
    assert_gone(&database, "a link by the operator").await;
    let (code, _, complaints) = run(&["users", "delete", "user_nobody", "--yes"]).await;
    assert!(code == 1 && complaints.contains("nothing is known"), "{complaints}");
}
