//! A running billsync: server, queues and store, started together and ended in the order in which nothing is lost.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::domain::rules::Rules;
use crate::http::end_signals::EndSignals;
use crate::http::server::{self, Server, ServerOptions};
use crate::ingest::committer::{self, Committer};
use crate::metrics;
use crate::store::Store;

/// Why a running application ended in another way than by being asked to.
#[derive(Debug, Error)]
pub enum ApplicationError {
    #[error("cannot serve on {listen}")]
    Bind { listen: String, source: io::Error },
    #[error("the server ended: {0}")]
    Serving(io::Error),
    /// What was accepted and not committed was answered with 503: its senders retry.
    #[error("a writer died; see the log")]
    WriterDied,
    #[error("asked to end twice: did not wait for requests in work")]
    Interrupted,
}

/// Everything that has to be ended in order.
#[derive(Debug)]
pub struct Application {
    server: Server,
    committer: Committer,
    store: Store,
    housekeeping: JoinHandle<()>,
    ending: Ending,
}

/// What has to end after the queues and before the pool.
#[derive(Default)]
struct Ending(Option<BoxFuture<'static, ()>>);

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ending").field(&self.0.is_some()).finish()
    }
}

impl Application {
    /// Starts the writers and the server. The store is expected to be migrated.
    pub fn start(
        store: Store,
        rules: Arc<Rules>,
        clock: Clock,
        mut committer_options: committer::Options,
        server_options: ServerOptions,
    ) -> Result<Application, ApplicationError> {
        metrics::install();
        // A body within the limit must fit, or its sender would be asked to retry for ever.
        committer_options.queue_bytes = committer_options.queue_bytes.max(server_options.body_limit_bytes);
        let listen = server_options.listen.clone();
        let committer = Committer::start(store.clone(), Arc::clone(&rules), clock.clone(), committer_options);
        let server = server::build(server_options, committer.clone(), rules, clock)
            .map_err(|source| ApplicationError::Bind { listen, source })?;
        let housekeeping = tokio::spawn(async {
            let mut interval = tokio::time::interval(Duration::from_secs(5));
            loop {
                interval.tick().await;
                metrics::fold_samples();
            }
        });
        Ok(Application { server, committer, store, housekeeping, ending: Ending::default() })
    }

    /// The addresses that it serves on.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// For work that ends in the same transactions as a webhook's.
    pub fn committer(&self) -> &Committer {
        &self.committer
    }

    /// Has `ending` awaited once the queues are drained, while there are connections still.
    pub fn end_with(&mut self, ending: impl Future<Output = ()> + Send + 'static) {
        self.ending = Ending(Some(Box::pin(ending)));
    }

    /// Serves until asked to end, then ends in order. A second signal does not wait for that.
    pub async fn run_until(mut self, signals: &mut EndSignals) -> Result<(), ApplicationError> {
        let committer = self.committer.clone();
        tokio::select! {
            name = signals.next() => tracing::info!("{name}: ending"),
            () = committer.died() => {
                self.stop().await?;
                return Err(ApplicationError::WriterDied);
            }
            ended = self.server.ended() => {
                return Err(ApplicationError::Serving(ended.err().unwrap_or_else(|| io::Error::other("without a reason"))));
            }
        }
        tokio::select! {
            stopped = self.stop() => stopped,
            _ = signals.next() => Err(ApplicationError::Interrupted),
        }
    }

    /// Ends in the order in which every 200 ever sent is in the ledger: requests, queues, scheduled work, pool.
    pub async fn stop(self) -> Result<(), ApplicationError> {
        self.server.stop().await;
        let is_drained = self.committer.close().await;
        if let Some(ending) = self.ending.0 {
            ending.await;
        }
        self.housekeeping.abort();
        self.store.close().await;
        if is_drained { Ok(()) } else { Err(ApplicationError::WriterDied) }
    }
}
