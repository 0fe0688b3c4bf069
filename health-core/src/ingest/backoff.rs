//! The pauses between the attempts of a writer.

use std::time::Duration;

use tokio::time::sleep;

/// The pause before the second attempt: about the time of a small transaction.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause. It is also the longest time that a writer sleeps after the database is back.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Pauses that double from attempt to attempt.
pub(crate) struct Backoff {
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    /// Sleeps before the next attempt.
    pub(crate) async fn wait(&mut self) {
        sleep(self.next()).await;
    }

    /// Returns the pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        pause
    }
}
