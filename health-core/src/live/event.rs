//! The events of a subscription.

use std::sync::Arc;

use crate::{erasure::Erasure, live::chunk::Chunk, sample::Sample, wire::Cursor};

/// A committed sample, shared by all subscribers that receive it.
///
/// It keeps a chunk of up to some hundred samples in memory; drop it when it is no longer needed.
#[derive(Debug, Clone)]
pub struct Published {
    chunk: Arc<Chunk>,
    index: usize,
}

/// An event of a [`Subscription`](crate::Subscription).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LiveEvent {
    /// The first event after [`resume`](crate::Subscription::resume). Later, with `resumed: false`, a warning
    /// that samples may be missing: the database was out of reach for longer than the replay window, or it was put back
    /// to an earlier state.
    Subscribed {
        /// Whether all samples after the cursor follow. If false, the stream continues from now.
        resumed: bool,
        /// The reason, if `resumed` is false.
        reason: Option<String>,
        /// The cursor to resume from here.
        cursor: Cursor,
    },
    /// A sample was committed. A changed sample is sent as a whole.
    Sample {
        /// The cursor to resume after this sample.
        cursor: Cursor,
        /// The sample as stored.
        published: Published,
    },
    /// Samples were erased. The event stands among the samples of its user in the order of the commits, so a subscriber
    /// that applies all events in their order has the same samples as the database.
    Erased {
        /// The cursor to resume after this event.
        cursor: Cursor,
        /// Whose samples, and which.
        erasure: Arc<Erasure>,
    },
    /// The subscriber read too slowly, and missed events.
    Lagged {
        /// The number of missed samples. A missed erasure counts as one. With [`every`](crate::Subscription::every) and
        /// all users, it is an upper bound: the subscriber may have read some of them.
        missed: u64,
        /// The cursor to resume from to receive them.
        cursor: Cursor,
    },
}

impl LiveEvent {
    /// Makes the event of the sample or erasure at an index of a chunk.
    pub(crate) fn of(chunk: Arc<Chunk>, index: usize, cursor: Cursor) -> Self {
        match chunk.erasure() {
            Some(erasure) => Self::Erased {
                cursor,
                erasure: Arc::clone(erasure),
            },
            None => Self::Sample {
                cursor,
                published: Published::new(chunk, index),
            },
        }
    }
}

impl Published {
    /// The sample at an index of a chunk.
    pub(crate) fn new(chunk: Arc<Chunk>, index: usize) -> Self {
        Self { chunk, index }
    }

    /// Returns how long ago the commit was delivered to the subscribers, or read for a replay.
    pub fn age(&self) -> std::time::Duration {
        self.chunk.made_at.elapsed()
    }

    /// Returns the sample as it is stored.
    pub fn sample(&self) -> &Sample {
        &self.chunk.samples()[self.index]
    }

    /// Returns the sample as JSON. It is serialised once for all subscribers.
    pub fn json(&self) -> &[u8] {
        self.chunk.json(self.index)
    }
}
