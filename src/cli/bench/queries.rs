//! `billsync bench queries`: what each query of the API costs on a large data set, in a database of its own.

mod arena;
mod budget;
mod cases;
mod measure;
mod report;
mod subjects;

use std::num::NonZeroU32;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Exit;
use crate::cli::bench::queries::arena::Arena;
use crate::cli::bench::queries::budget::{Budgets, Override};
use crate::cli::bench::queries::report::Report;
use crate::cli::bench::queries::subjects::Subjects;
use crate::cli::output::{print, print_json};
use crate::config::Config;
use crate::http::end_signals::EndSignals;
use crate::store::{DatabaseName, SampleSet};

/// What each query of the API costs on a large data set
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:\n  billsync bench queries --users 1000\n  \
    billsync bench queries --users 1000 --keep --json > before.json\n  \
    billsync bench queries --users 1000 --only jobs --budget 50 --budget keyword=200\n\n\
    The data set is made up, the same every time, ten rows a user in the largest tables: 100000 users are a million campaigns,\n\
    jobs, results, list items and events each, about 4 GB. It lies in a database that this command makes, on the embedded server below\n\
    BILLSYNC_HOME, or with --on-server on that of DATABASE_URL, whose role has to be allowed to make databases. No other\n\
    database is read or written. It is dropped at the end, also after Ctrl-C; with --keep it stays for the next run.\n\n\
    Each query runs the way the API runs it, with other values every time, one after the other. Its plan is that of its\n\
    slowest run. EVERY ROW OF a table means that the server read all of it although it is large.\n\n\
    Budgets, of the 99th percentile: {}.\n\
    Exit code 3 when one is exceeded.", budget::DEFAULTS_TOLD))]
pub struct QueriesCommand {
    /// How many users the data set has
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    users: u32,
    /// How often each query is measured; fewer times when that takes more than five seconds
    #[arg(long, value_name = "N", default_value = "200")]
    runs: NonZeroU32,
    /// Only queries with this word in their name
    #[arg(long, value_name = "WORD", value_parser = cases::word)]
    only: Option<String>,
    /// What a query may take in milliseconds, all or those with that word in their name; may be repeated
    #[arg(long = "budget", value_name = "[WORD=]MS", value_parser = Override::parse)]
    budgets: Vec<Override>,
    /// Leave the data set for the next run
    #[arg(long)]
    keep: bool,
    /// Make the database on the server of DATABASE_URL
    #[arg(long)]
    on_server: bool,
    /// The name of the database that is made
    #[arg(long, value_name = "NAME", default_value = "billsync_bench", value_parser = DatabaseName::parse)]
    database: DatabaseName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl QueriesCommand {
    /// Makes the data set unless it is there, and measures.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let mut signals = EndSignals::listen().context("cannot listen for signals")?;
        let cases = cases::select(self.only.as_deref());
        let mut arena = Arena::open(config, self.on_server, self.database.clone()).await?;
        let set = SampleSet { users: self.users, at: subjects::at() };
        let measured = tokio::select! {
            measured = self.measure(&mut arena, set, cases) => measured,
            name = signals.next() => match self.keep {
                true => Err(anyhow::anyhow!("{name}: ended early. Run the same command again to go on")),
                false => Err(anyhow::anyhow!("{name}: ended early. Nothing is left of it")),
            },
        };
        let report = arena.close_after(measured, self.keep).await?;
        if self.json {
            print_json(&report)?
        } else {
            print(&report.to_text())?
        }
        Ok(if report.is_met { Exit::Success } else { Exit::Difference })
    }

    async fn measure(&self, arena: &mut Arena, set: SampleSet, cases: Vec<cases::Case>) -> anyhow::Result<Report> {
        let store = arena.prepare(&set).await?;
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{msg} {bar:40} {human_pos}/{human_len} rows, {eta} left")?);
        let made = store.make_sample_data(set, |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.rows);
            bar.set_message(progress.table.map_or_else(|| "vacuum, analyze".to_owned(), |table| format!("making {table}")));
        });
        made.await.context("cannot make the data set")?;
        bar.finish_and_clear();
        let subjects = Subjects::find(&store, &set).await.context("cannot read the data set")?;
        let budgets = Budgets::new(&self.budgets);
        let bar = ProgressBar::new(cases.len().try_into().unwrap_or_default());
        bar.set_style(ProgressStyle::with_template("measuring {bar:40} {pos}/{len} queries, {msg}")?);
        let mut queries = Vec::new();
        for case in &cases {
            bar.set_message(case.name);
            queries.push(measure::measure(case, &store, &subjects, self.runs, budgets.of(case)).await);
            bar.inc(1);
        }
        bar.finish_and_clear();
        store.close().await;
        if queries.is_empty() {
            bail!("nothing was measured");
        }
        Ok(Report::new(&set, queries))
    }
}
