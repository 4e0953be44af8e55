//! Delivering many events: so many at a time, so many a second, with the provider's repetitions.

use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::cli::deliver::{Answer, Courier};
use crate::cli::send::selection::Outgoing;

/// How long a provider waits before each repetition, in seconds: Svix's documented "Retry Schedule", which Clerk uses.
/// Stripe tells only that it tries for three days, ever more seldom.
const INTERVALS: [f64; 8] = [5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0, 43_200.0];

/// How fast, and how often.
#[derive(Clone, Debug)]
pub struct Pace {
    pub per_second: Option<f64>,
    pub concurrency: usize,
    pub attempts: usize,
    /// Seconds of the provider's schedule in one of ours.
    pub time_scale: f64,
}

/// What became of one event.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub attempts: usize,
    /// The last one, or why there was none.
    pub answer: Result<Answer, String>,
}

impl Delivery {
    fn is_to_be_repeated(&self) -> bool {
        match &self.answer {
            Ok(answer) => answer.status == 429 || answer.status >= 500,
            Err(_no_answer) => true,
        }
    }
}

/// Delivers everything, in the order in which it is given, and returns what became of each, and the seconds it took. A
/// server that does not answer the very first attempt is an error: there is nobody to repeat for.
pub async fn deliver_all(courier: &Courier, outgoing: &[Outgoing], pace: &Pace) -> anyhow::Result<(Vec<Delivery>, f64)> {
    let bar = ProgressBar::new(outgoing.len().try_into().unwrap_or(u64::MAX));
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} events, {per_sec}, {eta} left")?);
    let begun = Instant::now();
    let mut deliveries = Vec::with_capacity(outgoing.len());
    if let Some(first) = outgoing.first() {
        let answer = courier
            .deliver(&first.webhook)
            .await
            .with_context(|| format!("{} does not answer: is the server running, and is --to its address?", courier.server()))?;
        let delivery = Delivery { attempts: 1, answer: Ok(answer) };
        deliveries.push(repeat(courier, first, delivery, pace).await);
        bar.inc(1);
    }
    let rest = outgoing.iter().enumerate().skip(1).map(async |(number, one)| {
        if let Some(per_second) = pace.per_second {
            tokio::time::sleep_until(begun + seconds(f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / per_second)).await;
        }
        let delivery = Delivery { attempts: 1, answer: attempt(courier, one).await };
        repeat(courier, one, delivery, pace).await
    });
    let mut rest = std::pin::pin!(futures_util::stream::iter(rest).buffered(pace.concurrency));
    while let Some(delivery) = rest.next().await {
        deliveries.push(delivery);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((deliveries, begun.elapsed().as_secs_f64()))
}

async fn attempt(courier: &Courier, one: &Outgoing) -> Result<Answer, String> {
    courier.deliver(&one.webhook).await.map_err(|error| format!("{error:#}"))
}

/// What a repetition cannot change (a wrong signature, a route that does not exist) is not repeated, which the provider would.
async fn repeat(courier: &Courier, one: &Outgoing, mut delivery: Delivery, pace: &Pace) -> Delivery {
    while delivery.is_to_be_repeated() && delivery.attempts < pace.attempts {
        let interval = INTERVALS.get(delivery.attempts - 1).or(INTERVALS.last()).copied().unwrap_or_default();
        tokio::time::sleep(seconds(interval / pace.time_scale)).await;
        delivery = Delivery { attempts: delivery.attempts + 1, answer: attempt(courier, one).await };
    }
    delivery
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
