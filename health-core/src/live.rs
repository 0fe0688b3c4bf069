//! The live feed: committed samples, delivered to subscribers.
//!
//! # Order and cursors
//!
//! PostgreSQL assigns identity values and transaction ids before a commit, and commits become visible out of
//! order. So neither of them says what is new. A transaction snapshot does: it names the transactions that are
//! visible in it.
//!
//! One task, the [`poller`], reads the commit log (`health_commits`) in one snapshot after the other. It
//! delivers a commit in the first poll whose snapshot sees it, whether this server or another one wrote it. So
//! all subscribers get one order, and a sample that was acknowledged before another transaction began is
//! delivered first. Within a poll the order is that of `id`, which is assigned under the row's lock.
//!
//! Samples of this server are not read back from the table. Writers hand them over to the [`hub`] before they
//! acknowledge them, and the poll only says when they are delivered. If a poll sees a commit that its writer has
//! not handed over yet, that commit and all later ones wait for the next poll. A writer that loses its
//! connection gets a new writer id. Commits under its old id are read from the table, as those of other servers.
//!
//! A cursor is the snapshot of the last complete poll, in a short form where possible. It names transactions in
//! progress, up to a limit. So a transaction that stays open delays neither deliveries nor cursors.
//!
//! # Resuming
//!
//! See [`replay`].
//!
//! # Who waits for whom
//!
//! * Writers never wait for the feed.
//! * The poller waits for the database only.
//! * Each subscriber has a [queue](subscriber_queue) that is bounded in samples. Samples that do not fit are
//!   counted, and the subscriber is told the count and the cursor before them.
//! * All queues together have a memory [`budget`]. If it is exceeded, the subscribers with the most waiting
//!   samples lose them, and are told in the same way.

pub(crate) mod budget;
pub(crate) mod compactor;
pub(crate) mod cursor;
pub(crate) mod event;
pub(crate) mod filter;
pub(crate) mod hub;
pub(crate) mod pending;
pub(crate) mod poller;
pub(crate) mod replay;
pub(crate) mod subscriber_queue;
pub(crate) mod subscription;
pub(crate) mod transaction_snapshot;
