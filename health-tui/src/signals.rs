//! The signals that mean the end, and the one that means a pause.

use std::{future::Future, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Resolves at the first signal that means the end.
pub(crate) fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// `SIGTSTP`, which would stop the process with the terminal still taken.
pub(crate) fn suspend() -> io::Result<Signal> {
    // The kind has no name in tokio.
    signal(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))
}
