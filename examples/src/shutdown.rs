//! The signals that ask a program to end.

use std::{future::Future, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C and SIGTERM. From its creation on, neither ends the process by itself.
#[derive(Debug)]
pub struct ShutdownSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl ShutdownSignals {
    /// # Errors
    /// An I/O error if the system refuses the signal handlers.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal. This method is cancel safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Returns a future that resolves on Ctrl-C or SIGTERM.
///
/// From this call on, neither signal ends the process by itself.
///
/// # Errors
/// An I/O error if the system refuses the signal handlers.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let mut signals = ShutdownSignals::new()?;
    Ok(async move { signals.next().await })
}
