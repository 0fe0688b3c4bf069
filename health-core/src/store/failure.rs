//! What can go wrong in here, before it is sorted by what a caller can do about it.

use std::sync::Arc;

use crate::{error::Error, store::connection::classify};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("PostgreSQL refused a statement, or is out of reach")]
    Postgres(#[from] tokio_postgres::Error),
    #[error("a summary in health_rollups is in no form this version knows: another version wrote it, or it is damaged")]
    UnknownSummary,
    #[error("a row of health_metrics breaks the rules of a sample: something else than this program wrote it")]
    IllegalSample,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Postgres(error) => classify(error),
            unreadable => Self::Unreadable(Arc::new(unreadable)),
        }
    }
}
