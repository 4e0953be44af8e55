//! What an example finds when it is typed: a folder with the files that examples name, a database with a catalog and the cast,
//! a Stripe, a Clerk, and where an example sends something, a running server.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use billsync::clock::Clock;
use chrono::{DateTime, Duration, Utc};
use tempfile::TempDir;

use super::cast::{Cast, prices};
use super::collected::{Block, Example};
use crate::cli::{fixture, on};
use crate::http::client::{CLERK_SECRET, STRIPE_SECRET, exchange};
use crate::support::database::{TestDatabase, copy_of, database, empty_database};
use crate::support::events::{stripe_event, subscription};
use crate::support::fake_clerk::{self, FakeClerk};
use crate::support::service::Service;
use crate::support::stripe::{API_KEY, FakeStripe};
use crate::support::until;

const TOKEN: &str = "a-token-of-at-least-32-characters";

/// Addresses at which examples expect a server.
const SERVERS: [&str; 2] = ["http://127.0.0.1:8787", "https://billing.example.com"];

/// A deployment that the README could be about. Each block of examples gets a copy of its database.
pub struct World {
    database: TestDatabase,
    stripe: FakeStripe,
    clerk: FakeClerk,
    cast: Cast,
    /// Where the database server's programs are.
    programs: String,
}

impl World {
    pub async fn of(blocks: &[Block]) -> World {
        let cast = Cast::of(blocks);
        let at = months_ago();
        let (database, stripe, clerk) = (database().await, FakeStripe::start(Clock::System).await, FakeClerk::start().await);
        stripe.put(prices().chain(cast.stripe_objects(at)));
        cast.clerk_users(at).into_iter().for_each(|user| clerk.put(user));
        on(&database.url, &["plans", "apply", &fixture("plans.toml")], 0);
        let programs = database.ask("select setting from pg_config where name = 'BINDIR'").await;
        let world = World { database, stripe, clerk, cast, programs };
        let settings = world.settings(&world.database.url);
        let borrowed: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut service = Service::start(&borrowed).await;
        for webhook in world.cast.webhooks(at) {
            let answer = exchange(service.address, webhook.request(Clock::System.now())).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let all_ran = "select count(distinct name) >= 6 from billsync.schedule_runs where succeeded";
        until("every task has run", async || world.database.ask::<bool>(all_ran).await).await;
        service.terminate();
        assert!(service.ended().await, "{}", service.log());
        world.database.execute("update public.users set created_at = '2025-01-01'").await;
        world
    }

    fn settings(&self, url: &str) -> Vec<(String, String)> {
        let settings = [
            ("DATABASE_URL", url),
            ("STRIPE_WEBHOOK_SECRETS", STRIPE_SECRET),
            ("CLERK_WEBHOOK_SECRETS", CLERK_SECRET),
            ("STRIPE_API_KEY", API_KEY),
            ("STRIPE_API_BASE", &self.stripe.base()),
            ("CLERK_SECRET_KEY", fake_clerk::KEY),
            ("CLERK_API_BASE", &self.clerk.base()),
            ("BILLSYNC_API_TOKENS", &format!("app:{TOKEN}")),
            ("BILLSYNC_LISTEN", "127.0.0.1:0"),
        ];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    /// All that the examples of a block need.
    pub async fn stage(&self, block: &Block) -> Stage {
        let lines: String = block.examples.iter().map(|example| format!("{}\n", example.line)).collect();
        let database = copy_of(&self.database).await;
        let mut settings = self.settings(&database.url);
        let mut service = None;
        if SERVERS.iter().any(|address| lines.contains(address)) || lines.contains("--to URL") || lines.contains("healthcheck") {
            let borrowed: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            service = Some(Service::start(&borrowed).await);
        }
        if lines.contains("import user-profiles") {
            database.execute(WIDE_TABLES).await;
        }
        if block.examples.iter().any(|example| example.line.contains("doctor") && example.output.is_some()) {
            bring_trouble(&database, &mut settings).await;
        }
        let unmanaged = empty_database().await;
        if lines.contains("migrate baseline") {
            unmanaged.execute(include_str!("../../baseline/older_layout.sql")).await;
        }
        let folder = folder_with_files();
        let path = std::env::var_os("PATH").unwrap_or_default();
        settings.extend([
            ("TOKEN".to_owned(), TOKEN.to_owned()),
            ("NEW_URL".to_owned(), unmanaged.url.clone()),
            ("HOME".to_owned(), folder.path().display().to_string()),
            ("PATH".to_owned(), format!("{}:{}:{}", folder.path().join("bin").display(), self.programs, path.display())),
        ]);
        Stage {
            folder,
            database,
            unmanaged,
            service,
            settings,
            user: self.cast.users[0].clone(),
            customer: self.cast.customers[0].clone(),
        }
    }
}

/// Long enough ago for nothing to be due soon, on a whole second, and within the period that its subscriptions pay for.
fn months_ago() -> DateTime<Utc> {
    let at = Clock::System.now() - Duration::days(3);
    DateTime::from_timestamp(at.timestamp(), 0).unwrap()
}

/// Programs of others that examples call.
const CLIENTS: [&str; 4] = ["curl", "psql", "pg_dump", "pg_restore"];

/// What one block of examples is run in.
pub struct Stage {
    pub folder: TempDir,
    database: TestDatabase,
    /// Made by something else than the migrations, or empty.
    unmanaged: TestDatabase,
    service: Option<Service>,
    settings: Vec<(String, String)>,
    user: String,
    customer: String,
}

impl Stage {
    /// The database that an example is about: adopting is about one that is not managed yet.
    pub fn database(&self, example: &Example) -> &TestDatabase {
        let is_adopting = example.line.contains("migrate baseline") || example.line.starts_with("psql");
        if is_adopting { &self.unmanaged } else { &self.database }
    }

    /// The environment of an example.
    pub fn environment(&self, example: &Example) -> Vec<(String, String)> {
        let mut settings = self.settings.clone();
        settings.retain(|(name, _)| name != "DATABASE_URL");
        settings.push(("DATABASE_URL".to_owned(), self.database(example).url.clone()));
        if let Some(service) = self.service.as_ref().filter(|_| example.line.contains("healthcheck")) {
            settings.retain(|(name, _)| name != "BILLSYNC_LISTEN");
            settings.push(("BILLSYNC_LISTEN".to_owned(), service.address.to_string()));
        }
        settings
    }

    /// The line with what stands in for addresses, ellipses and names in capital letters.
    pub fn filled(&self, example: &Example) -> String {
        let mut line = example.line.replace("0.0.0.0:8787", "127.0.0.1:0");
        if let Some(service) = &self.service {
            for address in SERVERS {
                line = line.replace(address, &format!("http://{}", service.address));
            }
            line = line.replace("--to URL", &format!("--to http://{}", service.address));
        }
        let words = line.split(' ').map(|word| match word.split_once('=') {
            // NAME=whsec_…: what the environment has already.
            Some((name, value)) if value.ends_with('…') && !name.starts_with('-') => format!("{name}=\"${name}\""),
            _ => word.replace("user_…", &self.user).replace("cus_…", &self.customer),
        });
        let line = words.collect::<Vec<String>>().join(" ").replace(" WHO", &format!(" {}", self.user));
        assert!(!line.contains('…'), "{}: nothing stands in for the ellipsis in {line}", example.origin);
        line
    }

    /// A client that the line calls and that the machine lacks. What CI runs on has all of them.
    pub fn missing_program(&self, line: &str) -> Option<&'static str> {
        let path = self.settings.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_str()).unwrap_or_default();
        let is_there = |program: &str| std::env::split_paths(path).any(|folder| folder.join(program).is_file());
        CLIENTS.into_iter().find(|program| line.split_whitespace().any(|word| word == *program) && !is_there(program))
    }

    /// What is typed when a command asks whether it is meant.
    pub fn answer(&self) -> &str {
        &self.user
    }
}

/// The files that examples name, in an empty folder that the embedded server's account can enter.
fn folder_with_files() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    symlink(repository.join("fixtures"), path.join("fixtures")).unwrap();
    for made in ["bin", "migrations", "more"] {
        std::fs::create_dir(path.join(made)).unwrap();
    }
    for entry in std::fs::read_dir(repository.join("migrations")).unwrap().flatten() {
        std::fs::copy(entry.path(), path.join("migrations").join(entry.file_name())).unwrap();
    }
    std::fs::copy(repository.join("fixtures/plans.toml"), path.join("plans.toml")).unwrap();
    std::fs::write(path.join("billsync.toml"), "billsync_queue_events = 512\n").unwrap();
    let at = months_ago();
    let event = |id: &str| stripe_event(id, "customer.subscription.updated", at, subscription(7, at)).body;
    std::fs::write(path.join("events.ndjson"), [event("evt_file_1"), event("evt_file_2")].join(&b'\n')).unwrap();
    std::fs::write(path.join("more/one.json"), event("evt_file_3")).unwrap();
    symlink(env!("CARGO_BIN_EXE_billsync"), path.join("bin/billsync")).unwrap();
    std::fs::write(path.join("bin/cargo"), CARGO).unwrap();
    std::fs::set_permissions(path.join("bin/cargo"), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// `cargo run [--release] -- …` runs what has been built for the tests; nothing else is understood.
const CARGO: &str = "#!/bin/sh\n[ \"$1\" = run ] || exit 64\nshift\n[ \"$1\" = --release ] && shift\n[ \"$1\" = -- ] || exit 64\nshift\n\
    exec billsync \"$@\"\n";

/// The deprecated table, and the same elsewhere.
const WIDE_TABLES: &str = "create table public.user_profiles (id uuid primary key default gen_random_uuid(), user_id text, email text, \
    full_name text, current_plan text, subscription_status text, stripe_customer_id text, signup_timestamp timestamp); \
    insert into public.user_profiles (user_id, email, full_name, current_plan, subscription_status, stripe_customer_id, signup_timestamp) \
    select 'user_old' || n, 'old' || n || '@example.com', 'Old ' || n, 'glow_up', 'active', 'cus_old' || n, '2025-02-01 09:00' \
    from generate_series(1, 3) n; \
    create schema legacy; create table legacy.profiles as table public.user_profiles";

/// What the README lets `doctor` find.
async fn bring_trouble(database: &TestDatabase, settings: &mut Vec<(String, String)>) {
    settings.push(("BILLSYNC_LISEN".to_owned(), "127.0.0.1:8788".to_owned()));
    // Nothing about roles: those of the tests that run beside this one are in the same cluster.
    database.execute("drop index public.campaigns_user_id_idx").await;
    let folder = tempfile::tempdir().unwrap();
    let at = months_ago();
    for number in [1, 2] {
        let mut unknown = subscription(number, at);
        unknown["items"]["data"][0]["price"] = serde_json::json!({"id": "price_1Rk", "object": "price", "product": "prod_Q1"});
        let event = stripe_event(&format!("evt_trouble_{number}"), "customer.subscription.created", at, unknown);
        std::fs::write(folder.path().join(format!("{number}.json")), event.body).unwrap();
    }
    on(&database.url, &["replay", folder.path().to_str().unwrap()], 0);
}
