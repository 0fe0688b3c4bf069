//! The background task that keeps summaries up to date.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    config::Config,
    counters::Counters,
    error::Error,
    store::{
        connection::{Session, classify},
        rollup::{self, Roller, Step},
    },
};

/// The pause when there is nothing to do: a late sample is in the summaries after that long.
const PAUSE: Duration = Duration::from_secs(2);

/// While samples are being written, the roller rests so many times as long as it worked.
const RESTS_A_STEP: u32 = 9;

/// And at most this long.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The pause when the database is out of reach.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(5);

/// How often the lag is measured, for whoever exports it.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Works off what there is to summarise until the handle is closed or gone. Every server runs one; they take turns.
pub(crate) async fn run(config: Config, counters: Arc<Counters>, mut closing: watch::Receiver<bool>) {
    let mut roller = Roller::new(config.limits.settle);
    let mut session = None;
    let mut measured = None;
    while !*closing.borrow() {
        let (began, batches) = (Instant::now(), counters.batches());
        let pause = match step(&config, &mut roller, &mut session, &counters, &mut measured).await {
            Ok(Step::Worked) if counters.batches() == batches => continue,
            // Whoever writes goes first: late samples cost readers a little until their slices are summarised again,
            // but a roller at full speed would cost writers a core.
            Ok(Step::Worked) => LONGEST_REST.min(began.elapsed() * RESTS_A_STEP),
            Ok(Step::Busy | Step::Idle) => PAUSE,
            Err(error) => {
                tracing::warn!(error = error.chain(), "samples could not be summarised, trying again");
                session = None;
                PAUSE_AFTER_ERROR
            }
        };
        // A closed channel is a handle that is gone.
        if timeout(pause, closing.wait_for(|closing| *closing)).await.is_ok() {
            return;
        }
    }
}

async fn step(
    config: &Config,
    roller: &mut Roller,
    session: &mut Option<Session>,
    counters: &Counters,
    measured: &mut Option<(Instant, Step)>,
) -> Result<Step, Error> {
    let session = match session {
        Some(session) => session,
        None => session.insert(Session::writer(config).await.map_err(classify)?),
    };
    let step = roller.step(session).await?;
    // At once as well where it has caught up, so that nobody is told for seconds of a lag that is no more.
    let caught_up = |before: Step| before == Step::Worked && step != Step::Worked;
    if measured.is_none_or(|(at, before)| at.elapsed() > MEASURE_EVERY || caught_up(before)) {
        counters.summaries_are_behind(rollup::lag(session).await?);
        *measured = Some((Instant::now(), step));
    }
    Ok(step)
}
