//! A million usage periods that end at once: how long their reset takes, in plain updates of the same rows; how long a batch
//! of it holds its locks; and what webhooks feel of it. Ends with an error when a budget is exceeded.
//! `cargo bench --bench million -- [--users N] [--rounds N]`

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use billsync::clock::Clock;
use billsync::domain::billing::plan::Plan;
use billsync::domain::rules::Rules;
use billsync::domain::signature::stripe::StripeSecret;
use billsync::embedded_postgres::{EmbeddedPostgres, Options};
use billsync::http::application::Application;
use billsync::http::server::ServerOptions;
use billsync::ingest::committer;
use billsync::schedule::{Work, usage_reset};
use billsync::store::{Store, StoreSettings};
use chrono::{DateTime, Months, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::MissedTickBehavior;

/// How many plain updates a reset may take.
const MOST_UPDATES: f64 = 4.0;

/// How long a batch may hold its locks.
const LONGEST_BATCH: Duration = Duration::from_millis(50);

/// What the slowest hundredth of the webhooks may take meanwhile, in what it takes without a reset.
const MOST_DELAY: f64 = 2.0;

/// Webhooks a second, sent at their time whether the others are answered or not.
const RATE: u64 = 100;

/// Whose webhooks these are.
const SENDERS: u64 = 400;

/// How long the webhooks are measured without a reset.
const CALM: Duration = Duration::from_secs(20);

const SECRET: &str = "whsec_of_the_benchmark";

/// Usage periods of everybody end then, and every month after it.
const ANCHOR: &str = "2020-01-01T00:00:00Z";

struct Arguments {
    users: u64,
    rounds: u32,
}

/// The database and what is run on it.
struct Bench {
    store: Store,
    database_url: String,
    clock: Clock,
    users: u64,
    /// How many months have been ended.
    months: u32,
}

fn main() -> anyhow::Result<()> {
    let arguments = arguments()?;
    // The client wants one, although nothing here is encrypted; there is one already when this fails.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("million");
        let options = Options { guard_program: Some(env!("CARGO_BIN_EXE_billsync").into()), ..Options::new(home) };
        let postgres = EmbeddedPostgres::start(&options).await?;
        let measured = measure(&postgres, &arguments).await;
        execute(postgres.url(), "drop database if exists million with (force)").await?;
        postgres.stop().await?;
        measured
    })
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut arguments = Arguments { users: 1_000_000, rounds: 3 };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut number = || given.next().with_context(|| format!("{name} needs a number"));
        match name.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--users" => arguments.users = number()?.parse()?,
            "--rounds" => arguments.rounds = number()?.parse()?,
            _ => bail!("unknown argument {name}"),
        }
    }
    Ok(arguments)
}

async fn measure(postgres: &EmbeddedPostgres, arguments: &Arguments) -> anyhow::Result<()> {
    let mut bench = Bench::prepare(postgres, arguments.users).await?;
    let (mut plain, mut reset, mut longest) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for round in 1..=arguments.rounds {
        let updated = bench.update_plainly().await?;
        let (ended, batch) = bench.reset().await?;
        (plain, reset, longest) = (plain + updated, reset + ended, longest.max(batch));
        println!("round {round}: plain update {updated:.2?}, reset {ended:.2?}, longest batch {batch:.0?}");
    }
    let ratio = reset.as_secs_f64() / plain.as_secs_f64();
    println!("a reset takes {ratio:.2} plain updates (at most {MOST_UPDATES})");
    println!("its longest batch holds its locks for {longest:.0?} (at most {LONGEST_BATCH:?})");
    let (calm, meanwhile) = bench.webhooks_beside_a_reset().await?;
    let delay = meanwhile.as_secs_f64() / calm.as_secs_f64();
    println!(
        "webhooks at {RATE}/s: p99 {calm:.1?} without, {meanwhile:.1?} beside a reset: {delay:.2} times (at most {MOST_DELAY})"
    );
    bench.store.close().await;
    ensure!(ratio <= MOST_UPDATES, "the reset takes too long");
    ensure!(longest <= LONGEST_BATCH, "a batch holds its locks for too long");
    ensure!(delay <= MOST_DELAY, "webhooks wait too long beside a reset");
    Ok(())
}

impl Bench {
    async fn prepare(postgres: &EmbeddedPostgres, users: u64) -> anyhow::Result<Bench> {
        execute(postgres.url(), "drop database if exists million with (force)").await?;
        execute(postgres.url(), "create database million").await?;
        let (server, query) = postgres.url().split_once('?').unwrap_or((postgres.url(), ""));
        let (server, _) = server.rsplit_once('/').context("the URL names a database")?;
        let database_url = format!("{server}/million?{query}");
        let store = Store::connect(&StoreSettings::new(&database_url)).await?;
        store.migrate(Clock::System.now()).await?;
        store.apply_plans(&[plan("free", 0), plan("glow_up", 1000)]).await?;
        let began = Instant::now();
        let rows = format!(
            "insert into users (user_id) select 'user_' || n from generate_series(1, {users}) n; \
             insert into user_subscriptions (user_id, current_plan) select id, 'glow_up' from users; \
             insert into user_usage (user_id, usage_anchor, usage_period_start, usage_reset_date) \
             select id, '{ANCHOR}', '{ANCHOR}', timestamptz '{ANCHOR}' + interval '1 month' from users"
        );
        execute(&database_url, &rows).await?;
        // Whose webhooks come: their periods are of today.
        let senders = format!(
            "with made as (insert into users (user_id) select 'user_of_webhooks_' || n from generate_series(0, {SENDERS}) n \
             returning id), s as (insert into user_subscriptions (user_id) select id from made), \
             b as (insert into user_billing (user_id) select id from made), \
             d as (insert into user_system_data (user_id) select id from made) \
             insert into user_usage (user_id) select id from made"
        );
        execute(&database_url, &senders).await?;
        execute(&database_url, "vacuum analyze").await?;
        println!("{users} users made in {:.0?}", began.elapsed());
        Ok(Bench { store, database_url, clock: Clock::manual(anchor()?), users, months: 0 })
    }

    /// Rows as a month of use leaves them, and no work left over for the next measurement to pay.
    async fn use_everything(&self) -> anyhow::Result<()> {
        execute(&self.database_url, "update user_usage set usage_creators_current_month = 5, enrichments_current_month = 2")
            .await?;
        for statement in ["vacuum analyze user_usage", "vacuum billsync.usage_periods", "checkpoint"] {
            execute(&self.database_url, statement).await?;
        }
        Ok(())
    }

    async fn update_plainly(&self) -> anyhow::Result<Duration> {
        self.use_everything().await?;
        let began = Instant::now();
        execute(&self.database_url, "update user_usage set usage_creators_current_month = 0").await?;
        Ok(began.elapsed())
    }

    /// How long it took, and its longest batch.
    async fn reset(&mut self) -> anyhow::Result<(Duration, Duration)> {
        self.use_everything().await?;
        self.end_a_month().await
    }

    async fn end_a_month(&mut self) -> anyhow::Result<(Duration, Duration)> {
        self.months += 1;
        self.clock.set(anchor()?.checked_add_months(Months::new(self.months)).context("a date")?);
        let work = Work::new(self.store.clone(), Arc::new(Rules::default()), self.clock.clone());
        let began = Instant::now();
        let summary = usage_reset::reset(&work, None).await?;
        let took = began.elapsed();
        ensure!(summary.rows == self.users, "{} of {} rows were reset", summary.rows, self.users);
        Ok((took, Duration::from_millis(summary.longest_ms.unwrap_or_default())))
    }

    /// The 99th percentile of the answers to webhooks, without a reset and beside one.
    async fn webhooks_beside_a_reset(&mut self) -> anyhow::Result<(Duration, Duration)> {
        let options = ServerOptions {
            listen: "127.0.0.1:0".into(),
            stripe_secrets: vec![StripeSecret::parse(SECRET).map_err(|_| anyhow::anyhow!("the secret is one"))?.secret],
            ..ServerOptions::default()
        };
        let rules = Arc::new(Rules::default());
        let application = Application::start(self.store.clone(), rules, Clock::System, committer::Options::default(), options)?;
        let address = *application.addresses().first().context("an address")?;
        let mut load = Load { client: reqwest::Client::new(), address, number: 0 };
        // Every customer's first webhook links it, and connections are opened.
        load.send_for(Duration::from_secs(SENDERS.div_ceil(RATE) + 1), std::future::pending::<()>()).await?;
        self.use_everything().await?;
        let calm = load.send_for(CALM, std::future::pending::<()>()).await?;
        let mut reset = Ok((Duration::ZERO, Duration::ZERO));
        let resetting = async { reset = self.end_a_month().await };
        let beside = load.send_for(Duration::from_secs(600), resetting).await?;
        reset?;
        application.stop().await?;
        println!("{} webhooks without, {} beside a reset", calm.len(), beside.len());
        Ok((percentile_99(calm)?, percentile_99(beside)?))
    }
}

/// Webhooks of a fixed rate.
struct Load {
    client: reqwest::Client,
    address: SocketAddr,
    number: u64,
}

impl Load {
    /// Sends until `work` ends, or for that long; how long each answer took from when its webhook was due.
    async fn send_for(&mut self, most: Duration, work: impl Future) -> anyhow::Result<Vec<Duration>> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE)?);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut answers = tokio::task::JoinSet::new();
        let mut work = std::pin::pin!(work);
        let deadline = Instant::now() + most;
        while Instant::now() < deadline {
            tokio::select! {
                _ = &mut work => break,
                due = ticks.tick() => {
                    let request = self.request();
                    answers.spawn(async move {
                        let answer = request.send().await?;
                        ensure!(answer.status().as_u16() == 200, "{}", answer.status());
                        answer.bytes().await?;
                        Ok(due.elapsed())
                    });
                }
            }
        }
        answers.join_all().await.into_iter().collect()
    }

    /// A subscription of one customer after the other changes.
    fn request(&mut self) -> reqwest::RequestBuilder {
        self.number += 1;
        let (customer, now) = (self.number % SENDERS, Clock::System.now().timestamp());
        let body = event(self.number, customer, now).to_string();
        let request = self.client.post(format!("http://{}/webhooks/stripe", self.address));
        request.header("Stripe-Signature", signature(&body, now)).body(body)
    }
}

fn event(number: u64, customer: u64, now: i64) -> Value {
    let price = json!({"id": "price_glow_up", "object": "price", "product": "prod_glow_up"});
    let item = json!({"id": format!("si_{customer}"), "object": "subscription_item", "price": price,
        "current_period_start": now, "current_period_end": now + 2_592_000});
    let subscription = json!({"id": format!("sub_{customer}"), "object": "subscription", "customer": format!("cus_{customer}"),
        "status": "active", "created": 1_760_000_000, "billing_cycle_anchor": 1_760_000_000, "items": {"data": [item]},
        "metadata": {"clerk_user_id": format!("user_of_webhooks_{customer}")}});
    json!({"id": format!("evt_{number}"), "object": "event", "type": "customer.subscription.updated", "created": now,
        "api_version": "2025-09-30.clover", "livemode": false, "data": {"object": subscription}})
}

fn signature(body: &str, at: i64) -> String {
    // Keys of every length are accepted.
    let code = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).map(|mut mac| {
        mac.update(format!("{at}.{body}").as_bytes());
        hex::encode(mac.finalize().into_bytes())
    });
    format!("t={at},v1={}", code.unwrap_or_default())
}

fn percentile_99(mut times: Vec<Duration>) -> anyhow::Result<Duration> {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().context("nothing was measured")
}

fn plan(key: &str, creators_limit: i32) -> Plan {
    Plan {
        plan_key: key.to_owned(),
        plan_name: key.to_owned(),
        campaigns_limit: 3,
        creators_limit,
        features: json!({"analytics": "basic"}),
        price_monthly: None,
        price_yearly: None,
        stripe_price_id_monthly: (key != "free").then(|| format!("price_{key}")),
        stripe_price_id_yearly: None,
        stripe_product_id: None,
        clerk_plan_slug: None,
        is_active: true,
        display_order: creators_limit,
    }
}

fn anchor() -> anyhow::Result<DateTime<Utc>> {
    Ok(ANCHOR.parse()?)
}

async fn execute(url: &str, sql: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
