//! A chunk: samples of one commit, or an erasure. It is the unit of delivery.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
    time::Instant,
};

use crate::{
    erasure::Erasure,
    sample::{Sample, UserId},
    wire::Cursor,
};

/// What a commit did.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// It stored these samples.
    Samples(Vec<Sample>),
    /// It erased samples.
    Erasure(Arc<Erasure>),
}

/// Samples of one commit, ordered by user, or the erasure of one. An erasure has one index, as a sample has.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Empty if the commit erased samples.
    samples: Box<[Sample]>,
    erasure: Option<Arc<Erasure>>,
    json: OnceLock<Json>,
    /// The index of the first sample among all samples and erasures that the ring has delivered.
    pub(crate) first_index: u64,
    /// The cursor from which a subscriber receives the chunk again.
    pub(crate) before: Cursor,
    /// The cursor after the last sample, if the commit ends with it.
    pub(crate) after: Option<Cursor>,
    /// The batch number of the commit.
    pub(crate) batch_number: i64,
    /// The number of the commit in the order in which writers handed commits over, see
    /// [`Ring::subscribe`](super::ring::Ring::subscribe).
    pub(crate) order: u64,
    /// When it was made: at its delivery to the ring, or when a replay read it.
    pub(crate) made_at: Instant,
}

/// The samples as JSON, one after the other.
#[derive(Debug)]
struct Json {
    bytes: Box<[u8]>,
    ends: Box<[u32]>,
}

/// What the JSON of a sample takes, with its end in the list: measured at 100 to 150 bytes.
const JSON_BYTES: usize = 150;

/// What an erasure takes, with the longest source.
const ERASURE_BYTES: usize = size_of::<Erasure>() + 100;

/// The longest source that a sample holds without memory of its own; the constant of `smol_str` is private.
const INLINE_SOURCE_BYTES: usize = 23;

impl Change {
    /// Returns how many samples it stored.
    pub(crate) fn samples(&self) -> usize {
        match self {
            Self::Samples(samples) => samples.len(),
            Self::Erasure(_) => 0,
        }
    }
}

impl Chunk {
    /// Makes a chunk of samples. The order of a user's samples stays.
    pub(crate) fn new(mut samples: Vec<Sample>, batch_number: i64, order: u64, before: Cursor) -> Self {
        // A commit's samples come as two sorted runs, which the sort finds.
        samples.sort_by_key(Sample::user_id);
        Self {
            samples: samples.into(),
            erasure: None,
            json: OnceLock::new(),
            first_index: 0,
            before,
            after: None,
            batch_number,
            order,
            made_at: Instant::now(),
        }
    }

    /// Makes a chunk of an erasure.
    pub(crate) fn of_erasure(erasure: Arc<Erasure>, batch_number: i64, order: u64, before: Cursor) -> Self {
        Self {
            erasure: Some(erasure),
            ..Self::new(Vec::new(), batch_number, order, before)
        }
    }

    pub(crate) fn erasure(&self) -> Option<&Arc<Erasure>> {
        self.erasure.as_ref()
    }

    /// The user of the sample or the erasure at an index.
    pub(crate) fn user(&self, index: usize) -> UserId {
        match &self.erasure {
            Some(erasure) => erasure.user_id(),
            None => self.samples[index].user_id(),
        }
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// How many samples and erasures it has.
    pub(crate) fn len(&self) -> usize {
        if self.erasure.is_some() { 1 } else { self.samples.len() }
    }

    /// The index after the last sample, see [`Self::first_index`].
    pub(crate) fn end_index(&self) -> u64 {
        self.first_index + self.len() as u64
    }

    /// The memory that the chunk takes at most, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let sources = self.samples.iter().map(|sample| sample.source().as_str().len());
        let long_sources: usize = sources.filter(|bytes| *bytes > INLINE_SOURCE_BYTES).sum();
        let erasure = if self.erasure.is_some() { ERASURE_BYTES } else { 0 };
        size_of::<Self>() + self.samples.len() * (size_of::<Sample>() + JSON_BYTES) + 2 * long_sources + erasure
    }

    /// Each user in the chunk, with the range of the user's samples. The user of an erasure has the range of one index.
    pub(crate) fn users(&self) -> impl Iterator<Item = (UserId, Range<usize>)> {
        let erased = self.erasure.iter().map(|erasure| (erasure.user_id(), 0..1));
        let runs = self.samples.chunk_by(|a, b| a.user_id() == b.user_id());
        let stored = runs.scan(0, |start, run| {
            let range = *start..*start + run.len();
            *start = range.end;
            Some((run[0].user_id(), range))
        });
        erased.chain(stored)
    }

    /// The range of a user's samples, or of the erasure.
    pub(crate) fn of_user(&self, user: UserId) -> Range<usize> {
        if let Some(erasure) = &self.erasure {
            return 0..usize::from(erasure.user_id() == user);
        }
        let start = self.samples.partition_point(|sample| sample.user_id() < user);
        let len = self.samples[start..].partition_point(|sample| sample.user_id() == user);
        start..start + len
    }

    /// The first sample at or after an index whose user is one of `users`, which are ordered; of all users if there are
    /// none.
    pub(crate) fn next_match(&self, users: Option<&[UserId]>, from: usize) -> Option<usize> {
        let mut index = from;
        let Some(mut users) = users else {
            return (index < self.len()).then_some(index);
        };
        if let Some(erasure) = &self.erasure {
            return (index == 0 && users.binary_search(&erasure.user_id()).is_ok()).then_some(0);
        }
        loop {
            let user = self.samples.get(index)?.user_id();
            users = &users[users.partition_point(|named| *named < user)..];
            let next = *users.first()?;
            if next == user {
                return Some(index);
            }
            index += self.samples[index..].partition_point(|sample| sample.user_id() < next);
        }
    }

    /// The sample at an index as JSON.
    pub(crate) fn json(&self, index: usize) -> &[u8] {
        let Json { bytes, ends } = self.json.get_or_init(|| Json::of(&self.samples));
        let start = index.checked_sub(1).map_or(0, |before| ends[before]);
        &bytes[start as usize..ends[index] as usize]
    }
}

impl Json {
    fn of(samples: &[Sample]) -> Self {
        let mut bytes = Vec::with_capacity(samples.len() * JSON_BYTES);
        let ends = samples
            .iter()
            .map(|sample| {
                // A sample consists of numbers and strings, and memory does not refuse a write.
                let _ = serde_json::to_writer(&mut bytes, sample);
                u32::try_from(bytes.len()).unwrap_or(u32::MAX)
            })
            .collect();
        Self {
            bytes: bytes.into(),
            ends,
        }
    }
}
