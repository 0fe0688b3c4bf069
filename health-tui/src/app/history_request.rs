//! The state of the requests for older samples. At most one request is pending at a time.

use chrono::{DateTime, Utc};

/// The pending request, and the pause after a failed one.
#[derive(Clone, Debug, Default)]
pub(crate) struct HistoryRequests {
    pub(super) pending: Option<HistoryRequest>,
    /// No request is sent before this time.
    pub(super) paused_until: Option<DateTime<Utc>>,
}

/// A request for the older samples of some users.
#[derive(Clone, Debug)]
pub(super) struct HistoryRequest {
    pub(super) id: u64,
    pub(super) users: Vec<i64>,
}

impl HistoryRequests {
    /// Returns whether `id` is the pending request.
    pub(super) fn is_pending(&self, id: u64) -> bool {
        self.pending.as_ref().is_some_and(|request| request.id == id)
    }
}
