//! What every connection shares.

use std::sync::Arc;

use health_core::Health;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{http::seats::Seats, limits::Limits, metrics::Metrics};

/// The handle, the limits, the counters, and how far the end has come.
pub(crate) struct App {
    pub(crate) health: Health,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// The HTTP connections.
    pub(crate) seats: Arc<Seats>,
    /// The server is ending: answer what is asked, take nothing new.
    pub(crate) closing: CancellationToken,
    /// Bodies that still are on their way are not waited for any longer.
    pub(crate) uploads_end: CancellationToken,
    /// Nothing is waited for any longer.
    pub(crate) ended: CancellationToken,
    /// Counts the requests whose samples are being read.
    pub(crate) intakes: Arc<()>,
    /// KiB of memory for large bodies.
    body_memory: Semaphore,
}

impl App {
    pub(crate) fn new(health: Health, limits: Limits) -> Self {
        let body_memory = Semaphore::new(kib(limits.body_memory.get().max(limits.max_body.get())) as usize);
        Self {
            health,
            limits,
            metrics: Metrics::default(),
            seats: Arc::default(),
            closing: CancellationToken::new(),
            uploads_end: CancellationToken::new(),
            ended: CancellationToken::new(),
            intakes: Arc::default(),
            body_memory,
        }
    }

    /// A share of the memory for large bodies, waiting for it as long as samples wait for room in the queue.
    pub(crate) async fn reserve_body_memory(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let share = self.body_memory.acquire_many(kib(bytes));
        timeout(self.limits.ingest_deadline.get(), share).await.ok()?.ok()
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}
