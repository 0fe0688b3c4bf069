//! The signals that ask a program to end.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};

/// Returns a future that resolves on Ctrl-C or SIGTERM.
///
/// From this call on, neither signal ends the process by itself.
///
/// # Errors
/// An I/O error if the system refuses the signal handlers.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
