//! How a program learns that it is to end.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};

/// Resolves on Ctrl-C or SIGTERM. From the call on neither ends the process by itself.
///
/// # Errors
/// Where the system takes no handler.
pub fn asked_to_end() -> io::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
