//! The rows that all replays together hold in memory, and for how long one of them may hold its rows.
//!
//! A replay that holds rows waits for its subscriber, and other replays wait for the rows' permits. So a subscriber
//! that has stopped, or that takes an event now and then, must not keep others waiting: its replay gives the rows up,
//! and reads the rest again when the subscriber has taken all that it was sent.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// Permits for rows in memory.
#[derive(Debug)]
pub(super) struct RowBudget {
    permits: Semaphore,
    /// How many replays wait for permits.
    waiting: AtomicUsize,
    /// How long a replay may hold rows of a subscriber that is not fast, if no other replay waits.
    patience: Duration,
}

/// The permits of a replay for the rows that it holds.
#[derive(Debug)]
pub(super) struct Hold<'a> {
    budget: &'a RowBudget,
    permits: Option<SemaphorePermit<'a>>,
    /// The events that the subscriber has taken since the last check.
    taken: usize,
    check_at: Instant,
    /// When the subscriber was last found to be fast.
    fast_at: Instant,
}

/// How many rows a replay reads at once: about as many as its subscriber takes while the replay may hold them.
///
/// A replay begins with few rows, because hundreds may begin at once whose subscribers do not read.
#[derive(Debug)]
pub(super) struct Window(AtomicUsize);

/// A subscriber is fast if it takes this many events in each [`CHECK_INTERVAL`].
const FAST_EVENTS: usize = 32;

/// How often a replay that waits for its subscriber checks whether it must give its rows up.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

impl RowBudget {
    pub(super) fn new(rows: usize, patience: Duration) -> Self {
        Self {
            permits: Semaphore::new(rows),
            waiting: AtomicUsize::new(0),
            patience,
        }
    }

    /// Waits for permits.
    pub(super) async fn acquire(&self, rows: usize) -> Hold<'_> {
        let waiting = Waiting::new(&self.waiting);
        // The semaphore is never closed.
        let permits = self
            .permits
            .acquire_many(u32::try_from(rows).unwrap_or(u32::MAX))
            .await
            .ok();
        drop(waiting);
        let now = Instant::now();
        Hold {
            budget: self,
            permits,
            taken: 0,
            check_at: now + CHECK_INTERVAL,
            fast_at: now,
        }
    }
}

impl Hold<'_> {
    /// Starts the time of the hold: this many rows were read, and the first of them can be sent. Returns the permits
    /// that are not needed.
    pub(super) fn begin(&mut self, rows: usize) {
        if let Some(permits) = &mut self.permits {
            let unneeded = permits.num_permits().saturating_sub(rows);
            drop(permits.split(unneeded));
        }
        self.fast_at = Instant::now();
        self.check_at = self.fast_at + CHECK_INTERVAL;
    }

    /// Notes that the subscriber has taken an event.
    pub(super) fn taken(&mut self) {
        self.taken += 1;
    }

    /// When [`Self::is_over`] must be called, if the replay waits for its subscriber.
    pub(super) fn check_at(&self) -> Instant {
        self.check_at
    }

    /// Whether the replay must give its rows up: the subscriber is not fast, and another replay waits for rows or the
    /// patience has ended.
    pub(super) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if now < self.check_at {
            return false;
        }
        let is_fast = self.taken >= FAST_EVENTS;
        self.taken = 0;
        self.check_at = now + CHECK_INTERVAL;
        if is_fast {
            self.fast_at = now;
            return false;
        }
        self.budget.waiting.load(Relaxed) > 0 || now >= self.fast_at + self.budget.patience
    }
}

impl Window {
    const MIN: usize = 64;

    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(Self::MIN))
    }

    pub(super) fn rows(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// All rows that the replay has read were taken while it held them.
    pub(super) fn grow(&self, rows_max: usize) {
        self.0.store((self.rows() * 2).min(rows_max), Relaxed);
    }

    /// The replay has given its rows up after `sent` of `read` rows.
    pub(super) fn shrink(&self, sent: usize, read: usize) {
        // With a filter, fewer rows are read than the window has.
        let window = self.rows() * sent / read.max(1);
        self.0.store(window.max(Self::MIN), Relaxed);
    }
}

/// Counts a replay that waits, also if it is cancelled.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    /// Takes events until the hold is over, and returns how long that took.
    async fn held(hold: &mut Hold<'_>, events_at_each_check: usize) -> Option<Duration> {
        let began = Instant::now();
        for _ in 0..100 {
            advance(hold.check_at() - Instant::now()).await;
            (0..events_at_each_check).for_each(|_| hold.taken());
            if hold.is_over() {
                return Some(began.elapsed());
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_subscriber_gives_its_rows_up_at_once_if_another_waits() {
        let budget = RowBudget::new(100, PATIENCE);
        let mut slow = budget.acquire(100).await;
        assert_eq!(held(&mut slow, 1).await, Some(PATIENCE), "nobody waits");

        slow.begin(100);
        let mut other = Box::pin(budget.acquire(100));
        assert!(other.as_mut().now_or_never().is_none());
        assert_eq!(held(&mut slow, 1).await, Some(CHECK_INTERVAL));
        drop(slow);
        assert!(other.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_subscriber_keeps_its_rows_although_others_wait() {
        let budget = RowBudget::new(100, PATIENCE);
        let mut fast = budget.acquire(100).await;
        let mut other = Box::pin(budget.acquire(100));
        assert!(other.as_mut().now_or_never().is_none());
        assert_eq!(held(&mut fast, FAST_EVENTS).await, None);
        assert_eq!(held(&mut fast, 0).await, Some(CHECK_INTERVAL), "it has stopped");
        drop(other);
        fast.begin(100);
        assert_eq!(
            held(&mut fast, 0).await,
            Some(PATIENCE),
            "the other does not wait any more"
        );
    }

    #[test]
    fn a_window_follows_the_speed_of_the_subscriber() {
        let window = Window::new();
        for _ in 0..3 {
            window.grow(400);
        }
        assert_eq!(window.rows(), 400, "it has a limit");
        window.shrink(5, 10);
        assert_eq!(window.rows(), 200, "half of the rows of its users were taken");
        window.shrink(0, 10);
        assert_eq!(window.rows(), Window::MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn permits_beyond_the_rows_that_were_read_are_returned() {
        let budget = RowBudget::new(100, PATIENCE);
        let mut hold = budget.acquire(100).await;
        hold.begin(30);
        assert!(budget.acquire(71).now_or_never().is_none());
        assert!(budget.acquire(70).now_or_never().is_some());
        drop(hold);
        assert!(budget.acquire(100).now_or_never().is_some());
    }
}
