//! How long an import waits for its server, and the pauses between its attempts.

use std::time::Duration;

/// How long the first batch waits for a server. A wrong URL should be reported soon.
pub(super) const FIRST_PATIENCE: Duration = Duration::from_secs(10);

/// How long later batches wait. A server that is restarted or whose database recovers is back within it.
pub(super) const PATIENCE: Duration = Duration::from_mins(5);

/// The pauses between attempts: they double from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The pauses between the attempts of one batch.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(PAUSE_MIN)
    }

    /// Returns the pause before the next attempt, or `None` if `elapsed` is all of the patience. The last attempt is at
    /// its end, so that an import waits as long as it says. `retry_after` is what the server asks for.
    pub(super) fn next(
        &mut self,
        elapsed: Duration,
        patience: Duration,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let left = patience.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        let pause = retry_after.unwrap_or_default().max(self.0).min(left);
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_is_at_the_end_of_the_patience() {
        for (patience, retry_after) in [
            (FIRST_PATIENCE, None),
            (PATIENCE, None),
            (PATIENCE, Some(Duration::from_mins(1))),
        ] {
            let (mut pauses, mut elapsed) = (Pauses::new(), Duration::ZERO);
            while let Some(pause) = pauses.next(elapsed, patience, retry_after) {
                assert!(pause >= PAUSE_MIN || elapsed + pause == patience);
                elapsed += pause;
            }
            assert_eq!(elapsed, patience);
        }
    }
}
