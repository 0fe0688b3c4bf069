//! Memory for bodies that have to be seen whole.

use std::time::Duration;

use tokio::{
    sync::{AcquireError, Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::limits::ServerLimits;

/// What all large bodies together may take. Those of some length have a part of it to themselves, so that a very large one that
/// comes slowly is waited for by its like alone.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    /// For bodies up to [`MEDIUM_BYTES`], if there is more than a body may be long; and how much.
    medium: Option<(Semaphore, usize)>,
    large: Semaphore,
    max_body: usize,
    patience: Duration,
}

/// Room for one body.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    /// How long the body may become in it.
    pub(crate) bytes: usize,
    _share: Option<SemaphorePermit<'a>>,
}

/// Bodies up to this size are read without asking.
const SMALL_BYTES: usize = 64 << 10;

/// What most bodies need that need more. It leaves no trace in the allocator that would be worth a word.
const MEDIUM_BYTES: usize = 1 << 20;

/// Room for larger bodies is allocated beyond 32 MiB: glibc gives that much back to the system the moment it is free. Of less
/// it learns, once it has seen some freed, to keep twice as much in each of its arenas. What is not written to takes no memory.
const GIVEN_BACK_BYTES: usize = (32 << 20) + 1;

impl BodyMemory {
    pub(crate) fn new(limits: &ServerLimits, patience: Duration) -> Self {
        let (all, max_body) = (limits.body_memory, limits.max_body);
        let spare = all.saturating_sub(max_body);
        let (medium, large) = if spare >= MEDIUM_BYTES {
            (Some((semaphore(spare), spare)), max_body)
        } else {
            (None, all.max(max_body))
        };
        Self {
            medium,
            large: semaphore(large),
            max_body,
            patience,
        }
    }

    /// Room for a body of at least so many bytes, of which it may have declared how long it becomes. Waits for it as long as
    /// samples wait for room in the queue.
    ///
    /// All it may come to need, at once, or a medium share first: whoever waits for a large one with a medium one in hand is in
    /// nobody's way who has a large one already.
    pub(crate) async fn room(&self, needed: usize, declared: Option<u64>) -> Option<Room<'_>> {
        let declared = declared.and_then(|length| usize::try_from(length).ok());
        let bytes = match declared {
            Some(length) => length,
            None if self.medium.is_some() && needed <= MEDIUM_BYTES => MEDIUM_BYTES,
            None => self.max_body,
        };
        let share = timeout(self.patience, self.share(bytes)).await.ok()?.ok()?;
        Some(Room {
            bytes,
            _share: Some(share),
        })
    }
}

impl BodyMemory {
    /// What is free first of what is meant for it. A body between medium and large may have the room of several medium ones.
    async fn share(&self, bytes: usize) -> Result<SemaphorePermit<'_>, AcquireError> {
        let (wanted, large) = (kib(bytes), self.large.acquire_many(kib(bytes)));
        match &self.medium {
            Some((medium, _)) if bytes <= MEDIUM_BYTES => medium.acquire_many(wanted).await,
            Some((medium, spare)) if bytes <= *spare => tokio::select! {
                biased; // Medium ones have nowhere else to go.
                room = large => room,
                room = medium.acquire_many(wanted) => room,
            },
            _ => large.await,
        }
    }
}

impl Room<'_> {
    /// Room that is there without asking.
    pub(crate) fn small() -> Self {
        Self {
            bytes: SMALL_BYTES,
            _share: None,
        }
    }

    /// What to allocate for it.
    pub(crate) fn capacity(&self) -> usize {
        match self.bytes {
            ..=MEDIUM_BYTES => self.bytes,
            large => large.max(GIVEN_BACK_BYTES),
        }
    }
}

fn semaphore(bytes: usize) -> Semaphore {
    Semaphore::new(
        usize::try_from(kib(bytes))
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS),
    )
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_body_is_waited_for_by_its_like_alone() {
        let limits = ServerLimits {
            max_body: 16 << 20,
            body_memory: 18 << 20,
            ..ServerLimits::default()
        };
        let memory = BodyMemory::new(&limits, Duration::from_millis(1));
        let first = memory.room(2 << 20, None).await.unwrap();
        assert_eq!(first.bytes, 16 << 20);
        assert!(memory.room(1 << 20, Some(3 << 20)).await.is_none());
        // One that is no larger than several medium ones may take their room.
        drop(memory.room(1 << 20, Some(2 << 20)).await.unwrap());
        let (second, third) = (
            memory.room(70_000, None).await,
            memory.room(70_000, Some(1 << 20)).await,
        );
        assert!(second.as_ref().is_some_and(|room| room.bytes == MEDIUM_BYTES) && third.is_some());
        assert!(memory.room(70_000, Some(70_000)).await.is_none());
        drop((first, third));
        assert!(memory.room(70_000, Some(70_000)).await.is_some());
        // It goes on from its medium share to a large one.
        assert!(memory.room(MEDIUM_BYTES + 1, None).await.is_some());
    }

    #[tokio::test]
    async fn where_there_is_room_for_one_body_there_is_room_for_one() {
        let limits = ServerLimits {
            max_body: 16 << 20,
            body_memory: 1 << 20,
            ..ServerLimits::default()
        };
        let memory = BodyMemory::new(&limits, Duration::from_millis(1));
        let first = memory.room(70_000, None).await.unwrap();
        assert_eq!(first.bytes, 16 << 20);
        assert!(memory.room(70_000, Some(70_000)).await.is_none());
    }
}
