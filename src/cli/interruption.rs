//! Ending a long reading in order when somebody wants an end: nothing is begun any more, what is on its way to the database gets
//! there, and the command fails, so that whoever started it does not take it for done.

use anyhow::{Context, bail};

use crate::http::end_signals::EndSignals;

/// Does `work` to its end, or until SIGTERM or SIGINT. Dropped in the middle, it must leave nothing half-done.
pub async fn unless_ended<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut signals = EndSignals::listen().context("cannot listen for signals")?;
    tokio::select! {
        done = work => done,
        name = signals.next() => bail!("{name}: ended early. What was read until then is kept; run the same command again for the rest"),
    }
}
