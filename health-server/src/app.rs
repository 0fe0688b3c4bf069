//! What every connection shares.

use std::sync::Arc;

use health_core::Health;
use tokio_util::sync::CancellationToken;

use crate::{
    http::{room::BodyMemory, seats::Seats},
    limits::Limits,
    metrics::Metrics,
};

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
    pub(crate) body_memory: BodyMemory,
}

impl App {
    pub(crate) fn new(health: Health, limits: Limits) -> Self {
        let body_memory = BodyMemory::new(&limits);
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
}
