//! Measuring one query: a few runs to warm up, then so many that are measured, then the plan of the slowest.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::bench::queries::cases::Case;
use crate::cli::bench::queries::subjects::Subjects;
use crate::cli::latency::Latency;
use crate::store::{Plan, Store, StoreError};

/// From its sixth run on a prepared statement may be run by a plan that is the same for all values.
const WARM_UP_RUNS: u32 = 6;

/// A query is measured no longer than this, yet a few times in any case.
const LONGEST: Duration = Duration::from_secs(5);
const LEAST_RUNS: usize = 3;

/// What a query costs.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub name: &'static str,
    pub request: &'static str,
    /// How many rows came in the slowest run.
    pub rows: usize,
    pub runs: usize,
    pub milliseconds: Latency,
    pub budget_milliseconds: f64,
    pub is_met: bool,
    /// Why it could not be measured.
    pub error: Option<String>,
    pub plans: Vec<Plan>,
}

/// Measures a query. One that fails is over its budget.
pub async fn measure(case: &Case, store: &Store, subjects: &Subjects, runs: NonZeroU32, budget_milliseconds: f64) -> Measured {
    let mut measured = Measured {
        name: case.name,
        request: case.request,
        rows: 0,
        runs: 0,
        milliseconds: Latency::default(),
        budget_milliseconds,
        is_met: false,
        error: None,
        plans: Vec::new(),
    };
    match measured.run(case, store, subjects, runs).await {
        Ok(()) => measured.is_met = measured.milliseconds.p99 <= budget_milliseconds,
        Err(error) => measured.error = Some(error.to_string()),
    }
    measured
}

impl Measured {
    async fn run(&mut self, case: &Case, store: &Store, subjects: &Subjects, runs: NonZeroU32) -> Result<(), StoreError> {
        let warming = Instant::now();
        for run in 0..WARM_UP_RUNS {
            (case.run)(store, subjects, run).await?;
            if warming.elapsed() > LONGEST {
                break;
            }
        }
        let (begun, mut took) = (Instant::now(), Vec::new());
        let mut slowest = (Duration::ZERO, WARM_UP_RUNS);
        for run in WARM_UP_RUNS..WARM_UP_RUNS.saturating_add(runs.get()) {
            let started = Instant::now();
            let rows = (case.run)(store, subjects, run).await?;
            took.push(started.elapsed());
            if started.elapsed() > slowest.0 {
                (slowest, self.rows) = ((started.elapsed(), run), rows);
            }
            if begun.elapsed() > LONGEST && took.len() >= LEAST_RUNS {
                break;
            }
        }
        self.runs = took.len();
        self.milliseconds = Latency::of(took);
        self.plans = plans(case, store, subjects, slowest.1).await?;
        Ok(())
    }
}

async fn plans(case: &Case, store: &Store, subjects: &Subjects, run: u32) -> Result<Vec<Plan>, StoreError> {
    if let Some(explain) = &case.explain {
        return Ok(vec![explain(store, subjects, run).await?]);
    }
    let (logging, log) = store.logging_plans();
    (case.run)(&logging, subjects, run).await?;
    Ok(log.take())
}
