//! How fast the API reads. `GET /v1/users/{id}` over HTTP in pgbench's rate of the same select on the same rows; and the first
//! page of every list against the page after its millionth row. Ends with an error when a budget is exceeded.
//! `cargo bench --bench profiles -- [--users N] [--rows N] [--rounds N] [--only users|lists]`

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use billsync::clock::Clock;
use billsync::domain::rules::Rules;
use billsync::embedded_postgres::{EmbeddedPostgres, Options};
use billsync::http::application::Application;
use billsync::http::auth::ApiToken;
use billsync::http::server::ServerOptions;
use billsync::ingest::committer;
use billsync::store::{Store, StoreSettings, statements};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The least rate over HTTP, in pgbench's.
const LEAST_RATE: f64 = 0.5;

/// What a page after the millionth row may take, in the first page's time.
const MOST_TIMES: f64 = 1.5;

/// Connections of the client, and of pgbench.
const CONNECTIONS: usize = 32;

/// How long each side is measured in a round.
const ROUND: Duration = Duration::from_secs(10);

/// Rows that are left for the last page.
const LEFT: u32 = 100;

/// Bytes that every full page has, and none with few rows.
const FULL_PAGE: usize = 5000;

/// How often a page is read.
const READS: usize = 200;

const TOKEN: &str = "a-token-of-the-benchmark-of-profiles";

struct Arguments {
    users: u32,
    rows: u32,
    rounds: u32,
    only: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = arguments()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("profiles");
        let options = Options { guard_program: Some(env!("CARGO_BIN_EXE_billsync").into()), ..Options::new(home) };
        let postgres = EmbeddedPostgres::start(&options).await?;
        let measured = measure(&postgres, &arguments).await;
        postgres.stop().await?;
        measured
    })
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut arguments = Arguments { users: 100_000, rows: 1_000_000 + LEFT, rounds: 3, only: None };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().with_context(|| format!("{name} needs a value"));
        match name.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--users" => arguments.users = value()?.parse()?,
            "--rows" => arguments.rows = value()?.parse()?,
            "--rounds" => arguments.rounds = value()?.parse()?,
            "--only" => arguments.only = Some(value()?),
            _ => bail!("unknown argument {name}"),
        }
    }
    Ok(arguments)
}

async fn measure(postgres: &EmbeddedPostgres, arguments: &Arguments) -> anyhow::Result<()> {
    let url = prepare(postgres, arguments).await?;
    let store = Store::connect(&StoreSettings::new(&url)).await?;
    let options = ServerOptions {
        listen: "127.0.0.1:0".into(),
        store: Some(store.clone()),
        api_tokens: vec![ApiToken::new("bench", TOKEN)?],
        ..ServerOptions::default()
    };
    let rules = Arc::new(Rules::default());
    let application = Application::start(store, rules, Clock::System, committer::Options::default(), options)?;
    let address = *application.addresses().first().context("an address")?;
    let is_asked_for = |what: &str| arguments.only.as_deref().is_none_or(|only| only == what);
    let mut problems = Vec::new();
    if is_asked_for("users") {
        problems.extend(measure_users(&url, address, arguments).await?);
    }
    if is_asked_for("lists") {
        problems.extend(measure_lists(&url, address, arguments.rows).await?);
    }
    application.stop().await?;
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}

/// A database with that many rows, kept for the next run.
async fn prepare(postgres: &EmbeddedPostgres, arguments: &Arguments) -> anyhow::Result<String> {
    let name = format!("profiles_{}_{}", arguments.users, arguments.rows);
    let (server, query) = postgres.url().split_once('?').unwrap_or((postgres.url(), ""));
    let (server, _) = server.rsplit_once('/').context("the URL names a database")?;
    let url = format!("{server}/{name}?{query}");
    if ask(postgres.url(), &format!("select count(*) from pg_database where datname = '{name}_done'")).await? != "0" {
        return Ok(url.replace(&name, &format!("{name}_done")));
    }
    let began = Instant::now();
    execute(postgres.url(), &format!("drop database if exists {name} with (force)")).await?;
    execute(postgres.url(), &format!("create database {name}")).await?;
    let store = Store::connect(&StoreSettings::new(&url)).await?;
    store.migrate(Clock::System.now()).await?;
    store.close().await;
    execute(&url, &rows_of_users(arguments.users)).await?;
    execute(&url, &rows_of_lists(arguments.rows)).await?;
    execute(&url, "vacuum analyze").await?;
    execute(&url, "checkpoint").await?;
    execute(postgres.url(), &format!("alter database {name} rename to {name}_done")).await?;
    println!("{} users and {} rows of every list made in {:.0?}", arguments.users, arguments.rows, began.elapsed());
    Ok(url.replace(&name, &format!("{name}_done")))
}

fn rows_of_users(users: u32) -> String {
    format!(
        "set session_replication_role = replica; \
         insert into users (user_id, email, full_name, created_at) \
         select 'user_' || n, 'ada' || n || '@example.com', 'Ada ' || n, '2026-06-01Z'::timestamptz + n * interval '1 second' \
         from generate_series(1, {users}) n; \
         insert into user_subscriptions (user_id, current_plan, subscription_status, billing_sync_status, subscription_renewal_date) \
         select id, 'glow_up', 'active', 'synced', '2026-12-01Z' from users; \
         insert into user_billing (user_id, stripe_customer_id, stripe_subscription_id, payment_method_id, card_last_4, card_brand, \
             card_exp_month, card_exp_year, billing_address_country) \
         select id, 'cus_' || user_id, 'sub_' || user_id, 'pm_' || user_id, '4242', 'visa', 8, 2031, 'DE' from users; \
         insert into user_usage (user_id, plan_campaigns_limit, plan_creators_limit, plan_features, usage_period_start, usage_reset_date) \
         select id, 3, 1000, '{{\"analytics\": \"basic\", \"export\": true}}', '2026-11-01Z', '2026-12-01Z' from users; \
         insert into user_system_data (user_id, signup_timestamp, email_schedule_status, last_webhook_event, last_webhook_timestamp) \
         select id, created_at, jsonb_build_object('welcome:' || user_id, jsonb_build_object('due_at', created_at, 'active', true, \
             'sent_at', null)), 'customer.subscription.updated', created_at from users; \
         set session_replication_role = origin"
    )
}

/// Of users who have that many of everything, and one job and one list with as many entries.
fn rows_of_lists(rows: u32) -> String {
    let at = "'2020-01-01Z'::timestamptz + n * interval '1 minute'";
    let ids = format!("generate_series(1, {rows}) n");
    format!(
        "set session_replication_role = replica; \
         insert into users (user_id, email, created_at) select 'old_' || n, 'old' || n || '@example.com', {at} from {ids}; \
         insert into campaigns (user_id, name, status, search_type, created_at) \
         select 'user_1', 'c' || n, (array['draft', 'active'])[1 + n % 2], 'keyword', {at} from {ids}; \
         insert into scraping_jobs (user_id, status, platform, keywords, search_params, created_at) \
         select 'user_1', 'completed', 'tiktok', jsonb_build_array('k' || n % 50), '{{\"mode\": \"exact\"}}', {at} from {ids}; \
         insert into scraping_results (job_id, creators, created_at) \
         select (select id from scraping_jobs order by created_at limit 1), '[{{\"handle\": \"ada\"}}]', {at} from {ids}; \
         insert into creator_lists (user_id, name, created_at) \
         select (select id from users where user_id = 'user_1'), 'l' || n, {at} from {ids}; \
         insert into list_items (list_id, platform, creator_handle, position) \
         select (select id from creator_lists order by created_at limit 1), 'tiktok', 'h' || n, n from {ids}; \
         insert into billsync.webhook_events (provider, event_id, event_type, owner_id, occurred_at, received_at, source, outcome) \
         select 'stripe', 'evt_' || n, (array['invoice.paid', 'customer.updated'])[1 + n % 2], 'cus_user_1', {at}, {at}, 'webhook', \
             'applied' from {ids}; \
         insert into billsync.owners (owner_id, clerk_user_id, linked_by) values ('cus_user_1', 'user_1', 'customer_metadata') \
         on conflict do nothing; \
         set session_replication_role = origin"
    )
}

/// Both rates in turn, round by round.
async fn measure_users(url: &str, address: SocketAddr, arguments: &Arguments) -> anyhow::Result<Option<String>> {
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join("profile.sql");
    let (_, select) = statements().into_iter().find(|(name, _)| *name == "FIND_USER_PROFILE").context("the select is there")?;
    let select = select.replace("$1", "'user_' || :n");
    std::fs::write(&script, format!("\\set n random(1, {})\n{select};\n", arguments.users))?;
    let mut ratios = Vec::new();
    for round in 1..=arguments.rounds {
        let reference = pgbench(url, &script).await?;
        let (rate, slowest) = read_users(address, arguments.users).await?;
        let ratio = rate / reference;
        ratios.push(ratio);
        println!("round {round}: {rate:.0}/s over HTTP (p99 {slowest:.1?}), pgbench {reference:.0}/s: {ratio:.2}");
    }
    ratios.sort_by(f64::total_cmp);
    let (least, most) = (ratios.first().context("a round")?, ratios.last().context("a round")?);
    let median = ratios.get(ratios.len() / 2).context("a round")?;
    println!(
        "GET /v1/users/{{id}} at {CONNECTIONS} connections: {median:.2} of pgbench, {least:.2} to {most:.2} (at least {LEAST_RATE})"
    );
    Ok((*median < LEAST_RATE).then(|| "profiles are read too slowly".to_owned()))
}

/// Transactions a second.
async fn pgbench(url: &str, script: &Path) -> anyhow::Result<f64> {
    let (address, folder) = url.split_once("?host=").context("the database is reached by a socket")?;
    let (credentials, database) = (address.trim_start_matches("postgres://"), address.rsplit('/').next().unwrap_or_default());
    let (user, rest) = credentials.split_once(':').context("a user")?;
    let (password, _) = rest.split_once('@').context("a password")?;
    let mut command = tokio::process::Command::new(pgbench_program()?);
    command.args(["-n", "-M", "prepared", "-j", "2", "-c", &CONNECTIONS.to_string(), "-T", &ROUND.as_secs().to_string()]);
    command.arg("-f").arg(script).args(["-h", folder, "-p", "5432", "-U", user, database]).env("PGPASSWORD", password);
    let done = command.stdin(Stdio::null()).output().await?;
    let printed = String::from_utf8_lossy(&done.stdout);
    let rate = printed.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.with_context(|| format!("pgbench says no rate: {printed}{}", String::from_utf8_lossy(&done.stderr)))
}

/// An installed one: on the path, or where the packages of distributions put it.
fn pgbench_program() -> anyhow::Result<std::path::PathBuf> {
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let mut places = on_path.into_iter().chain(packaged).map(|folder| folder.join("pgbench"));
    places.find(|place| place.is_file()).context("there is no pgbench to compare with")
}

/// Answers a second, and how long the slowest hundredth took.
async fn read_users(address: SocketAddr, users: u32) -> anyhow::Result<(f64, Duration)> {
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        clients.spawn(async move {
            let mut client = Client::open(address).await?;
            let mut took = Vec::new();
            while began.elapsed() < ROUND {
                let asked = Instant::now();
                client.get(&format!("/v1/users/user_{}", fastrand::u32(1..=users))).await?;
                took.push(asked.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    let mut took: Vec<Duration> = clients.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    let rate = took.len() as f64 / began.elapsed().as_secs_f64();
    took.sort_unstable();
    Ok((rate, *took.get(took.len() * 99 / 100).context("an answer")?))
}

/// The first page of each list, and the one after its millionth row.
async fn measure_lists(url: &str, address: SocketAddr, rows: u32) -> anyhow::Result<Option<String>> {
    let job = ask(url, "select id::text from scraping_jobs order by created_at limit 1").await?;
    let list = ask(url, "select id::text from creator_lists order by created_at limit 1").await?;
    let (results, items) = (format!("/v1/jobs/{job}/results?"), format!("/v1/lists/{list}/items?"));
    let mut too_slow = Vec::new();
    let mut client = Client::open(address).await?;
    let seen = rows - LEFT;
    for (path, cursor) in [
        ("/v1/users?", "users"),
        ("/v1/users?created_from=2020-01-01T00:00:00Z&", "users"),
        ("/v1/campaigns?", "campaigns"),
        ("/v1/campaigns?user_id=user_1&", "campaigns"),
        ("/v1/campaigns?status=active&", "campaigns"),
        ("/v1/campaigns?search_type=keyword&", "campaigns"),
        ("/v1/campaigns?created_from=2020-01-01T00:00:00Z&created_before=2030-01-01T00:00:00Z&", "campaigns"),
        ("/v1/jobs?", "jobs"),
        ("/v1/jobs?user_id=user_1&", "jobs"),
        ("/v1/jobs?status=completed&", "jobs"),
        ("/v1/jobs?platform=tiktok&", "jobs"),
        ("/v1/jobs?keywords=k1&", "jobs"),
        ("/v1/jobs?search_param=mode&", "jobs"),
        ("/v1/jobs?search_param=mode=exact&", "jobs"),
        ("/v1/jobs?fields=keywords,search_params,results&", "jobs"),
        (&results, "results"),
        (&format!("{results}fields=creators&"), "results"),
        ("/v1/lists?", "lists"),
        ("/v1/lists?user_id=user_1&", "lists"),
        ("/v1/lists?is_archived=false&", "lists"),
        (&items, "items"),
        (&format!("{items}platform=tiktok&fields=creator&"), "items"),
        ("/v1/events?", "events"),
        ("/v1/events?type=invoice.paid&", "events"),
        ("/v1/events?provider=stripe&outcome=applied&source=webhook&", "events"),
        ("/v1/events?owner_id=cus_user_1&", "events"),
        ("/v1/users/user_1/events?", "user_events"),
    ] {
        let cursor = cursor_after(url, cursor, rows).await?;
        let (first, deep) = pages(&mut client, path, &format!("{path}cursor={cursor}")).await?;
        let times = deep.as_secs_f64() / first.as_secs_f64();
        let path = path.replace(&job, "{id}").replace(&list, "{id}");
        println!("{:<70} first {first:>9.2?}, after row {seen} {deep:>9.2?}: {times:.2}", path.trim_end_matches(['?', '&']));
        if times > MOST_TIMES {
            too_slow.push(path);
        }
    }
    Ok((!too_slow.is_empty()).then(|| format!("deep pages are slower than {MOST_TIMES} first ones: {}", too_slow.join(", "))))
}

/// Medians of both, read in turn.
async fn pages(client: &mut Client, first: &str, deep: &str) -> anyhow::Result<(Duration, Duration)> {
    let (mut of_first, mut of_deep) = (Vec::new(), Vec::new());
    for _ in 0..READS {
        for (path, took) in [(first, &mut of_first), (deep, &mut of_deep)] {
            let asked = Instant::now();
            let length = client.get(path).await?;
            took.push(asked.elapsed());
            ensure!(length > FULL_PAGE, "{path}: the page is not full");
        }
    }
    let median = |took: &mut Vec<Duration>| {
        took.sort_unstable();
        took.get(READS / 2).copied().context("a page")
    };
    Ok((median(&mut of_first)?, median(&mut of_deep)?))
}

/// What a client has as its cursor after a million rows: made here, since paging there would take longer than all the rest.
async fn cursor_after(url: &str, list: &str, rows: u32) -> anyhow::Result<String> {
    let newest_first = |table: &str, at: &str, id: &str| {
        format!(
            "select lpad(to_hex((extract(epoch from {at}) * 1000000)::int8), 16, '0') || {id} from {table} \
             order by {at} desc, 1 offset {} limit 1",
            rows - LEFT
        )
    };
    let uuid = "replace(id::text, '-', '')";
    let event = "encode(convert_to(event_id, 'UTF8'), 'hex')";
    let sql = match list {
        "users" => newest_first("users", "created_at", uuid),
        "campaigns" => newest_first("campaigns", "created_at", uuid),
        "jobs" => newest_first("scraping_jobs", "created_at", uuid),
        "lists" => newest_first("creator_lists", "created_at", uuid),
        "results" => newest_first("scraping_results", "created_at", uuid).replace(" desc", ""),
        "items" => format!("select lpad(to_hex({}::int8), 16, '0') || repeat('f', 32)", rows - LEFT),
        _ => newest_first("billsync.webhook_events", "received_at", event),
    };
    Ok(format!("{list}.{}", ask(url, &sql).await?))
}

/// One connection that is kept.
struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    async fn open(address: SocketAddr) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, unread: Vec::new() })
    }

    /// Reads an answer to its end, which has to be a 200. Returns the length of its body.
    async fn get(&mut self, path: &str) -> anyhow::Result<usize> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(self.unread.get(..end).unwrap_or_default()).to_ascii_lowercase();
                ensure!(head.starts_with("http/1.1 200"), "{path}: {head}");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                let length = length.context("an answer has a length")?;
                let all = end + 4 + length;
                while self.unread.len() < all {
                    ensure!(self.stream.read_buf(&mut self.unread).await? > 0, "the server hung up");
                }
                self.unread.drain(..all);
                return Ok(length);
            }
            ensure!(self.stream.read_buf(&mut self.unread).await? > 0, "the server hung up");
        }
    }
}

async fn ask(url: &str, sql: &str) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(url).await?;
    let (text,): (String,) =
        sqlx::query_as(AssertSqlSafe(format!("select ({sql})::text"))).persistent(false).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(text)
}

async fn execute(url: &str, sql: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
