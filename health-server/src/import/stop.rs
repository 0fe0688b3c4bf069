//! The wish to end an import before its end: SIGINT, which Ctrl-C sends, or SIGTERM.

use std::io;

use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// The wish to end. The first signal ends the import after the request that is on its way, the second one at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    soon: CancellationToken,
    at_once: CancellationToken,
}

impl Stop {
    /// Waits for signals from now on.
    pub(super) fn on_signals() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = Self::default();
        let Self { soon, at_once } = stop.clone();
        tokio::spawn(async move {
            for wish in [soon, at_once] {
                next(&mut interrupt, &mut terminate).await;
                wish.cancel();
            }
        });
        Ok(stop)
    }

    /// Returns a token that is cancelled if nothing more shall be read.
    pub(super) fn token(&self) -> CancellationToken {
        self.soon.clone()
    }

    /// Ends the reading of files, because the server takes no more.
    pub(super) fn stop_reading(&self) {
        self.soon.cancel();
    }

    /// Waits for the wish to end.
    pub(super) async fn wanted(&self) {
        self.soon.cancelled().await;
    }

    /// Waits for the wish to end without the answer to the last request.
    pub(super) async fn wanted_at_once(&self) {
        self.at_once.cancelled().await;
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
