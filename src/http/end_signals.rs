//! SIGTERM and SIGINT, listened for from a command's first moment, so that there is none in which they just kill it.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a supervisor or a person ends a command with.
#[derive(Debug)]
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Listens from now on; a signal that comes before [`Self::next`] is asked is not lost.
    pub fn listen() -> std::io::Result<EndSignals> {
        Ok(EndSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal, and names it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
