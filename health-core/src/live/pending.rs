//! Samples that are not delivered yet: all of them in order, or only the newest of each user.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{live::event::Published, sample::UserId, wire::Cursor};

/// Samples that are delivered together to subscriber queues.
#[derive(Debug, Clone)]
pub(crate) enum Chunk {
    /// Several samples, shared by all subscribers of all users.
    Shared(Arc<[Arc<Published>]>),
    One(Arc<Published>),
}

/// Samples in order, or only the newest sample of each user.
#[derive(Debug)]
pub(crate) enum Pending {
    All {
        chunks: VecDeque<PendingChunk>,
        samples: usize,
    },
    NewestPerUser(NewestPerUser),
}

/// The newest sample of each user.
#[derive(Debug, Default)]
pub(crate) struct NewestPerUser {
    pub(crate) by_user: BTreeMap<UserId, Arc<Published>>,
    /// The position before the first of them.
    pub(crate) since: Option<Cursor>,
    /// The position after all of them, if it is known.
    pub(crate) until: Option<Cursor>,
}

/// A chunk of which some samples may already be taken.
#[derive(Debug)]
pub(crate) struct PendingChunk {
    chunk: Chunk,
    next: usize,
    end: usize,
    cursor: Cursor,
    /// The position after the last sample, if no other sample follows before it.
    end_cursor: Option<Cursor>,
}

/// The largest capacity that an empty queue keeps. A slow subscriber's queue grows to thousands of chunks, and
/// is shrunk when the subscriber has caught up.
const KEPT_CHUNKS: usize = 64;

/// The memory of one entry in [`NewestPerUser`], without the sample.
const NEWEST_BYTES: usize = 48;

impl Chunk {
    /// Returns the number of samples.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Shared(samples) => samples.len(),
            Self::One(_) => 1,
        }
    }

    fn get(&self, index: usize) -> &Arc<Published> {
        match self {
            Self::Shared(samples) => &samples[index],
            Self::One(sample) => sample,
        }
    }
}

impl Default for Pending {
    fn default() -> Self {
        Self::All {
            chunks: VecDeque::new(),
            samples: 0,
        }
    }
}

impl Pending {
    /// Keeps only the newest sample of each user from now on.
    pub(crate) fn keep_newest(&mut self) {
        let mut newest = NewestPerUser::default();
        while let Some((cursor, published)) = self.pop() {
            newest.since.get_or_insert(cursor);
            newest.by_user.insert(published.sample().user_id(), published);
        }
        *self = Self::NewestPerUser(newest);
    }

    /// Adds as many samples as fit, and returns how many did not fit.
    pub(crate) fn push(&mut self, chunk: &Chunk, cursor: &Cursor, capacity: usize) -> usize {
        match self {
            Self::All { chunks, samples } => {
                let fit = chunk.len().min(capacity.saturating_sub(*samples));
                if fit > 0 {
                    *samples += fit;
                    chunks.push_back(PendingChunk {
                        chunk: chunk.clone(),
                        next: 0,
                        end: fit,
                        cursor: cursor.clone(),
                        end_cursor: None,
                    });
                }
                chunk.len() - fit
            }
            Self::NewestPerUser(newest) => {
                let mut skipped = 0;
                for index in 0..chunk.len() {
                    let published = chunk.get(index);
                    let user = published.sample().user_id();
                    if newest.by_user.len() < capacity || (capacity > 0 && newest.by_user.contains_key(&user)) {
                        newest.since.get_or_insert_with(|| cursor.clone());
                        newest.by_user.insert(user, Arc::clone(published));
                    } else {
                        skipped += 1;
                    }
                }
                skipped
            }
        }
    }

    /// Removes the next sample in order. Returns `None` if only the newest samples are kept.
    pub(crate) fn pop(&mut self) -> Option<(Cursor, Arc<Published>)> {
        let Self::All { chunks, samples } = self else {
            return None;
        };
        let front = chunks.front_mut()?;
        let published = Arc::clone(front.chunk.get(front.next));
        front.next += 1;
        *samples -= 1;
        if front.next < front.end {
            return Some((front.cursor.clone(), published));
        }
        let PendingChunk { cursor, end_cursor, .. } = chunks.pop_front()?;
        if chunks.is_empty() && chunks.capacity() > KEPT_CHUNKS {
            *chunks = VecDeque::new();
        }
        Some((end_cursor.unwrap_or(cursor), published))
    }

    /// Sets the position after all samples.
    pub(crate) fn set_end_cursor(&mut self, after: &Cursor) {
        match self {
            Self::All { chunks, .. } => {
                if let Some(back) = chunks.back_mut() {
                    back.end_cursor = Some(after.clone());
                }
            }
            Self::NewestPerUser(newest) => newest.until = Some(after.clone()),
        }
    }

    /// Returns the number of samples.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::All { samples, .. } => *samples,
            Self::NewestPerUser(newest) => newest.by_user.len(),
        }
    }

    /// Returns the memory of the queue itself, without the samples.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::All { chunks, .. } => chunks.capacity() * size_of::<PendingChunk>(),
            Self::NewestPerUser(newest) => newest.by_user.len() * NEWEST_BYTES,
        }
    }

    /// Returns the position before the first sample.
    pub(crate) fn since(&self) -> Option<&Cursor> {
        match self {
            Self::All { chunks, .. } => chunks.front().map(|front| &front.cursor),
            Self::NewestPerUser(newest) => newest.since.as_ref(),
        }
    }

    /// Removes all samples.
    pub(crate) fn clear(&mut self) {
        match self {
            Self::All { .. } => *self = Self::default(),
            Self::NewestPerUser(newest) => *newest = NewestPerUser::default(),
        }
    }

    /// Removes and returns the newest samples. Empty if all samples are kept.
    pub(crate) fn take_newest(&mut self) -> NewestPerUser {
        match self {
            Self::All { .. } => NewestPerUser::default(),
            Self::NewestPerUser(newest) => std::mem::take(newest),
        }
    }
}
