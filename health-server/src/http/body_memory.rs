//! A memory budget for JSON bodies, which the server must hold in memory as a whole before it reads their records.

use std::time::Duration;

use health_core::formats::ASIDE_BYTES_MAX;
use tokio::{
    sync::{AcquireError, Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::limits::ServerLimits;

/// Bytes that all large `application/json` bodies together may take; one permit is one KiB.
///
/// A part of the budget is only for medium bodies if the budget exceeds the size limit of one body. A large body that
/// arrives slowly then delays other large bodies, but no medium ones.
#[derive(Debug)]
pub(crate) struct BodyMemoryBudget {
    medium: Option<MediumBudget>,
    large: Semaphore,
    max_body: usize,
    acquire_timeout: Duration,
}

/// The part of the budget for bodies up to [`MEDIUM_BODY_BYTES`].
#[derive(Debug)]
struct MediumBudget {
    permits: Semaphore,
    total_bytes: usize,
}

/// The right to hold one body of up to `max_bytes` in memory. Dropping it returns the bytes to the budget.
#[derive(Debug)]
pub(crate) struct BodyPermit<'a> {
    pub(crate) max_bytes: usize,
    _permit: Option<SemaphorePermit<'a>>,
}

/// Bodies up to this size need no permit. It is what hyper may buffer for a connection anyway.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// Most bodies that are not small fit into this size.
const MEDIUM_BODY_BYTES: usize = 1 << 20;

/// The part of the budget for entries aside that a body can use which keeps up to [`MEDIUM_BODY_BYTES`].
const MEDIUM_ASIDE_BYTES: usize = 8 << 20;

/// The smallest allocation for a large body: just over 32 MiB, the upper end of glibc's dynamic `mmap` threshold.
///
/// glibc returns such an allocation to the system as soon as it is freed. After it has seen smaller ones freed, it
/// raises its threshold and keeps up to twice as much in each arena. Pages that are not written take no memory.
const MMAP_ALWAYS_BYTES: usize = (32 << 20) + 1;

impl BodyMemoryBudget {
    /// Creates a budget whose permits are waited for at most `acquire_timeout`.
    pub(crate) fn new(limits: &ServerLimits, acquire_timeout: Duration) -> Self {
        let (budget, max_body) = (limits.body_memory, limits.max_body);
        let spare = budget.saturating_sub(max_body);
        let (medium, large_bytes) = if spare >= MEDIUM_BODY_BYTES {
            let medium = MediumBudget {
                permits: semaphore(spare),
                total_bytes: spare,
            };
            (Some(medium), max_body)
        } else {
            (None, budget.max(max_body))
        };
        Self {
            medium,
            large: semaphore(large_bytes),
            max_body,
            acquire_timeout,
        }
    }

    /// Creates the budget for entries that bodies keep aside until the name of their list is known.
    pub(crate) fn of_entries_aside(limits: &ServerLimits, acquire_timeout: Duration) -> Self {
        let limits = ServerLimits {
            max_body: ASIDE_BYTES_MAX,
            body_memory: ASIDE_BYTES_MAX + MEDIUM_ASIDE_BYTES,
            ..limits.clone()
        };
        Self::new(&limits, acquire_timeout)
    }

    /// Waits for a permit for a body of at least `needed` bytes. Returns `None` after the timeout.
    ///
    /// The permit covers the `declared` length, if there is one. Otherwise it covers a medium body first, and the
    /// largest allowed body once `needed` exceeds that. A caller that keeps its medium permit while it waits for a
    /// large one causes no deadlock, because holders of large permits never wait for medium ones.
    pub(crate) async fn acquire(&self, needed: usize, declared: Option<u64>) -> Option<BodyPermit<'_>> {
        let declared = declared.and_then(|length| usize::try_from(length).ok());
        let max_bytes = match declared {
            Some(length) => length,
            None if self.medium.is_some() && needed <= MEDIUM_BODY_BYTES => MEDIUM_BODY_BYTES,
            None => self.max_body,
        };
        let permit = timeout(self.acquire_timeout, self.permits(max_bytes))
            .await
            .ok()?
            .ok()?;
        Some(BodyPermit {
            max_bytes,
            _permit: Some(permit),
        })
    }

    /// Takes permits from the part of the budget that fits the size and has them first.
    ///
    /// A body that is larger than medium may take the permits of several medium ones.
    async fn permits(&self, bytes: usize) -> Result<SemaphorePermit<'_>, AcquireError> {
        let (count, large) = (kib(bytes), self.large.acquire_many(kib(bytes)));
        match &self.medium {
            Some(medium) if bytes <= MEDIUM_BODY_BYTES => medium.permits.acquire_many(count).await,
            Some(medium) if bytes <= medium.total_bytes => tokio::select! {
                biased; // The large part first: medium bodies can use no other than the medium part.
                permit = large => permit,
                permit = medium.permits.acquire_many(count) => permit,
            },
            _ => large.await,
        }
    }
}

impl BodyPermit<'_> {
    /// Returns the permit of a small body, which takes nothing from the budget.
    pub(crate) fn small() -> Self {
        Self {
            max_bytes: SMALL_BODY_BYTES,
            _permit: None,
        }
    }

    /// Returns how many bytes to allocate for the body.
    pub(crate) fn allocation_bytes(&self) -> usize {
        match self.max_bytes {
            ..=MEDIUM_BODY_BYTES => self.max_bytes,
            large => large.max(MMAP_ALWAYS_BYTES),
        }
    }
}

fn semaphore(bytes: usize) -> Semaphore {
    let permits = usize::try_from(kib(bytes)).unwrap_or(usize::MAX);
    Semaphore::new(permits.min(Semaphore::MAX_PERMITS))
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_body_delays_other_large_bodies_and_no_medium_ones() {
        let limits = ServerLimits {
            max_body: 16 << 20,
            body_memory: 18 << 20,
            ..ServerLimits::default()
        };
        let budget = BodyMemoryBudget::new(&limits, Duration::from_millis(1));
        let large = budget.acquire(2 << 20, None).await.unwrap();
        assert_eq!(large.max_bytes, 16 << 20);
        assert!(budget.acquire(1 << 20, Some(3 << 20)).await.is_none());
        // A body of the size of two medium ones may take their permits.
        drop(budget.acquire(1 << 20, Some(2 << 20)).await.unwrap());
        let medium = budget.acquire(70_000, None).await;
        assert_eq!(medium.as_ref().map(|permit| permit.max_bytes), Some(MEDIUM_BODY_BYTES));
        let declared = budget.acquire(70_000, Some(1 << 20)).await;
        assert!(declared.is_some());
        assert!(budget.acquire(70_000, Some(70_000)).await.is_none());
        drop((large, declared));
        assert!(budget.acquire(70_000, Some(70_000)).await.is_some());
        // The holder of a medium permit can go on to a large one.
        assert!(budget.acquire(MEDIUM_BODY_BYTES + 1, None).await.is_some());
        drop(medium);
    }

    #[tokio::test]
    async fn a_budget_below_the_limit_of_a_body_still_admits_one_body() {
        let limits = ServerLimits {
            max_body: 16 << 20,
            body_memory: 1 << 20,
            ..ServerLimits::default()
        };
        let budget = BodyMemoryBudget::new(&limits, Duration::from_millis(1));
        let only = budget.acquire(70_000, None).await.unwrap();
        assert_eq!(only.max_bytes, 16 << 20);
        assert!(budget.acquire(70_000, Some(70_000)).await.is_none());
    }

    #[tokio::test]
    async fn one_body_may_keep_much_aside_and_many_may_keep_little() {
        let budget = BodyMemoryBudget::of_entries_aside(&ServerLimits::default(), Duration::from_millis(1));
        let large = budget.acquire(2 << 20, None).await.unwrap();
        assert_eq!(large.max_bytes, ASIDE_BYTES_MAX);
        assert!(budget.acquire(2 << 20, None).await.is_none());
        let mut medium = Vec::new();
        for _ in 0..MEDIUM_ASIDE_BYTES / MEDIUM_BODY_BYTES {
            medium.push(budget.acquire(70_000, None).await.unwrap());
        }
        assert!(budget.acquire(70_000, None).await.is_none());
        drop(large);
        assert!(budget.acquire(2 << 20, None).await.is_some());
    }
}
