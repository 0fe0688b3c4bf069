//! Transactions that cannot be left open by accident.

use std::ops::{Deref, DerefMut};

use futures_util::FutureExt;

use crate::store::connection::Session;

/// A transaction of a session; dropping it rolls back, unless its `COMMIT` was answered.
///
/// An error or a cancelled future therefore never leaves a transaction open on a connection that is used again. The
/// drop sends the `ROLLBACK` and does not wait for the answer: PostgreSQL runs it before the next statement of the
/// connection.
pub(crate) struct Transaction<'a> {
    session: &'a mut Session,
    is_open: bool,
}

impl<'a> Transaction<'a> {
    /// Begins a transaction with `begin`, which may contain further statements (`SET LOCAL`, locks). Fails if the
    /// session is not the one that was opened.
    pub(crate) async fn begin(session: &'a mut Session, begin: &str) -> Result<Self, tokio_postgres::Error> {
        let transaction = Self::pipelined(session);
        let begin = format!("{begin}; {}", transaction.guard());
        transaction.client().batch_execute(&begin).await?;
        Ok(transaction)
    }

    /// Guards a transaction whose `BEGIN` the caller sends, together with other statements, to save a round trip.
    pub(crate) fn pipelined(session: &'a mut Session) -> Self {
        Self { session, is_open: true }
    }

    /// Commits. If PostgreSQL refuses to, it rolls back.
    pub(crate) async fn commit(self) -> Result<(), tokio_postgres::Error> {
        let committed = self.client().batch_execute("COMMIT").await;
        self.ended();
        committed
    }

    /// Notes that a `COMMIT` that the caller sent was answered, whatever the answer was: there is no transaction any
    /// more, so the drop sends no `ROLLBACK`.
    pub(crate) fn ended(mut self) {
        self.is_open = false;
    }
}

impl Deref for Transaction<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        self.session
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // The first poll queues the statement. If the connection is lost, PostgreSQL rolls back by itself.
            let _ = self.session.client().batch_execute("ROLLBACK").now_or_never();
        }
    }
}
