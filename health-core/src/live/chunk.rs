//! A chunk: samples of one commit, the unit of delivery.

use std::{ops::Range, sync::OnceLock};

use crate::{
    sample::{Sample, UserId},
    wire::Cursor,
};

/// Samples of one commit, ordered by user.
#[derive(Debug)]
pub(crate) struct Chunk {
    samples: Box<[Sample]>,
    json: OnceLock<Json>,
    /// The index of the first sample among all that the ring has delivered.
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
}

/// The samples as JSON, one after the other.
#[derive(Debug)]
struct Json {
    bytes: Box<[u8]>,
    ends: Box<[u32]>,
}

/// What the JSON of a sample takes, with its end in the list: measured at 100 to 150 bytes.
const JSON_BYTES: usize = 150;

/// The longest source that a sample holds without memory of its own; the constant of `smol_str` is private.
const INLINE_SOURCE_BYTES: usize = 23;

impl Chunk {
    /// Makes a chunk. The order of a user's samples stays.
    pub(crate) fn new(mut samples: Vec<Sample>, batch_number: i64, order: u64, before: Cursor) -> Self {
        // A commit's samples come as two sorted runs, which the sort finds.
        samples.sort_by_key(Sample::user_id);
        Self {
            samples: samples.into(),
            json: OnceLock::new(),
            first_index: 0,
            before,
            after: None,
            batch_number,
            order,
        }
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// The index after the last sample, see [`Self::first_index`].
    pub(crate) fn end_index(&self) -> u64 {
        self.first_index + self.samples.len() as u64
    }

    /// The memory that the chunk takes at most, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let sources = self.samples.iter().map(|sample| sample.source().as_str().len());
        let long_sources: usize = sources.filter(|bytes| *bytes > INLINE_SOURCE_BYTES).sum();
        size_of::<Self>() + self.len() * (size_of::<Sample>() + JSON_BYTES) + 2 * long_sources
    }

    /// Each user in the chunk, with the range of the user's samples.
    pub(crate) fn users(&self) -> impl Iterator<Item = (UserId, Range<usize>)> {
        let runs = self.samples.chunk_by(|a, b| a.user_id() == b.user_id());
        runs.scan(0, |start, run| {
            let range = *start..*start + run.len();
            *start = range.end;
            Some((run[0].user_id(), range))
        })
    }

    /// The range of a user's samples.
    pub(crate) fn of_user(&self, user: UserId) -> Range<usize> {
        let start = self.samples.partition_point(|sample| sample.user_id() < user);
        let len = self.samples[start..].partition_point(|sample| sample.user_id() == user);
        start..start + len
    }

    /// The first sample at or after an index whose user is one of `users`, which are ordered; of all users if there are none.
    pub(crate) fn next_match(&self, users: Option<&[UserId]>, from: usize) -> Option<usize> {
        let mut index = from;
        let Some(mut users) = users else {
            return (index < self.len()).then_some(index);
        };
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
