//! The driver's client, watched for errors that tell that the session behind it is lost.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Buf;
use tokio_postgres::{
    Client, CopyInSink, Error, Row, RowStream, SimpleQueryMessage, Statement, ToStatement,
    error::{DbError, SqlState},
    types::{BorrowToSql, ToSql},
};

use crate::{sessions::IsLost, store::refusal::is_session_lost};

/// A client whose session may be lost although its connection is not.
///
/// The session is lost if its prepared statements or its settings are gone. A pooler that changes to transaction mode
/// does this: each transaction may get another session of the database.
pub(crate) struct SessionClient {
    client: Client,
    state: ConnectionState,
}

/// What the task that drives a connection tells the session.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionState {
    pub(crate) is_lost: IsLost,
    /// The warnings that the database has sent so far.
    warnings: Arc<AtomicU64>,
}

impl ConnectionState {
    /// Counts a warning before the answer to the statement that gave it arrives. A `ROLLBACK` without a transaction is
    /// none: a transaction that is dropped after a failed commit sends it.
    pub(crate) fn note_warning(&self, notice: &DbError) {
        if *notice.code() == SqlState::NO_ACTIVE_SQL_TRANSACTION {
            return;
        }
        self.warnings.fetch_add(1, Relaxed);
        tracing::debug!(
            severity = notice.severity(),
            message = notice.message(),
            "the database gives notice"
        );
    }
}

impl SessionClient {
    /// Watches a client. The task that drives its connection changes `state`.
    pub(crate) fn new(client: Client, state: ConnectionState) -> Self {
        Self { client, state }
    }

    /// Returns the flag that says whether the session is lost.
    pub(crate) fn loss(&self) -> &IsLost {
        &self.state.is_lost
    }

    /// Returns the number of warnings that the database has sent so far, including those of every statement that has
    /// ended.
    pub(crate) fn warnings(&self) -> u64 {
        self.state.warnings.load(Relaxed)
    }

    /// Returns the driver's client, whose errors are not watched.
    pub(crate) fn unwatched(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Returns whether the connection or its session is lost. Such a client must not be used again.
    pub(crate) fn is_lost(&self) -> bool {
        self.state.is_lost.load(Relaxed) || self.client.is_closed()
    }

    /// Notes that the client must not be used again.
    pub(crate) fn lose(&self) {
        self.state.is_lost.store(true, Relaxed);
    }

    fn watch<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if outcome.as_ref().is_err_and(is_session_lost) {
            self.lose();
        }
        outcome
    }

    pub(crate) async fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        self.watch(self.client.prepare(sql).await)
    }

    pub(crate) async fn query<T>(&self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error>
    where
        T: ?Sized + ToStatement + Sync,
    {
        self.watch(self.client.query(statement, params).await)
    }

    pub(crate) async fn query_one<T>(&self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Row, Error>
    where
        T: ?Sized + ToStatement + Sync,
    {
        self.watch(self.client.query_one(statement, params).await)
    }

    pub(crate) async fn query_opt<T>(&self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error>
    where
        T: ?Sized + ToStatement + Sync,
    {
        self.watch(self.client.query_opt(statement, params).await)
    }

    pub(crate) async fn query_raw<P, I>(&self, statement: &Statement, params: I) -> Result<RowStream, Error>
    where
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator,
    {
        self.watch(self.client.query_raw(statement, params).await)
    }

    pub(crate) async fn execute<T>(&self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Error>
    where
        T: ?Sized + ToStatement + Sync,
    {
        self.watch(self.client.execute(statement, params).await)
    }

    pub(crate) async fn copy_in<U>(&self, statement: &Statement) -> Result<CopyInSink<U>, Error>
    where
        U: Buf + 'static + Send,
    {
        self.watch(self.client.copy_in(statement).await)
    }

    pub(crate) async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.watch(self.client.simple_query(sql).await)
    }

    pub(crate) async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        self.watch(self.client.batch_execute(sql).await)
    }
}
