//! Background tasks go on after a panic, so that a bug does not leave a handle that looks alive and does half of its
//! work. Tasks that a caller waits for pass their panic on to the caller.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{task::JoinHandle, time::sleep};

/// The pause after a panic. A task that panics each time then takes little, and its lines do not fill the log.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);

/// Runs the work of a background task. If it panics, logs that, and returns true after a pause: the task has to start
/// again.
pub(crate) async fn has_panicked(task: &'static str, work: impl Future<Output = ()>) -> bool {
    if AssertUnwindSafe(work).catch_unwind().await.is_ok() {
        return false;
    }
    tracing::error!(task, "a background task panicked, which is a bug; it starts again");
    sleep(PAUSE_AFTER_PANIC).await;
    true
}

/// Waits for the outcome of a task. If the task panicked, the caller panics too: to the caller it is all one piece of
/// work.
pub(crate) async fn outcome_of<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Nothing aborts the task. The runtime is shutting down, and then nothing polls this future any more.
            Err(_) => pending().await,
        },
    }
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

    #[tokio::test]
    #[should_panic(expected = "a bug")]
    async fn the_panic_of_a_task_reaches_its_caller() {
        outcome_of(tokio::spawn(async { panic!("a bug") })).await;
    }
}
