//! Counts and latencies, which all tasks report and the monitor reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use examples::bench::percentile;
use tokio::time::Duration;

#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    totals: Totals,
    /// Of the current interval only.
    posts: Latencies,
    queries: Latencies,
}

/// Everything that was acknowledged and compared since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) samples: usize,
    pub(crate) requests: usize,
    pub(crate) erased: usize,
    pub(crate) erasures: usize,
    pub(crate) queries: usize,
    pub(crate) checks: usize,
}

/// How long each call of an interval took, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<f64>);

impl Recorder {
    /// Notes an acknowledged request, and the time from its first attempt to its acknowledgement.
    pub(crate) fn posted(&self, samples: usize, elapsed: Duration) {
        let mut state = self.lock();
        state.totals.samples += samples;
        state.totals.requests += 1;
        state.posts.add(elapsed);
    }

    pub(crate) fn erased(&self, samples: usize) {
        let mut state = self.lock();
        state.totals.erased += samples;
        state.totals.erasures += 1;
    }

    /// Notes a query of 24 hours.
    pub(crate) fn queried(&self, elapsed: Duration) {
        let mut state = self.lock();
        state.totals.queries += 1;
        state.queries.add(elapsed);
    }

    /// Notes that a user was compared with the oracle.
    pub(crate) fn checked(&self) {
        self.lock().totals.checks += 1;
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Ends the interval. Returns the latencies of its posts and of its queries.
    pub(crate) fn take_latencies(&self) -> (Latencies, Latencies) {
        let mut state = self.lock();
        (std::mem::take(&mut state.posts), std::mem::take(&mut state.queries))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latencies {
    fn add(&mut self, elapsed: Duration) {
        self.0.push(elapsed.as_secs_f64() * 1e3);
    }

    /// Returns the time that this percentage of the calls did not exceed, or `None` if there were no calls.
    pub(crate) fn percentile(&self, percent: usize) -> Option<f64> {
        let value = percentile(self.0.iter().copied(), percent);
        value.is_finite().then_some(value)
    }
}
