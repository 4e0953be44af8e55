//! Backup and restore as the README says it, with the clients of Postgres themselves: the database that comes out is the one that
//! went in, is guarded as that was, and takes what comes next.

mod catalog;
mod under_load;

use std::io::Write;
use std::process::Command;

use billsync::clock::Clock;
use billsync::store::{Store, StoreSettings};
use chrono::{DateTime, Months, Utc};
use serde_json::json;

use crate::cli::{fixture, on, run_on};
use crate::http::client::{exchange, post};
use crate::support::database::{TestDatabase, empty_database};
use crate::support::events::{Webhook, customer_created, stripe_event, subscription, subscription_updated, user_created};
use crate::support::examples::collected::{self, Example};
use crate::support::service::Service;

const PASSWORD: &str = "hunter2";
const TOKEN: &str = "a-token-of-at-least-32-characters";

/// A database with an ordinary role as its owner, as a deployment has it. The role can read nothing elsewhere.
struct Owned {
    database: TestDatabase,
    owner: String,
}

impl Owned {
    async fn new() -> Owned {
        let database = empty_database().await;
        let owner = format!("{}_owner", database.name);
        // Roles are shared by the cluster, so another test may have made those of Supabase.
        database
            .execute(&format!(
                "select pg_advisory_lock(7); do $$ begin \
                 if not exists (select from pg_roles where rolname = 'anon') then create role anon; end if; \
                 if not exists (select from pg_roles where rolname = 'authenticated') then create role authenticated; end if; \
                 end $$; select pg_advisory_unlock(7); \
                 create role {owner} login password '{PASSWORD}'; alter database {} owner to {owner}; \
                 grant usage on schema public to anon, authenticated",
                database.name
            ))
            .await;
        Owned { database, owner }
    }

    fn url(&self) -> String {
        self.database.url_for(&self.owner, PASSWORD)
    }

    /// The role goes with its database.
    async fn end(self) {
        let (Owned { database, owner }, beside) = (self, empty_database().await);
        drop(database);
        beside.execute(&format!("drop role {owner}")).await;
    }
}

/// The commands of the README's section, in their order.
fn commands() -> Vec<Example> {
    let blocks = collected::of_readme().into_iter();
    let mut found = blocks.filter(|block| block.examples.iter().any(|example| example.line.starts_with("pg_dump")));
    let block = found.next().expect("the README tells how to back up");
    assert!(found.next().is_none() && block.examples.len() > 2, "{block:?}");
    block.examples
}

/// Where programs are looked for: beside the server's first.
fn search_path(programs: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    format!("{programs}:{}", path.display())
}

/// Whether the machine has the clients, beside the server or elsewhere. What CI runs on has them.
async fn has_clients(database: &TestDatabase) -> bool {
    let programs: String = database.ask("select setting from pg_config where name = 'BINDIR'").await;
    let path = search_path(&programs);
    let is_there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let has_all = ["pg_dump", "pg_restore", "psql"].into_iter().all(is_there);
    if !has_all {
        let _ = writeln!(std::io::stderr(), "not tried: this machine has no pg_dump, pg_restore or psql");
    }
    has_all
}

/// Types those commands in a folder of their own, each of which has to succeed and say nothing of an error. What is restored does
/// not so much as name who owned it.
async fn restore(from: &Owned, to: &Owned) {
    let folder = tempfile::tempdir().unwrap();
    let programs: String = from.database.ask("select setting from pg_config where name = 'BINDIR'").await;
    let path = search_path(&programs);
    let typed = commands().into_iter().map(|example| example.line);
    let unowned = format!("! pg_restore --no-owner --use-list=billsync.list --file=- billsync.dump | grep -n {}", from.owner);
    for line in typed.chain([unowned]) {
        let mut command = Command::new("sh");
        command.args(["-euc", &line]).current_dir(folder.path()).env_clear();
        command.env("PATH", &path).env("DATABASE_URL", from.url()).env("NEW_URL", to.url());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !told.to_lowercase().contains("error"), "{line}\n{told}");
    }
}

fn webhooks(at: DateTime<Utc>) -> Vec<Webhook> {
    let odd = json!({"id": "ch_1", "object": "charge", "customer": "cus_1", "description": "?"});
    let odd = String::from_utf8(stripe_event("evt_odd", "charge.updated", at, odd).body).unwrap();
    let unreadable = json!({"id": "in_1", "object": "invoice"});
    let mut told: Vec<Webhook> = (1..=4).flat_map(|number| [user_created(number, at), customer_created(number, at)]).collect();
    told.extend((1..=3).map(|number| subscription_updated(number, 1, at)));
    // Half a surrogate pair, which jsonb refuses: such a payload is kept as bytes.
    told.push(Webhook::stripe("evt_odd", odd.replace('?', "\\ud800")));
    told.push(stripe_event("evt_unreadable", "invoice.paid", at, unreadable));
    told.push(subscription_updated(9, 1, at));
    told
}

/// What every table can hold: what the providers say, what an operator says, what the application writes.
async fn fill(owned: &Owned, at: DateTime<Utc>) {
    let url = owned.url();
    on(&url, &["migrate", "run"], 0);
    on(&url, &["plans", "apply", &fixture("plans.toml")], 0);
    let mut service = Service::start(&[("DATABASE_URL", &url), ("BILLSYNC_API_TOKENS", &format!("app:{TOKEN}"))]).await;
    for webhook in webhooks(at) {
        assert_eq!(exchange(service.address, webhook.request(at)).await.status, 200);
    }
    let authorization = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    let consume = json!({"amount": 3, "idempotency_key": "first"}).to_string();
    let consumed = exchange(service.address, post("/v1/users/user_1/usage/creators/consume", &authorization, consume)).await;
    assert_eq!(consumed.status, 200, "{consumed:?}");
    service.terminate();
    assert!(service.ended().await, "{}", service.log());
    on(&url, &["users", "link", "--customer", "cus_9", "--user", "user_3", "--reason", "ticket 7"], 0);
    on(&url, &["users", "delete", "user_4", "--yes"], 0);
    owned
        .database
        .execute(
            "insert into campaigns (user_id, name, description) values ('user_1', E'tab\\tand\\nline', 'é🦀'); \
             insert into scraping_jobs (user_id, keywords, progress) values ('user_1', '[\"a\", 1.50]', 0.125); \
             insert into scraping_results (job_id, creators) select id, '[{}]' from scraping_jobs; \
             insert into creator_lists (user_id, name) select id, 'l' from users; \
             insert into list_items (list_id, platform, creator_handle) select id, 'p', 'h' from creator_lists; \
             insert into system_configurations (category, key, value) values ('a', 'b', ''); \
             insert into billsync.sync_cursors (name, position) values ('somewhere', '{\"at\": 1}'); \
             insert into billsync.refetch_queue (object_id, after, reason) values ('sub_1', now(), 'test'); \
             insert into billsync.schedule_leases values ('test', 'somebody', now()); \
             insert into billsync.usage_periods (user_id, period_start, period_end, usage_campaigns_current, \
                 usage_creators_current_month, enrichments_current_month) \
                 select id, '2026-01-01', '2026-02-01', 1, 2, 3 from users",
        )
        .await;
    let empty = catalog::counts(&owned.database).await.into_iter().filter(|(_, rows)| *rows == 0).map(|(table, _)| table);
    // Partitions of months that are still to come, and for what belongs to none.
    let empty: Vec<String> = empty.filter(|table| !table.starts_with("billsync.webhook_payloads_")).collect();
    assert_eq!(empty, Vec::<String>::new(), "what is not there cannot be compared");
}

#[tokio::test]
async fn a_restored_database_is_the_one_that_was_backed_up_and_goes_on() {
    let (from, to) = (Owned::new().await, Owned::new().await);
    if !has_clients(&from.database).await {
        return;
    }
    let at = Clock::System.now();
    fill(&from, at).await;
    // Somebody who may read.
    let reader = format!("{}_reader", from.database.name);
    let grants = format!(
        "create role {reader}; grant usage on schema billsync to {reader}; grant select on billsync.stripe_invoices, users to {reader}"
    );
    from.database.execute(&grants).await;
    restore(&from, &to).await;

    assert_eq!(catalog::rows(&to.database).await, catalog::rows(&from.database).await);
    let expected = catalog::objects(&from.database, &from.owner).await;
    let kinds = ["grant ", "policy ", "security ", "constraint ", "index ", "trigger ", "function ", "column ", "partition "];
    for kind in kinds {
        assert!(expected.iter().any(|line| line.starts_with(kind)), "nothing is compared of {kind}");
    }
    let restored = catalog::objects(&to.database, &to.owner).await;
    let lost: Vec<&String> = expected.difference(&restored).collect();
    let more: Vec<&String> = restored.difference(&expected).collect();
    assert!(lost.is_empty() && more.is_empty(), "lost: {lost:#?}\nmore: {more:#?}");

    let url = to.url();
    on(&url, &["migrate", "status"], 0);
    assert_eq!(on(&url, &["migrate", "run"], 0), "The schema is up to date.\n");
    on(&url, &["rebuild"], 0);
    let (_, diagnosis, _) = run_on(&url, &["doctor", "--offline", "--problems"]);
    for area in ["rights", "security", "schema"] {
        assert!(!diagnosis.contains(&format!(" {area} ")), "{diagnosis}");
    }
    goes_on(&to, at).await;
    from.end().await;
    to.end().await;
    empty_database().await.execute(&format!("drop role {reader}")).await;
}

/// What comes again is known, what is new is taken, and the months ahead are made.
async fn goes_on(restored: &Owned, at: DateTime<Utc>) {
    let url = restored.url();
    let mut service = Service::start(&[("DATABASE_URL", &url), ("BILLSYNC_API_TOKENS", &format!("app:{TOKEN}"))]).await;
    let outcome = async |webhook: &Webhook| exchange(service.address, webhook.request(at)).await.json()["outcome"].clone();
    for webhook in &webhooks(at) {
        let expected = match webhook.id.as_str() {
            // What had failed is tried again, and nothing is known of who was erased.
            "evt_unreadable" => "failed",
            "msg_user_4" => "ignored",
            _ => "duplicate",
        };
        assert_eq!(outcome(webhook).await, expected, "{}", webhook.id);
    }
    assert_eq!(outcome(&stripe_event("evt_new", "customer.subscription.updated", at, subscription(3, at))).await, "applied");
    assert_eq!(outcome(&user_created(4, at).renamed("msg_again")).await, "ignored", "who was erased stays so");
    let authorization = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    let again = json!({"amount": 3, "idempotency_key": "first"}).to_string();
    let again = exchange(service.address, post("/v1/users/user_1/usage/creators/consume", &authorization, again)).await;
    assert_eq!(again.json()["used"], 3, "the key is known: {again:?}");
    service.terminate();
    assert!(service.ended().await, "{}", service.log());

    let partitions = "select count(*) from pg_inherits where inhparent = 'billsync.webhook_payloads'::regclass";
    let before: i64 = restored.database.ask(partitions).await;
    let store = Store::connect(&StoreSettings::new(&url)).await.unwrap();
    let made = store.ensure_payload_partitions(at.checked_add_months(Months::new(2)).unwrap()).await.unwrap();
    store.close().await;
    assert_eq!(restored.database.ask::<i64>(partitions).await, before + 2, "{made:?}");
    on(&url, &["schedule", "run", "retention"], 0);
    on(&url, &["rebuild", "--dry-run"], 0);
}
