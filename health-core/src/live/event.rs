//! What subscribers hear.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{
    live::budget::{MemoryBudget, BudgetShare},
    sample::Sample,
    wire::Cursor,
};

/// A committed sample, shared by all who hear of it.
#[derive(Debug)]
pub struct Published {
    sample: Sample,
    json: OnceLock<Bytes>,
    _share: BudgetShare,
}

/// What a sample takes beside itself: its JSON, and the pointers and counts of whoever shares it.
const BESIDE_BYTES: usize = 256;

/// What a subscriber hears.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LiveEvent {
    /// The first event of a subscription that was to resume. In the middle of any, that samples may be missing: the database was
    /// out of reach for longer than it remembers what was committed.
    Subscribed {
        /// True where everything behind the cursor follows; false where the stream goes on from now.
        resumed: bool,
        /// Why not.
        reason: Option<String>,
    },
    /// A sample was committed: new, or changed and now as a whole.
    Sample {
        /// Where to resume to hear everything behind it.
        cursor: Cursor,
        /// The sample as stored.
        published: Arc<Published>,
    },
    /// This subscriber read too slowly.
    Lagged {
        /// How many samples were skipped.
        missed: u64,
        /// Where to resume to hear them.
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

    /// The sample as stored.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// The sample as JSON, serialised once however many ask.
    pub fn json(&self) -> &Bytes {
        // A sample is numbers and strings, serialising it cannot fail.
        self.json
            .get_or_init(|| serde_json::to_vec(&self.sample).unwrap_or_default().into())
    }
}
