//! The background task that erases samples that are older than the retention, see [`Limits::retain`].
//!
//! A run walks through all users, and erases what is too old by the same steps as any other erasure. So summaries are
//! right at any moment, and the feed says what was erased. Every server runs this task; a lock in the database lets one
//! work at a time.
//!
//! [`Limits::retain`]: crate::Limits::retain

mod clock;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use self::clock::Clock;
use crate::{
    config::Config,
    counters::Counters,
    erasure::Erasure,
    error::{Error, NotWritableReason},
    live::handover::Handover,
    range::TimeRange,
    sample::{Sample, UserId},
    store::{
        commit_log::erasures::ErasureCommit,
        connection::Session,
        erase::Steps,
        retention::{clock, try_lock, users_after},
    },
    time::format_timestamp,
};

/// The shortest and the longest pause between two runs. Between them it is a hundredth of the retention, so each user's
/// samples are erased in at most a hundred portions, and none is kept for more than a day longer.
const PAUSE_MIN: Duration = Duration::from_mins(15);
const PAUSE_MAX: Duration = Duration::from_hours(24);
const PORTIONS: u32 = 100;

/// The pause if a run could not be made: another server is at work, or the database is out of reach.
const RETRY_PAUSE: Duration = Duration::from_mins(1);

/// The rest after a step while samples are being written, in multiples of the step's time, as for the roller.
const REST_PER_WORK: u32 = 9;

/// The longest rest after a step, so that a slow step does not stop the run for long.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The task.
#[derive(Clone)]
pub(crate) struct Retention {
    config: Config,
    retain: Duration,
    handover: Handover,
    counters: Arc<Counters>,
    closing: watch::Receiver<bool>,
    clock: Clock,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// Everything that was too old is erased.
    Done,
    /// It was not the time for a run, or the run was interrupted: try again soon.
    NotNow,
    /// The clock has jumped ahead.
    ClockJumped,
}

/// What a run has erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Erased {
    pub(crate) users: u64,
    pub(crate) samples: u64,
}

impl Retention {
    pub(crate) fn new(
        config: Config,
        retain: Duration,
        handover: Handover,
        counters: Arc<Counters>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            config,
            retain,
            handover,
            counters,
            closing,
            clock: Clock::default(),
        }
    }

    /// Makes one run after the other until the handle is closed or dropped.
    pub(crate) async fn run(mut self) {
        while !self.is_closing() {
            let pause = match self.erase_old().await {
                Ok(Run::Done | Run::ClockJumped) => pause_between_runs(self.retain),
                // The log says already that nothing can be changed.
                Ok(Run::NotNow)
                | Err(Error::NotWritable(NotWritableReason::ReadOnly | NotWritableReason::OutdatedProgram { .. })) => {
                    RETRY_PAUSE
                }
                Err(error) => {
                    let error = error.chain();
                    tracing::warn!(
                        error,
                        "samples that are older than the retention cannot be erased, trying again"
                    );
                    RETRY_PAUSE
                }
            };
            self.pause(pause).await;
        }
    }

    /// Erases what is too old now.
    pub(crate) async fn erase_old(&mut self) -> Result<Run, Error> {
        // Every other task matters more than one that has time until tomorrow.
        if self.counters.is_read_only() || self.config.sessions.are_scarce() {
            return Ok(Run::NotNow);
        }
        // A session of its own: it ends with the run, and the lock with it.
        let mut session = Session::roller(&self.config).await?;
        if !try_lock(&mut session).await? {
            return Ok(Run::NotNow);
        }
        let now = Utc::now().min(clock(&mut session).await?);
        if let Some(jump) = self.clock.jump(now, Instant::now()) {
            tracing::warn!(
                ahead_seconds = jump.num_seconds(),
                "the clock has jumped ahead, so this run of the retention erases nothing. Check the clock: if it is right, \
                 nothing has to be done, and the next run erases what is too old"
            );
            return Ok(Run::ClockJumped);
        }
        let Some(before) = now.checked_sub_signed(chrono::TimeDelta::from_std(self.retain).unwrap_or_default()) else {
            return Ok(Run::Done);
        };
        let mut erased = Erased::default();
        let run = self.erase_before(&mut session, before, &mut erased).await;
        // The metrics change before the audit line is written, so a reader of the line finds the run in them.
        if matches!(run, Ok(Run::Done)) {
            self.counters.note_retention_run(Utc::now());
        }
        if erased.samples > 0 {
            let Erased { users, samples } = erased;
            let before = format_timestamp(before);
            tracing::info!(
                target: "audit", action = "erase", who = "retention", users, samples, before,
                "erased samples that are older than the retention"
            );
        }
        run
    }

    /// Erases all samples before a time, and counts in `erased` what it has erased, also if it fails.
    pub(crate) async fn erase_before(
        &mut self,
        session: &mut Session,
        before: DateTime<Utc>,
        erased: &mut Erased,
    ) -> Result<Run, Error> {
        // No sample is that old.
        let Ok(range) = TimeRange::new(Sample::EARLIEST, before) else {
            return Ok(Run::Done);
        };
        let mut after = 0;
        loop {
            let page = users_after(session, after, before).await?;
            for user in page.with_older_samples {
                let samples = erased.samples;
                let run = self.erase_of_user(session, user, range, &mut erased.samples).await;
                erased.users += u64::from(erased.samples > samples);
                if run? == Run::NotNow {
                    return Ok(Run::NotNow);
                }
            }
            match page.last {
                Some(last) => after = last,
                None => return Ok(Run::Done),
            }
        }
    }

    async fn erase_of_user(
        &mut self,
        session: &mut Session,
        user: UserId,
        range: TimeRange,
        erased: &mut u64,
    ) -> Result<Run, Error> {
        let (handover, counters) = (self.handover.clone(), Arc::clone(&self.counters));
        let on_commit = move |commit: ErasureCommit| {
            counters.count_erasure(commit.samples);
            counters.count_retention(commit.samples);
            handover.hand_over_erasure(commit);
        };
        let mut steps = Steps::new(Erasure::of_range(user, range, None));
        loop {
            let (began, batches) = (Instant::now(), self.counters.batches());
            match steps.next(session, &on_commit).await? {
                Some(samples) => *erased += samples,
                None => return Ok(Run::Done),
            }
            // Writers come first. While none writes, there is nothing to wait for.
            if self.counters.batches() != batches {
                self.pause(LONGEST_REST.min(began.elapsed() * REST_PER_WORK)).await;
            }
            if self.is_closing() || self.config.sessions.are_scarce() {
                return Ok(Run::NotNow);
            }
        }
    }

    fn is_closing(&self) -> bool {
        // The channel is closed if the handle was dropped.
        *self.closing.borrow() || self.closing.has_changed().is_err()
    }

    /// Waits for a time, or until the handle is closed or dropped.
    async fn pause(&mut self, time: Duration) {
        let _ = timeout(time, self.closing.wait_for(|closing| *closing)).await;
    }
}

/// Returns the pause between two runs.
fn pause_between_runs(retain: Duration) -> Duration {
    (retain / PORTIONS).clamp(PAUSE_MIN, PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_a_hundredth_of_the_retention_apart_and_at_most_a_day() {
        const DAY: Duration = Duration::from_hours(24);
        for (retain, pause) in [
            (DAY, PAUSE_MIN),
            (DAY * 50, Duration::from_hours(12)),
            (DAY * 730, PAUSE_MAX),
        ] {
            assert_eq!(pause_between_runs(retain), pause, "{retain:?}");
        }
    }
}
