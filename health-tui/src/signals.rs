//! The signals that end or suspend the program.

use std::{future::Future, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Returns a future that resolves at the first SIGTERM, SIGINT or SIGHUP.
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

/// Returns the stream of `SIGTSTP` signals. Without a handler the process would stop while the terminal is in raw
/// mode.
pub(crate) fn suspend() -> io::Result<Signal> {
    // tokio has no name for this kind.
    signal(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))
}

/// Returns the stream of `SIGWINCH` signals: the terminal has a new size.
pub(crate) fn resize() -> io::Result<Signal> {
    signal(SignalKind::window_change())
}
