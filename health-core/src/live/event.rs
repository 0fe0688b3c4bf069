//! The events of a subscription.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{
    live::budget::{BudgetShare, MemoryBudget},
    sample::Sample,
    wire::Cursor,
};

/// A committed sample, shared by all subscribers that receive it.
#[derive(Debug)]
pub struct Published {
    sample: Sample,
    json: OnceLock<Bytes>,
    _share: BudgetShare,
}

/// The memory that a sample needs beyond its own size: its JSON, and the pointers of the queues.
const BESIDE_BYTES: usize = 256;

/// An event of a [`Subscription`](crate::Subscription).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LiveEvent {
    /// The first event after [`resume`](crate::Subscription::resume). Later, with `resumed: false`, a warning
    /// that samples may be missing because the database was out of reach for longer than the replay window.
    Subscribed {
        /// Whether all samples after the cursor follow. If false, the stream continues from now.
        resumed: bool,
        /// The reason, if `resumed` is false.
        reason: Option<String>,
    },
    /// A sample was committed. A changed sample is sent as a whole.
    Sample {
        /// The cursor to resume after this sample.
        cursor: Cursor,
        /// The sample as stored.
        published: Arc<Published>,
    },
    /// The subscriber read too slowly, and samples were skipped.
    Lagged {
        /// The number of skipped samples.
        missed: u64,
        /// The cursor to resume from to receive them.
        cursor: Cursor,
    },
}

impl Published {
    pub(crate) fn new(sample: Sample, budget: &Arc<MemoryBudget>) -> Self {
        Self {
            sample,
            json: OnceLock::new(),
            _share: BudgetShare::new(budget, size_of::<Self>() + BESIDE_BYTES),
        }
    }

    /// Returns the sample as it is stored.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// Returns the sample as JSON. It is serialised once for all subscribers.
    pub fn json(&self) -> &Bytes {
        // Serialising a sample cannot fail: it consists of numbers and strings.
        self.json
            .get_or_init(|| serde_json::to_vec(&self.sample).unwrap_or_default().into())
    }
}
