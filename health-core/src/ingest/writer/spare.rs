//! The spare writer: it writes small requests while the other writers write large ones.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::{
    ingest::backoff::LONGEST_PAUSE,
    ingest::writer::{CHECK_CONNECTION_EVERY, SURPLUS_PAUSE, Writer},
    panics::has_panicked,
    store::{connection::Session, newest_timestamps::NewestTimestamps, write::WriterSession},
};

/// How long the spare writer keeps a connection that it does not need.
const KEEP_CONNECTION_FOR: Duration = Duration::from_mins(1);

impl Writer {
    /// Writes small requests that would wait for the large ones that other writers write, until the queue is closed.
    ///
    /// It opens its connection when there is such a request for the first time. While it has none, the other writers
    /// write everything.
    pub(crate) async fn run_as_spare(mut self) {
        while has_panicked("writer", Box::pin(self.write_small())).await {
            self.disconnect();
        }
    }

    async fn write_small(&mut self) {
        let mut newest = NewestTimestamps::new(self.queue.shards());
        let mut last_used = Instant::now();
        loop {
            match timeout(CHECK_CONNECTION_EVERY, self.queue.wait_spare()).await {
                Err(_) => {
                    if last_used.elapsed() > KEEP_CONNECTION_FOR || self.config.sessions.are_scarce() {
                        self.disconnect();
                        newest = NewestTimestamps::new(self.queue.shards());
                    }
                    continue;
                }
                Ok(false) => break,
                Ok(true) => {}
            }
            if !self.is_connected() && !self.connect_as_spare().await {
                self.queue.sleep(SURPLUS_PAUSE, LONGEST_PAUSE).await;
                continue;
            }
            last_used = Instant::now();
            if let Some(mut work) = self.queue.take_spare() {
                let requests = std::mem::take(&mut work.requests);
                let unwritten = self.write(requests, &mut newest).await;
                if !self.is_connected() {
                    self.disconnect();
                }
                if !unwritten.is_empty() {
                    work.give_back(unwritten);
                }
            }
        }
        self.disconnect();
        // The queue is closed, and the other writers may have ended before this one gave requests back.
        self.write_all().await;
    }

    async fn connect_as_spare(&mut self) -> bool {
        if self.config.sessions.are_scarce() {
            return false;
        }
        match Session::writer(&self.config).await {
            Ok(session) => {
                self.session = Some(WriterSession::new(session));
                self.queue.set_spare_connected(true);
                true
            }
            Err(error) => {
                tracing::info!(
                    error = error.chain(),
                    "the spare writer has no connection: small requests wait for large ones"
                );
                false
            }
        }
    }

    fn disconnect(&mut self) {
        self.queue.set_spare_connected(false);
        self.session = None;
    }
}
