//! The live feed: committed samples, delivered to subscribers.
//!
//! The way of a commit to a subscriber:
//!
//! 1. A [writer](crate::ingest) commits a batch. The commit log gives it the next number, see
//!    [`commit_log`](crate::store::commit_log).
//! 2. The writer [hands](handover) number and samples over to the [`poller`], then acknowledges the samples.
//! 3. The poller delivers commits in the order of their numbers: from memory if their samples were kept, else from the
//!    table.
//! 4. If there is a subscription, the commit is put into the [`ring`], as [chunks](chunk) that all subscribers share.
//! 5. A [`subscription`] has an index in the ring and a filter. It takes the samples after the index at its own speed.
//! 6. A subscriber that is slower than the ring gets the number of samples that it missed, and the [`cursor`] to resume
//!    from.
//! 7. A subscription that resumes reads the commits after its cursor from the table, by a [`replay`], and joins the
//!    ring.
//!
//! Writers do not wait for the feed. The poller waits for the database only.

pub(crate) mod chunk;
pub(crate) mod cursor;
pub(crate) mod event;
pub(crate) mod filter;
pub(crate) mod handover;
pub(crate) mod maintenance;
pub(crate) mod poller;
pub(crate) mod replay;
pub(crate) mod ring;
pub(crate) mod subscription;

#[cfg(test)]
mod poller_tests;
