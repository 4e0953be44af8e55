//! A million users due at once, against a plain update of the same rows. Not a part of the usual run:
//! `cargo test --release --test it a_million -- --ignored --nocapture`

use std::time::{Duration, Instant};

use billsync::schedule::usage_reset;

use crate::batch::{at, bench};
use crate::schedule::work;

/// How much longer a reset may take than a plain update.
const MOST: f64 = 4.0;

/// How long a batch may hold its locks.
const LONGEST_MS: u64 = 50;

const ROUNDS: u32 = 3;

#[tokio::test]
#[ignore = "takes minutes: run it with --release"]
#[expect(clippy::print_stdout, reason = "whoever runs it wants the figures")]
async fn a_million_users_are_reset_in_four_times_a_plain_update() {
    let bench = bench().await;
    bench
        .database
        .execute(
            "insert into users (user_id) select 'user_' || n from generate_series(1, 1000000) n; \
             insert into user_subscriptions (user_id, current_plan) select id, 'glow_up' from users; \
             insert into user_usage (user_id, usage_creators_current_month, usage_anchor, usage_period_start, usage_reset_date) \
             select id, 5, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z' from users",
        )
        .await;
    let (mut plain, mut reset, mut longest) = (Duration::ZERO, Duration::ZERO, 0);
    for round in 0..ROUNDS {
        bench.database.execute("vacuum analyze user_usage").await;
        let began = Instant::now();
        bench.database.execute("update user_usage set usage_creators_current_month = 0").await;
        plain += began.elapsed();
        bench.database.execute("vacuum analyze user_usage").await;
        bench.clock.set(at(&format!("2026-0{}-02T00:00:00Z", round + 2)));
        let began = Instant::now();
        let summary = usage_reset::reset(&work(&bench), None).await.unwrap();
        reset += began.elapsed();
        assert_eq!(summary.rows, 1_000_000);
        longest = longest.max(summary.longest_ms.unwrap());
        println!("round {round}: plain {plain:?}, reset {reset:?} in all; {} batches, longest {longest} ms", summary.batches);
    }
    let ratio = reset.as_secs_f64() / plain.as_secs_f64();
    println!("a reset takes {ratio:.2} times a plain update; the longest batch {longest} ms");
    assert!(ratio <= MOST, "{ratio}");
    assert!(longest <= LONGEST_MS, "{longest} ms");
}
