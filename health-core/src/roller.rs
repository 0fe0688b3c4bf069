//! The background task that keeps summaries up to date.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    config::Config,
    counters::Counters,
    error::{Error, NotWritableReason},
    store::{
        connection::Session,
        readers::{Readers, give_back},
        rollup::{self, Roller, Step},
        sealing_lag,
    },
};

/// The pause after a step that found nothing to do. It delays the summaries of late samples by as much. A step with
/// nothing to do takes about a millisecond.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// The pause after a step that found dirty slices that wait for the end of their epoch.
const WAITING_PAUSE: Duration = Duration::from_millis(250);

/// The rest after a step while samples are being written, in multiples of the step's time: the roller takes at most
/// a tenth of one core then.
const REST_PER_WORK: u32 = 9;

/// The longest rest after a step, so that a slow step does not stop the roller for long.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The pause after an error, which is usually a database out of reach. Answers stay exact without new summaries.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(5);

/// How often the roller measures the lag: more often than metrics are usually collected (every 15 to 60 seconds).
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Runs steps until the handle is closed or dropped. Each server runs this task; a lock in the database lets one
/// work at a time.
pub(crate) async fn run(config: Config, readers: Readers, counters: Arc<Counters>, mut closing: watch::Receiver<bool>) {
    let mut roller = Roller::new(config.limits.settle, Arc::clone(readers.awaited_users()));
    let mut session = None;
    let mut measured = None;
    let mut need = None;
    while !*closing.borrow() {
        let (began, batches) = (Instant::now(), counters.batches());
        roller.batches = batches;
        if session.is_some() {
            need = None;
        }
        let pause = match step(&config, &mut roller, &mut session, &counters, &mut measured).await {
            Ok(Step::Worked) if counters.batches() == batches && !config.sessions.are_scarce() => continue,
            // Writers come first. Dirty slices make readers a little slower until they are summarised again, but a
            // roller at full speed would take a whole core from the writers.
            Ok(Step::Worked) => LONGEST_REST.min(began.elapsed() * REST_PER_WORK),
            Ok(Step::Waiting) => WAITING_PAUSE,
            Ok(Step::Busy | Step::Idle) => IDLE_PAUSE,
            Err(Error::NotWritable(NotWritableReason::ReadOnly)) => {
                counters.note_writable(false);
                session = None;
                PAUSE_AFTER_ERROR
            }
            // Each refused write says it.
            Err(Error::NotWritable(NotWritableReason::OutdatedProgram { .. })) => PAUSE_AFTER_ERROR,
            Err(error) if session.is_none() && error.is_too_many_connections() => {
                if need.is_none() {
                    let error = error.chain();
                    tracing::warn!(error, "the summaries cannot be updated, trying again");
                }
                need.get_or_insert_with(|| config.sessions.need());
                give_back(&readers).await;
                PAUSE_AFTER_ERROR
            }
            Err(error) => {
                tracing::warn!(
                    error = error.chain(),
                    "the summaries could not be updated, trying again"
                );
                session = None;
                PAUSE_AFTER_ERROR
            }
        };
        // Every other task matters more: answers are exact without new summaries.
        let pause = if session.is_some() && config.sessions.are_scarce() {
            session = None;
            PAUSE_AFTER_ERROR
        } else {
            pause
        };
        // The wait also ends if the handle was dropped, which closes the channel.
        if timeout(pause, closing.wait_for(|closing| *closing)).await.is_ok() {
            return;
        }
    }
}

/// Runs one step, over a connection that it opens if there is none. Measures the lag if it is time.
async fn step(
    config: &Config,
    roller: &mut Roller,
    session: &mut Option<Session>,
    counters: &Counters,
    measured: &mut Option<(Instant, Step)>,
) -> Result<Step, Error> {
    let session = match session {
        Some(session) => session,
        None => session.insert(Session::roller(config).await?),
    };
    if counters.is_read_only() {
        if rollup::is_read_only(session).await? {
            return Err(Error::NotWritable(NotWritableReason::ReadOnly));
        }
        counters.note_writable(true);
    }
    let step = roller.step(session).await?;
    // The roller also measures when it has caught up, so that the metric does not show the old lag for seconds more.
    let has_caught_up = |before: Step| before != Step::Idle && step == Step::Idle;
    if measured.is_none_or(|(at, before)| at.elapsed() > MEASURE_EVERY || has_caught_up(before)) {
        counters.set_sealing_lag(sealing_lag::lag(session).await?);
        *measured = Some((Instant::now(), step));
    }
    Ok(step)
}
