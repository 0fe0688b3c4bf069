//! What was committed, logged to whoever listens.
//!
//! # Order and cursors
//!
//! Identity values and transaction ids are taken before a commit and become visible out of order, so neither says by itself
//! what is new. A *snapshot* of PostgreSQL's does: it names the transactions that are visible in it. One task, the
//! [`courier`], looks at `health_commits` in one snapshot after the other. What is visible in a snapshot and was not in the
//! one before is delivered then, and only then, be it ours or another server's; so there is one order for all, and whatever
//! was acknowledged before a transaction began is delivered before it. Within a look the order is that of `id`, which is
//! taken under the row's lock.
//!
//! Our own samples are not read back: writers hand them to the [`hub`] before they acknowledge them, and the courier's
//! look only says when it is their turn. Should a look see one of our commits that was not handed over yet, everything from
//! there on counts as not yet visible, until a moment later. A writer that loses its connection gives up its name, and
//! what it committed under that name is read from the table like another server's.
//!
//! A cursor is the snapshot of the last look that was delivered, in short where it can be. Transactions that were in
//! progress are named in it, up to a number; a transaction that stays open holds back neither deliveries nor cursors.
//!
//! # Resuming
//!
//! See [`replay`].
//!
//! # Who may wait for whom
//!
//! Writers wait for nobody here. The courier waits for the database and for nobody else. Readers have a [`queue`]
//! each, bounded in samples; what does not fit is counted, and logged with the cursor before it. What waits for all of them
//! together has a [`budget`]; where that is spent, those who are furthest behind lose what waits for them to the same count.

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
