//! The doorbell: the poller's connection. Through it the poller reads the commit log, and servers notify each other.
//!
//! A notification means only "read the commit log". If one is lost, the poller's timer makes up for it.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::timeout;
use tokio_postgres::AsyncMessage;

use crate::{
    config::Config,
    error::Error,
    store::{
        client::ConnectionState,
        commit_log::{self, CommitRecord, LogPage, LogPosition},
        connect::connect,
        connect_refusal::classify_connect,
        connection::Session,
        error::StoreError,
        feed_rows::{self, FeedRow},
        prepared::{self, Rows},
        tables::Tables,
        tokens,
    },
};

/// Prepares the poller's session.
///
/// Its shared advisory lock shows other servers that a poller exists. It commits nothing but notifications, so no
/// commit waits for the disk.
const SETTINGS: &str = "SET synchronous_commit = off; SET enable_seqscan = off; \
     SET statement_timeout = '10s'; \
     SELECT pg_advisory_lock_shared(hashtext('health feed'), 0)";

/// Receives notifications from now on. A standby refuses this.
const LISTEN: &str = "LISTEN health_feed; LISTEN health_tokens";

/// Returns whether the database is a standby. It has neither notifications nor commits of its own.
const IS_STANDBY: &str = "SELECT pg_is_in_recovery()";

/// Notifies other servers. The payload tells a server which notifications are its own.
///
/// The statement has a transaction of its own and is not a part of the writer's, because a transaction with a
/// notification takes a lock of the whole database at its commit.
const NOTIFY: &str = "SELECT pg_notify('health_feed', $1)";

/// Returns whether another session holds the same advisory lock.
const OTHER_LISTENERS: &str = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 \
     AND classid = hashtext('health feed')::bigint::bit(32)::bigint AND objid = 0 AND pid <> pg_backend_pid() \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";

/// How long PostgreSQL may take to answer before the connection is given up. A machine that lost its power closes no
/// connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// A notification of another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notification {
    /// There are new commits, or the connection was lost: read the commit log.
    NewCommits,
    /// A token was created, changed or revoked: read the tokens.
    TokensChanged,
}

/// The poller's connection.
pub(crate) struct Doorbell {
    session: Session,
    /// The payload of its own notifications, by which it ignores them.
    name: String,
    /// The session receives notifications. While the database is a standby it cannot, and the poller's timer has to do.
    listens: bool,
}

impl Doorbell {
    /// Connects. Calls `on_notification` when another program notifies, and when the connection is lost.
    pub(crate) async fn open(
        config: &Config,
        on_notification: impl Fn(Notification) + Send + 'static,
    ) -> Result<Self, Error> {
        let opening = async {
            let (client, mut connection) = connect(config).await.map_err(classify_connect)?;
            let name = format!("{:016x}", fastrand::u64(..));
            let own = name.clone();
            let state = ConnectionState::default();
            let lost = Arc::clone(&state.is_lost);
            tokio::spawn(async move {
                while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                    if let AsyncMessage::Notification(message) = message {
                        if message.channel() == tokens::CHANGED_CHANNEL {
                            on_notification(Notification::TokensChanged);
                        } else if message.payload() != own {
                            on_notification(Notification::NewCommits);
                        }
                    }
                }
                lost.store(true, Relaxed);
                on_notification(Notification::NewCommits);
            });
            let session = Session::registered(config, client, state, SETTINGS).await?;
            let mut doorbell = Self {
                session,
                name,
                listens: false,
            };
            doorbell.listen_unless_standby().await?;
            Ok(doorbell)
        };
        let opened = timeout(ANSWER_TIMEOUT, opening).await;
        opened.unwrap_or(Err(Error::TimedOut(ANSWER_TIMEOUT)))
    }

    /// Returns whether the connection is lost.
    pub(crate) fn is_closed(&self) -> bool {
        self.session.client().is_lost()
    }

    /// Begins to receive notifications if the database is no standby.
    async fn listen_unless_standby(&mut self) -> Result<(), StoreError> {
        let statement = self.session.prepare(IS_STANDBY).await?;
        let client = self.session.client();
        if !client.query_one(&statement, &[]).await?.get::<_, bool>(0) {
            client.batch_execute(LISTEN).await?;
            self.listens = true;
        }
        Ok(())
    }

    /// Notifies the other servers of new commits. A standby has none.
    pub(crate) async fn notify(&mut self) -> Result<(), Error> {
        if !self.listens {
            return Ok(());
        }
        answered(async {
            let statement = self.session.prepare(NOTIFY).await?;
            self.session.client().execute(&statement, &[&self.name]).await?;
            Ok::<_, StoreError>(())
        })
        .await
    }

    /// Returns whether another server has a poller. Notices that a standby was promoted.
    pub(crate) async fn others_listen(&mut self) -> Result<bool, Error> {
        answered(async {
            if !self.listens {
                self.listen_unless_standby().await?;
            }
            let statement = self.session.prepare(OTHER_LISTENERS).await?;
            Ok::<_, StoreError>(self.session.client().query_one(&statement, &[]).await?.get(0))
        })
        .await
    }

    /// Returns the position of the newest record of the commit log.
    pub(crate) async fn newest(&mut self) -> Result<LogPosition, Error> {
        answered(commit_log::newest(&mut self.session)).await
    }

    /// Reads the commit log after a position, see [`commit_log::page`].
    pub(crate) async fn page(&mut self, from: LogPosition, limit: usize, window: Duration) -> Result<LogPage, Error> {
        answered(commit_log::page(&mut self.session, from, limit, window)).await
    }

    /// Returns the rows that some commits wrote, in the order of the commits; `None` if the commit log does not hold
    /// them any more.
    ///
    /// If the tables are distributed, a commit may be visible before all of its rows. Rows are missing as well if later
    /// commits have changed or erased them. So if some are missing, this reads again after all visible commits have
    /// become complete.
    pub(crate) async fn rows(&mut self, records: &[CommitRecord]) -> Result<Option<Vec<FeedRow>>, Error> {
        answered(async {
            let session = &mut self.session;
            let rows = feed_rows::rows(session, records, None, None).await?;
            let are_complete = |rows: &Vec<FeedRow>| feed_rows::are_complete(records, rows);
            if session.tables() == Tables::Local || rows.as_ref().is_none_or(are_complete) {
                return Ok(rows);
            }
            prepared::recover(session, Rows::OfAllUsers).await?;
            feed_rows::rows(session, records, None, None).await
        })
        .await
    }
}

async fn answered<T, E: Into<Error>>(asking: impl Future<Output = Result<T, E>>) -> Result<T, Error> {
    match timeout(ANSWER_TIMEOUT, asking).await {
        Ok(answer) => answer.map_err(E::into),
        Err(_) => Err(Error::TimedOut(ANSWER_TIMEOUT)),
    }
}
