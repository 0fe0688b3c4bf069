//! Why a batch was not committed.

use crate::{batch::WritePlan, cause::Cause, error::NotWritableReason, store::batch_key::BatchKey};

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// Another server changed some of the rows meanwhile. Rolled back: plan again, and look up every sample.
    Conflict,
    /// Rolled back: nothing may be written now.
    NotWritable(NotWritableReason),
    /// Rolled back.
    Failed(tokio_postgres::Error),
    /// The connection was lost after the commit was sent, or the commit is not complete on all nodes of a cluster.
    Unknown {
        /// The batch to ask about, see [`commit_log::fence`](crate::store::commit_log::fence).
        key: BatchKey,
        /// What happened to the connection or to the commit.
        cause: Cause,
        /// What the transaction was to write.
        plan: WritePlan,
    },
}
