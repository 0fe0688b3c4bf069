//! Sealing: boiling samples down once they are old enough, and again when they change.
//!
//! Two lines divide time. Writers mark what they change behind `threshold`. Behind `sealed_before` every slice with samples
//! has its summary, or is marked. A step either moves the threshold, summarises a piece of what lies between the two, or
//! takes away some marks and summarises their slices again. Each is one short transaction under a lock that rollers and
//! erasers share, so any number of servers may do it.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;

use crate::{
    grain::Grain,
    store::{
        connection::Session,
        failure::Failure,
        marks,
        micros::Micros,
        summarise::{self, UserSpan},
    },
};

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was done, and there may be more.
    Worked,
    /// Another server is at it.
    Busy,
    /// There is nothing to do for now.
    Idle,
}

/// How much a roller does in a step, and where it is in the marks.
#[derive(Debug)]
pub(crate) struct Roller {
    /// How old samples have to be before they are summarised.
    pub(crate) settle: Duration,
    /// How long a epoch of marks lasts at least: at its end writers wait for each other for a moment, and leave the marks
    /// of what they go on changing anew.
    pub(crate) epoch_min: Duration,
    /// From how many samples on a slice is stored in minutes as well.
    pub(crate) dense: u64,
    /// Marks taken away in the next step.
    marks: i64,
    /// The last mark seen: going round, no user waits for ever behind another.
    last_mark: (i64, i64),
}

/// Users whose samples one step may summarise.
const USERS_A_STEP: i64 = 1_000;

/// Samples that one step reads, unless a single slice holds more.
const SAMPLES_A_STEP: i64 = 100_000;

/// Marks taken away by one step: so many that a step stays short, found by trying.
const MARKS_A_STEP: std::ops::RangeInclusive<i64> = 16..=4_096;

/// How long a step should take. It holds locks that late samples of the same slices wait for.
const STEP_TARGET: Duration = Duration::from_millis(100);

/// See [`Roller::epoch_min`].
const EPOCH_MIN: Duration = Duration::from_secs(5);

/// See [`Roller::dense`]. A part of a slice with fewer is read sample by sample within a tenth of a millisecond; of more, the
/// minutes take at most a tenth of the room that the samples take.
const DENSE_SAMPLES: u64 = 240;

/// The lock of rollers and erasers. Whoever erases waits for it; a roller comes again later.
const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock(hashtext('health rollers'))";

pub(crate) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('health rollers'))";

/// All times are PostgreSQL's, the one clock that all servers share.
const STATE: &str = "SELECT sealed_before, threshold, next_user, next_slice, \
     date_bin('15 minutes', clock_timestamp() - make_interval(secs => $1), '2000-01-01T00:00:00Z'), \
     epoch, clock_timestamp() >= epoch_since + make_interval(secs => $2) FROM health_sealing";

/// Writers wait behind this lock while a long transaction of one of them holds it up, so not for long.
const SHORT_WAIT: &str = "SET LOCAL lock_timeout = '1s'";

const MOVE_THRESHOLD: &str = "UPDATE health_sealing SET threshold = $1, next_user = 0, next_slice = sealed_before";

const MOVE_ON: &str = "UPDATE health_sealing SET next_user = $1, next_slice = $2";

const SEALED: &str = "UPDATE health_sealing SET sealed_before = threshold";

const NEXT_EPOCH: &str = "UPDATE health_sealing SET epoch = epoch + 1, epoch_since = clock_timestamp()";

const ANY_MARK: &str = "SELECT EXISTS (SELECT FROM health_dirty)";

/// Walks from user to user by one probe of the key each: there is no table of users.
const USERS: &str = "WITH RECURSIVE walk (user_id) AS ( \
     (SELECT user_id FROM health_metrics WHERE user_id >= $1 ORDER BY user_id LIMIT 1) \
     UNION ALL SELECT (SELECT m.user_id FROM health_metrics m WHERE m.user_id > walk.user_id ORDER BY m.user_id LIMIT 1) \
     FROM walk WHERE walk.user_id IS NOT NULL) \
     SELECT user_id FROM walk WHERE user_id IS NOT NULL LIMIT $2";

/// Marks of epochs that are over, see [`marks`]. By `ctid`, since a join could be planned the wrong way round while the
/// table looks empty; nobody else takes marks away meanwhile, so they stay where they are.
const TAKE_MARKS: &str = "DELETE FROM health_dirty WHERE ctid = ANY (ARRAY(SELECT ctid FROM health_dirty \
     WHERE (user_id, slice) > ($1, $2) AND epoch < $4 ORDER BY user_id, slice LIMIT $3)) RETURNING user_id, slice";

/// Counting stops where it would take long.
const LAG: &str = "SELECT extract(epoch FROM clock_timestamp() - sealed_before)::bigint, \
     (SELECT count(*) FROM (SELECT DISTINCT user_id, slice FROM (SELECT user_id, slice FROM health_dirty LIMIT 100000) AS marks) \
     AS slices) FROM health_sealing";

/// How far behind the samples the summaries are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Seconds since the end of the last slice that is summarised.
    pub(crate) seconds: u64,
    /// Slices that wait to be summarised again.
    pub(crate) dirty_slices: u64,
}

/// Where the two lines stand, and where the threshold could.
struct State {
    sealed_before: i64,
    threshold: i64,
    next_user: i64,
    next_slice: i64,
    due: i64,
    epoch: i64,
    /// The epoch has lasted long enough.
    epoch_due: bool,
}

impl Roller {
    /// A roller that leaves samples alone until they are so old.
    pub(crate) fn new(settle: Duration) -> Self {
        Self {
            settle,
            epoch_min: EPOCH_MIN,
            dense: DENSE_SAMPLES,
            marks: 64,
            last_mark: (0, 0),
        }
    }

    /// Does a piece of what is to be done, in one transaction.
    pub(crate) async fn step(&mut self, session: &mut Session) -> Result<Step, Failure> {
        session.client().batch_execute("BEGIN").await?;
        let step = self.inside(session).await;
        if step.is_err() {
            // Should this fail too, the connection is at its end and takes the transaction with it.
            let _ = session.client().batch_execute("ROLLBACK").await;
            return step;
        }
        session.client().batch_execute("COMMIT").await?;
        step
    }

    async fn inside(&mut self, session: &mut Session) -> Result<Step, Failure> {
        let try_lock = session.prepare(TRY_LOCK).await?;
        if !session.client().query_one(&try_lock, &[]).await?.get::<_, bool>(0) {
            return Ok(Step::Busy);
        }
        let state = self.state(session).await?;
        if state.sealed_before < state.threshold {
            return self.seal(session, &state).await.map(|()| Step::Worked);
        }
        if state.threshold < state.due && move_threshold(session, state.due).await? {
            return Ok(Step::Worked);
        }
        self.mend(session, &state).await
    }

    async fn state(&self, session: &mut Session) -> Result<State, Failure> {
        let statement = session.prepare(STATE).await?;
        let row = session
            .client()
            .query_one(&statement, &[&self.settle.as_secs_f64(), &self.epoch_min.as_secs_f64()])
            .await?;
        let time = |column| row.get::<_, Micros>(column).0;
        Ok(State {
            sealed_before: time(0),
            threshold: time(1),
            next_user: row.get(2),
            next_slice: time(3),
            due: time(4),
            epoch: row.get(5),
            epoch_due: row.get(6),
        })
    }

    /// Summarises the next piece of what lies between the two lines.
    async fn seal(&self, session: &mut Session, state: &State) -> Result<(), Failure> {
        let statement = session.prepare(USERS).await?;
        let rows = session
            .client()
            .query(&statement, &[&state.next_user, &USERS_A_STEP])
            .await?;
        let users: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let Some(last_user) = users.last().copied() else {
            let statement = session.prepare(SEALED).await?;
            session.client().execute(&statement, &[]).await?;
            return Ok(());
        };
        let span = |user| UserSpan {
            user,
            from: if user == state.next_user {
                state.next_slice
            } else {
                state.sealed_before
            },
            to: state.threshold,
        };
        let mut spans: Vec<_> = users.into_iter().map(span).collect();
        let mut piece = summarise::samples(session, &spans, Some(SAMPLES_A_STEP), self.dense).await?;
        let (next_user, next_slice) = match piece.stopped_at {
            None => (last_user.saturating_add(1), state.sealed_before),
            Some((place, slice)) => {
                spans.truncate(place + 1);
                let cut = &mut spans[place];
                cut.to = slice;
                if place == 0 && slice == cut.from {
                    // Not even one slice was whole: that one is read to its end, however much it holds.
                    cut.to += Grain::Slice.micros();
                    piece = summarise::samples(session, &spans, None, self.dense).await?;
                }
                (spans[place].user, spans[place].to)
            }
        };
        piece.store(session).await?;
        summarise::coarser(session, &spans, |span| span.to).await?;
        let statement = session.prepare(MOVE_ON).await?;
        session
            .client()
            .execute(&statement, &[&next_user, &Micros(next_slice)])
            .await?;
        Ok(())
    }

    /// Summarises slices again that were marked.
    async fn mend(&mut self, session: &mut Session, state: &State) -> Result<Step, Failure> {
        let began = Instant::now();
        let statement = session.prepare(TAKE_MARKS).await?;
        let (user, slice) = self.last_mark;
        let rows = session
            .client()
            .query(&statement, &[&user, &Micros(slice), &self.marks, &state.epoch])
            .await?;
        let mut marks: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(0), row.get::<_, Micros>(1).0)).collect();
        if marks.is_empty() {
            let from_the_start = std::mem::take(&mut self.last_mark) == (0, 0);
            let more = !from_the_start || (state.epoch_due && any_mark(session).await? && end_epoch(session).await?);
            return Ok(if more { Step::Worked } else { Step::Idle });
        }
        marks.sort_unstable();
        marks.dedup();
        self.last_mark = marks.last().copied().unwrap_or_default();

        let mut spans: Vec<UserSpan> = Vec::new();
        for (user, slice) in marks {
            match spans.last_mut() {
                Some(last) if last.user == user && last.to == slice => last.to += Grain::Slice.micros(),
                _ => spans.push(UserSpan {
                    user,
                    from: slice,
                    to: slice + Grain::Slice.micros(),
                }),
            }
        }
        // A later statement than the end of the epoch: it sees all that was written under these marks.
        let piece = summarise::samples(session, &spans, None, self.dense).await?;
        piece.store(session).await?;
        summarise::coarser(session, &spans, |_| state.sealed_before).await?;

        let (least, most) = (*MARKS_A_STEP.start(), *MARKS_A_STEP.end());
        self.marks = match began.elapsed() {
            short if short < STEP_TARGET / 2 => most.min(self.marks * 2),
            long if long > STEP_TARGET * 2 => least.max(self.marks / 2),
            _ => self.marks,
        };
        Ok(Step::Worked)
    }
}

/// How far behind the summaries are; readers make up for it from the samples.
pub(crate) async fn lag(session: &mut Session) -> Result<Lag, Failure> {
    let statement = session.prepare(LAG).await?;
    let row = session.client().query_one(&statement, &[]).await?;
    let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    Ok(Lag {
        seconds: count(0),
        dirty_slices: count(1),
    })
}

/// False where a writer takes too long.
async fn move_threshold(session: &mut Session, due: i64) -> Result<bool, Failure> {
    let alone = alone(session).await?;
    if alone {
        let statement = session.prepare(MOVE_THRESHOLD).await?;
        session.client().execute(&statement, &[&Micros(due)]).await?;
    }
    Ok(alone)
}

async fn any_mark(session: &mut Session) -> Result<bool, Failure> {
    let statement = session.prepare(ANY_MARK).await?;
    Ok(session.client().query_one(&statement, &[]).await?.get(0))
}

/// Lets the marks there are be taken, once committed. False where a writer takes too long.
pub(crate) async fn end_epoch(session: &mut Session) -> Result<bool, Failure> {
    let alone = alone(session).await?;
    if alone {
        let statement = session.prepare(NEXT_EPOCH).await?;
        session.client().execute(&statement, &[]).await?;
    }
    Ok(alone)
}

/// Waits for the writers that have not seen what is about to change. False where one of them takes too long.
async fn alone(session: &mut Session) -> Result<bool, Failure> {
    let client = session.client();
    client.batch_execute("SAVEPOINT alone").await?;
    match client
        .batch_execute(&format!("{SHORT_WAIT}; {}", marks::LOCK_ALONE))
        .await
    {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            client.batch_execute("ROLLBACK TO alone").await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
