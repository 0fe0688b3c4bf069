//! Samples that wait: all of them in their order, or only the newest of each user.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{live::event::Published, sample::UserId, wire::Cursor};

/// What the courier puts in at once.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    /// A whole commit, the same for everyone who hears of all users.
    Many(Arc<[Arc<Published>]>),
    One(Arc<Published>),
}

/// Samples in their order, or only the newest of each user.
#[derive(Debug)]
pub(crate) enum Held {
    All { parcels: VecDeque<Waiting>, samples: usize },
    Newest(Newest),
}

/// The newest sample of each user who has one.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    pub(crate) by_user: BTreeMap<UserId, Arc<Published>>,
    /// Where the stream stood before the first of them.
    pub(crate) since: Option<Cursor>,
    /// Where it stands behind all of them, if that is known.
    pub(crate) until: Option<Cursor>,
}

/// A parcel, as far as it was not taken yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    parcel: Parcel,
    next: usize,
    end: usize,
    cursor: Cursor,
    /// Of the last sample in it, where that is known to be the last before it.
    last: Option<Cursor>,
}

/// Parcels that a queue keeps room for when it is empty. A slow reader's grows to thousands, and is a slow reader's no more
/// then.
const KEPT_PARCELS: usize = 64;

/// What the newest sample of a user takes beside the sample.
const NEWEST_BYTES: usize = 48;

impl Parcel {
    /// Samples in it.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Many(samples) => samples.len(),
            Self::One(_) => 1,
        }
    }

    fn get(&self, place: usize) -> &Arc<Published> {
        match self {
            Self::Many(samples) => &samples[place],
            Self::One(sample) => sample,
        }
    }
}

impl Default for Held {
    fn default() -> Self {
        Self::All {
            parcels: VecDeque::new(),
            samples: 0,
        }
    }
}

impl Held {
    /// Only the newest of each user is kept from now on.
    pub(crate) fn keep_newest(&mut self) {
        let mut newest = Newest::default();
        while let Some((cursor, published)) = self.pop() {
            newest.since.get_or_insert(cursor);
            newest.by_user.insert(published.sample().user_id(), published);
        }
        *self = Self::Newest(newest);
    }

    /// Takes what fits, and says how many did not.
    pub(crate) fn push(&mut self, parcel: &Parcel, cursor: &Cursor, capacity: usize) -> usize {
        match self {
            Self::All { parcels, samples } => {
                let fit = parcel.len().min(capacity.saturating_sub(*samples));
                if fit > 0 {
                    *samples += fit;
                    parcels.push_back(Waiting {
                        parcel: parcel.clone(),
                        next: 0,
                        end: fit,
                        cursor: cursor.clone(),
                        last: None,
                    });
                }
                parcel.len() - fit
            }
            Self::Newest(newest) => {
                let mut skipped = 0;
                for place in 0..parcel.len() {
                    let published = parcel.get(place);
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

    /// The next in order; never of those of whom only the newest is kept.
    pub(crate) fn pop(&mut self) -> Option<(Cursor, Arc<Published>)> {
        let Self::All { parcels, samples } = self else {
            return None;
        };
        let front = parcels.front_mut()?;
        let published = Arc::clone(front.parcel.get(front.next));
        front.next += 1;
        *samples -= 1;
        if front.next < front.end {
            return Some((front.cursor.clone(), published));
        }
        let Waiting { cursor, last, .. } = parcels.pop_front()?;
        if parcels.is_empty() && parcels.capacity() > KEPT_PARCELS {
            *parcels = VecDeque::new();
        }
        Some((last.unwrap_or(cursor), published))
    }

    /// Where the stream stands behind all of it.
    pub(crate) fn settle(&mut self, after: &Cursor) {
        match self {
            Self::All { parcels, .. } => {
                if let Some(back) = parcels.back_mut() {
                    back.last = Some(after.clone());
                }
            }
            Self::Newest(newest) => newest.until = Some(after.clone()),
        }
    }

    /// Samples that wait.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::All { samples, .. } => *samples,
            Self::Newest(newest) => newest.by_user.len(),
        }
    }

    /// What it takes beside the samples themselves.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::All { parcels, .. } => parcels.capacity() * size_of::<Waiting>(),
            Self::Newest(newest) => newest.by_user.len() * NEWEST_BYTES,
        }
    }

    /// Where the stream stood before the first of them, if there is one.
    pub(crate) fn since(&self) -> Option<&Cursor> {
        match self {
            Self::All { parcels, .. } => parcels.front().map(|front| &front.cursor),
            Self::Newest(newest) => newest.since.as_ref(),
        }
    }

    /// Forgets all of it.
    pub(crate) fn clear(&mut self) {
        match self {
            Self::All { .. } => *self = Self::default(),
            Self::Newest(newest) => *newest = Newest::default(),
        }
    }

    /// The newest of each user, where only those are kept.
    pub(crate) fn take_newest(&mut self) -> Newest {
        match self {
            Self::All { .. } => Newest::default(),
            Self::Newest(newest) => std::mem::take(newest),
        }
    }
}
