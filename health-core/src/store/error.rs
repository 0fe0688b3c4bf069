//! The errors of this module, before `Error` sorts them by what a caller can do.

use std::sync::Arc;

use crate::{
    error::{Error, NotWritableReason},
    store::refusal::classify,
};

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// [`classify`] says what it means for a caller.
    #[error("PostgreSQL refused a statement, or the connection to it was lost")]
    Postgres(#[from] tokio_postgres::Error),
    /// The node does not answer, so it is unknown which transactions it has prepared.
    #[error("the node {node} of the cluster is away: {reason}")]
    NodeAway {
        /// Its number in `pg_dist_node`.
        node: i32,
        /// The words of Citus.
        reason: String,
    },
    /// A transaction that was committed on the coordinator is not yet committed on all nodes.
    #[error("a commit is not complete on all nodes of the cluster")]
    LeftPrepared,
    /// The first byte of a summary is its version, and this program does not know it; or the bytes are damaged.
    #[error(
        "health_rollups contains a summary that this version cannot read. A newer version wrote it, or it is damaged"
    )]
    UnreadableSummary,
    /// The first byte of a pack is its version.
    #[error(
        "health_commit_packs contains a pack that this version cannot read. A newer version wrote it, or it is damaged"
    )]
    UnreadableCommitPack,
    /// Only another program can have written such keys.
    #[error(
        "the keys of record {0} in the commit log are not those of its rows. Another program wrote them, or they are damaged"
    )]
    UnreadableRowKeys(i64),
    /// Only another program can have written such a name.
    #[error("a name in health_tokens breaks the rules of names. Another program wrote it")]
    InvalidTokenName,
    /// Only another program can have written such a row.
    #[error("a row of health_erasures breaks the rules of an erasure. Another program wrote it")]
    InvalidErasure,
    /// Only another program can have written such a row.
    #[error("a row of health_metrics breaks the rules of a sample. Another program wrote it")]
    InvalidSample,
    /// Nothing may be written now.
    #[error(transparent)]
    NotWritable(#[from] NotWritableReason),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Postgres(error) => classify(error),
            StoreError::NotWritable(reason) => Self::NotWritable(reason),
            incomplete @ (StoreError::NodeAway { .. } | StoreError::LeftPrepared) => {
                Self::Unavailable(Arc::new(incomplete))
            }
            unreadable => Self::Unreadable(Arc::new(unreadable)),
        }
    }
}
