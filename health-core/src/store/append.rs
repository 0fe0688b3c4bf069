//! The end of a writer's transaction: its record in the commit log, and the commit.

use std::sync::Arc;

use tokio_postgres::{Row, Statement, types::ToSql};

use crate::{
    batch::WritePlan,
    store::{
        batch_key::BatchKey,
        client::SessionClient,
        commit_log::{APPEND, COMMIT_LOCK, CommitRecord, row_keys},
        connection::Session,
        micros::Micros,
        required_version::KNOWN_VERSION,
        write_error::WriteError,
    },
};

/// A record that was appended and committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    pub(crate) record: CommitRecord,
    /// The writer id of the record before it.
    pub(crate) previous_writer_id: i64,
    /// A batch number for the next transaction of the connection.
    pub(super) next_batch_number: i64,
}

/// The prepared end of a transaction.
pub(super) struct Append {
    lock: Statement,
    insert: Statement,
    key: BatchKey,
    rows: i32,
    /// The keys of the rows, encoded.
    row_keys: Vec<u8>,
    /// The oldest timestamp of the batch. If the threshold is later, nothing may be appended. `None`: no such
    /// condition.
    oldest: Option<Micros>,
}

/// Why a commit was not confirmed.
pub(super) enum CommitError {
    /// The transaction was rolled back.
    RolledBack(tokio_postgres::Error),
    /// The transaction may have been committed.
    Unknown(tokio_postgres::Error),
}

impl Append {
    pub(super) async fn prepare(
        session: &mut Session,
        key: BatchKey,
        plan: &WritePlan,
    ) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            lock: session.prepare(COMMIT_LOCK).await?,
            insert: session.prepare(APPEND).await?,
            key,
            rows: i32::try_from(plan.rows()).unwrap_or(i32::MAX),
            row_keys: row_keys::of_plan(plan),
            oldest: None,
        })
    }

    /// Adds the condition that nothing is appended if the threshold is later than `oldest`.
    pub(super) fn unless_threshold_is_after(mut self, oldest: Micros) -> Self {
        self.oldest = Some(oldest);
        self
    }

    /// Sends the lock, the record and `COMMIT` at once, so the lock is held only as long as the commit takes.
    ///
    /// Returns `None` if nothing was appended, see [`Self::unless_threshold_is_after`].
    pub(super) async fn and_commit(&self, client: &SessionClient) -> Result<Option<Appended>, CommitError> {
        let BatchKey {
            writer_id,
            batch_number,
        } = self.key;
        let record: [&(dyn ToSql + Sync); 6] = [
            &batch_number,
            &writer_id,
            &self.rows,
            &self.oldest,
            &KNOWN_VERSION,
            &self.row_keys,
        ];
        let (locked, appended, committed) = futures_util::join!(
            client.execute(&self.lock, &[]),
            client.query_opt(&self.insert, &record),
            client.batch_execute("COMMIT")
        );
        let row = match locked.and(appended) {
            Ok(row) => row,
            // An error without a code comes from the connection, and `COMMIT` had been sent.
            Err(error) if error.code().is_none() => return Err(CommitError::Unknown(error)),
            Err(error) => return Err(CommitError::RolledBack(error)),
        };
        match committed {
            Ok(()) => Ok(row.map(|row| self.appended(&row))),
            // Class 57P: PostgreSQL may report that it shuts down although it has committed.
            Err(error) if error.code().is_none_or(|code| code.code().starts_with("57P")) => {
                Err(CommitError::Unknown(error))
            }
            Err(error) => Err(CommitError::RolledBack(error)),
        }
    }

    fn appended(&self, row: &Row) -> Appended {
        Appended {
            record: CommitRecord {
                number: row.get(0),
                batch_number: self.key.batch_number,
                writer_id: self.key.writer_id,
                rows: self.rows,
                is_erasure: false,
            },
            previous_writer_id: row.get(1),
            next_batch_number: row.get(2),
        }
    }
}

impl CommitError {
    pub(super) fn with(self, key: BatchKey, plan: WritePlan) -> WriteError {
        match self {
            Self::RolledBack(error) => error.into(),
            Self::Unknown(error) => WriteError::Unknown {
                key,
                cause: Arc::new(error),
                plan,
            },
        }
    }
}

/// Returns how a transaction ended whose last statements were sent together with `COMMIT`.
///
/// If PostgreSQL has refused one of these statements, this refusal is the reason of the rollback; later ones only
/// follow from it.
pub(super) fn committed_after<T>(
    statements: Result<T, tokio_postgres::Error>,
    committed: Result<Option<Appended>, CommitError>,
) -> Result<Option<Appended>, CommitError> {
    match statements {
        Err(refusal) if refusal.code().is_some() => Err(CommitError::RolledBack(refusal)),
        _ => committed,
    }
}
