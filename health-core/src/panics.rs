//! Background tasks go on after a panic, so that a bug does not leave a handle that looks alive and does half of its work.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::sleep;

/// The pause after a panic. A task that panics each time then takes little, and its lines do not fill the log.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);

/// Runs the work of a background task. If it panics, logs that, and returns true after a pause: the task has to start again.
pub(crate) async fn has_panicked(task: &'static str, work: impl Future<Output = ()>) -> bool {
    if AssertUnwindSafe(work).catch_unwind().await.is_ok() {
        return false;
    }
    tracing::error!(task, "a background task panicked, which is a bug; it starts again");
    sleep(PAUSE_AFTER_PANIC).await;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_starts_again_until_it_ends() {
        let mut runs = 0;
        loop {
            runs += 1;
            let work = async {
                assert!(runs >= 3, "a bug");
            };
            if !has_panicked("test", work).await {
                break;
            }
        }
        assert_eq!(runs, 3);
    }
}
