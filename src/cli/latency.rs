//! How long many things of a kind took, in a few numbers.

use std::time::Duration;

use serde::Serialize;

/// In milliseconds; all 0 when there was nothing to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    /// Of durations in any order.
    pub fn of(mut durations: Vec<Duration>) -> Latency {
        durations.sort_unstable();
        Latency {
            p50: percentile(&durations, 50),
            p90: percentile(&durations, 90),
            p99: percentile(&durations, 99),
            max: percentile(&durations, 100),
        }
    }
}

/// Of sorted durations, the least that so many percent do not exceed, in milliseconds.
pub fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_least_that_so_many_do_not_exceed() {
        let durations: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(Latency::of(durations), Latency { p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 });
        assert_eq!(Latency::of(vec![Duration::from_millis(1)]).p99, 1.0);
        assert_eq!(Latency::of(Vec::new()), Latency::default());
    }
}
