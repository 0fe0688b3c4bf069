//! The way of a commit from its writer to the poller.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::mpsc;

use crate::{
    live::{chunk::Change, ring::Ring},
    sample::Sample,
    store::commit_log::{CommitRecord, erasures::ErasureCommit},
};

/// A commit of this server, as its writer hands it over before it acknowledges the samples.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) record: CommitRecord,
    /// The writer id of the commit before it.
    pub(crate) previous_writer_id: i64,
    /// The order of handing over, see [`Ring::hand_over`].
    pub(crate) order: u64,
    /// What the commit did. If it was not kept, the poller reads the rows back, unless there is no subscription by
    /// then.
    pub(crate) change: Option<Change>,
    waiting: Arc<AtomicUsize>,
}

/// The writers' end: handing over never waits, and takes no lock.
#[derive(Debug, Clone)]
pub(crate) struct Handover {
    ring: Arc<Ring>,
    sender: mpsc::UnboundedSender<HandedOver>,
    /// Samples that were handed over and that the poller has not delivered yet.
    waiting: Arc<AtomicUsize>,
}

/// The most samples that wait for the poller, about 15 MB. The poller takes them at once unless it waits for the
/// database. It reads further samples back from the table.
const WAITING_MAX: usize = 100_000;

impl Handover {
    /// Makes the writers' and the poller's end.
    pub(crate) fn new(ring: Arc<Ring>) -> (Self, mpsc::UnboundedReceiver<HandedOver>) {
        // Unbounded: the samples are counted, and the rest is some ten bytes a commit.
        let (sender, receiver) = mpsc::unbounded_channel();
        let handover = Self {
            ring,
            sender,
            waiting: Arc::default(),
        };
        (handover, receiver)
    }

    /// Hands a commit over. To be called before the acknowledgement.
    pub(crate) fn hand_over(
        &self,
        record: CommitRecord,
        previous_writer_id: i64,
        samples: impl Iterator<Item = Sample>,
    ) {
        let order = self.ring.hand_over();
        let keep = self.ring.has_listeners() && self.waiting.load(Relaxed) < WAITING_MAX;
        let change = keep.then(|| Change::Samples(samples.collect()));
        self.send(record, previous_writer_id, order, change);
    }

    /// Hands an erasure over. To be called before its caller gets the answer.
    pub(crate) fn hand_over_erasure(&self, commit: ErasureCommit) {
        let order = self.ring.hand_over();
        let change = Some(Change::Erasure(commit.erasure));
        self.send(commit.record, commit.previous_writer_id, order, change);
    }

    fn send(&self, record: CommitRecord, previous_writer_id: i64, order: u64, change: Option<Change>) {
        self.waiting
            .fetch_add(change.as_ref().map_or(0, Change::samples), Relaxed);
        let commit = HandedOver {
            record,
            previous_writer_id,
            order,
            change,
            waiting: Arc::clone(&self.waiting),
        };
        // If the poller has ended, the handle is closed and there is no subscription.
        let _ = self.sender.send(commit);
    }
}

impl HandedOver {
    /// Takes what the commit did; `None` if the poller has to read its rows back.
    pub(crate) fn take_change(&mut self) -> Option<Change> {
        let change = self.change.take();
        self.waiting
            .fetch_sub(change.as_ref().map_or(0, Change::samples), Relaxed);
        change
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        self.waiting
            .fetch_sub(self.change.as_ref().map_or(0, Change::samples), Relaxed);
    }
}
