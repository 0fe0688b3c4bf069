//! Erases samples: all of a user, or those of a range.
//!
//! An erasure takes several transactions, so that none is long, however many samples it erases. Each of them, called a
//! step, erases the samples of a span of time, updates the summaries of that span, and adds its own record to the
//! commit log. So at any moment, also after a crash, the feed has told which samples are erased, and answers are exact
//! over the samples that are left.
//!
//! # The order of the feed
//!
//! A client that applies the events of a user in their order must have exactly the stored samples afterwards. So a step
//! must erase every sample in the range that was committed before its record, and no later one. The difficulty is a
//! writer that commits while the eraser deletes: the eraser's statement does not see these samples, but their record
//! comes before that of the erasure. And writers must not wait while the eraser deletes, because that takes long. So a
//! step deletes twice: first without a lock, which finds nearly everything, and again under the commit lock, under
//! which no other transaction commits.
//!
//! # Summaries
//!
//! The roller stores summaries and never deletes any: a minute or a slice that has lost all its samples would stay. So
//! the eraser deletes the summaries of what it touches, and makes those of the samples that are left, in the same
//! transaction. It holds the lock of the rollers, so none of them stores a summary of what is being deleted, and
//! neither the threshold nor the epoch changes. A sample that a writer commits meanwhile is in a dirty slice of the
//! current epoch, which stays.

use std::{sync::Arc, time::Duration};

use chrono::DateTime;
use tokio::time::sleep;
use tokio_postgres::{error::SqlState, types::ToSql};

use crate::{
    erasure::Erasure,
    error::Error,
    grain::Grain,
    range::TimeRange,
    sample::{Sample, Source, UserId},
    store::{
        commit_log::erasures::{ErasureAppend, ErasureCommit},
        connection::Session,
        error::StoreError,
        micros::Micros,
        prepared::{self, Rows},
        readers::{Readers, checkout},
        required_version, rollup,
        summarise::{self, UserTimeSpan},
        threshold,
        transaction::Transaction,
    },
};

/// The time limit of one statement, in place of the readers' statement timeout. A statement deletes at most
/// [`STEP_ROWS`] samples, or those of one slice, and may wait for a writer or for another eraser.
const STATEMENT_TIMEOUT: &str = "SET LOCAL statement_timeout = '2min'";

/// Finds where a step ends: at the time of the sample that is `$4` samples after `$2`. One range of the primary key.
const STEP_END: &str = "SELECT timestamp FROM health_metrics WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3 \
     ORDER BY timestamp OFFSET $4 LIMIT 1";

/// Removes dirty slices of past epochs. Those of the current epoch must stay: a writer may rely on one of them for
/// a sample that it has not committed yet.
const DELETE_DIRTY_SLICES: &str =
    "DELETE FROM health_dirty WHERE user_id = $1 AND epoch < (SELECT epoch FROM health_sealing)";

/// Tells whether to end the epoch; reads one entry of the index at most.
const ANY_DIRTY_SLICE: &str = "SELECT EXISTS (SELECT 1 FROM health_dirty WHERE user_id = $1)";

/// One range of the primary key.
const DELETE_SAMPLES: &str = "DELETE FROM health_metrics WHERE user_id = $1";

/// One range of the primary key. Other sources are left out while it is read.
const DELETE_RANGE: &str = "DELETE FROM health_metrics WHERE user_id = $1 AND timestamp >= $2 AND timestamp < $3 \
     AND ($4::text IS NULL OR source = $4)";

/// One range of the primary key, for all grains.
const DELETE_ROLLUPS: &str = "DELETE FROM health_rollups WHERE user_id = $1";

/// One range of the primary key for one grain.
const DELETE_ROLLUPS_OF_RANGE: &str =
    "DELETE FROM health_rollups WHERE user_id = $1 AND minutes = $2 AND start >= $3 AND start < $4";

/// Reads the end of the time that may have summaries.
const THRESHOLD: &str = "SELECT threshold FROM health_sealing";

/// Samples that a step reads and deletes: about 50 ms of work. Writers wait for the second deletion, which takes about
/// a tenth of it.
const STEP_ROWS: i64 = 10_000;

/// Samples that a step deletes within one slice that holds more than [`STEP_ROWS`]. More, because each step reads the
/// samples that are left in the slice to summarise them.
const DENSE_STEP_ROWS: i64 = 100_000;

/// Attempts of a step if PostgreSQL ends its transaction because of a deadlock, or if a writer has locked a row under
/// the commit lock. A second attempt nearly always succeeds, so the number is generous.
const ATTEMPTS_MAX: u32 = 20;

/// The longest pause before another attempt.
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(50);

/// A part of an erasure that one transaction does.
struct Step {
    erasure: Erasure,
    /// The last step of a whole user has a record also if it finds nothing any more.
    has_record: bool,
}

/// Erases samples and returns their number. Calls `on_commit` after each transaction that erased some.
///
/// A started erasure runs to its end, even if the caller drops the future.
pub(crate) async fn erase(
    readers: &Readers,
    erasure: Erasure,
    on_commit: impl Fn(ErasureCommit) + Send + Sync + 'static,
) -> Result<u64, Error> {
    let readers = readers.clone();
    let erasing = tokio::spawn(async move {
        let mut session = checkout(&readers).await?;
        let erased = erase_in_steps(&mut session, &erasure, STEP_ROWS, &on_commit).await;
        erased.map_err(|error| {
            let error = Error::from(error);
            session.retire_if_read_only(&error);
            error
        })
    });
    match erasing.await {
        Ok(erased) => erased,
        Err(stopped) => Err(Error::Unavailable(Arc::new(stopped))),
    }
}

/// Erases samples over a session, in steps of about `step_rows` samples. Returns their number.
pub(super) async fn erase_in_steps(
    session: &mut Session,
    erasure: &Erasure,
    step_rows: i64,
    on_commit: &(impl Fn(ErasureCommit) + Sync),
) -> Result<u64, StoreError> {
    let mut steps = Steps::of_size(erasure.clone(), step_rows);
    while steps.next(session, on_commit).await?.is_some() {}
    Ok(steps.erased)
}

/// An erasure that is done step by step. The caller may rest between two steps.
pub(crate) struct Steps {
    erasure: Erasure,
    step_rows: i64,
    /// Where the next step begins, and the end of the erasure; microseconds since 1970.
    from: i64,
    end: i64,
    erased: u64,
    is_done: bool,
}

impl Steps {
    pub(crate) fn new(erasure: Erasure) -> Self {
        Self::of_size(erasure, STEP_ROWS)
    }

    fn of_size(erasure: Erasure, step_rows: i64) -> Self {
        let (from, end) = match erasure.range() {
            Some(range) => (range.start().timestamp_micros(), range.end().timestamp_micros()),
            None => (Sample::EARLIEST.timestamp_micros(), i64::MAX),
        };
        Self {
            erasure,
            step_rows,
            from,
            end,
            erased: 0,
            is_done: false,
        }
    }

    /// Does the next step, and returns how many samples it has erased. `None`: there was none left to do.
    pub(crate) async fn next(
        &mut self,
        session: &mut Session,
        on_commit: &(impl Fn(ErasureCommit) + Sync),
    ) -> Result<Option<u64>, StoreError> {
        if self.is_done {
            return Ok(None);
        }
        let user = self.erasure.user_id();
        let step_end = step_end(session, user, self.from..self.end, self.step_rows).await?;
        let range_end = step_end.or_else(|| self.erasure.range().map(|_| self.end));
        let part = match range_end {
            Some(to) => Erasure::of_range(user, time_range(self.from, to)?, self.erasure.source().cloned()),
            None => Erasure::of_user(user),
        };
        let step = Step {
            has_record: part.is_whole_user() && self.erased > 0,
            erasure: part,
        };
        let erased = step.run_until_done(session, on_commit).await?;
        self.erased += erased;
        match step_end {
            Some(to) => self.from = to,
            None => self.is_done = true,
        }
        Ok(Some(erased))
    }
}

/// Returns where to end a step that begins at `range.start`; `None` if the rest is not too much for a step.
///
/// A step ends between two slices if it can, so that no slice is summarised twice.
async fn step_end(
    session: &mut Session,
    user: UserId,
    range: std::ops::Range<i64>,
    step_rows: i64,
) -> Result<Option<i64>, StoreError> {
    let Some(enough) = time_after(session, user, range.clone(), step_rows).await? else {
        return Ok(None);
    };
    let slice = Grain::Slice.floor(enough);
    if slice > range.start {
        return Ok(Some(slice));
    }
    let slice_end = Grain::Slice.end(range.start).min(range.end);
    let dense_rows = step_rows.saturating_mul(DENSE_STEP_ROWS / STEP_ROWS);
    let within = time_after(session, user, range.start..slice_end, dense_rows).await?;
    // Many sources may have samples at the same time.
    let end = within.map_or(slice_end, |at| at.max(range.start + 1));
    Ok(Some(end).filter(|end| *end < range.end))
}

/// Returns the time of the sample that is `rows` samples after the start of a range, if it lies in the range.
async fn time_after(
    session: &mut Session,
    user: UserId,
    range: std::ops::Range<i64>,
    rows: i64,
) -> Result<Option<i64>, StoreError> {
    let statement = session.prepare(STEP_END).await?;
    let (start, end) = (Micros(range.start), Micros(range.end));
    let params: [&(dyn ToSql + Sync); 4] = [&user.get(), &start, &end, &rows];
    let row = session.client().query_opt(&statement, &params).await?;
    Ok(row.map(|row| row.get::<_, Micros>(0).0))
}

fn time_range(from: i64, to: i64) -> Result<TimeRange, StoreError> {
    let time = DateTime::from_timestamp_micros;
    let range = time(from).zip(time(to)).map(|(from, to)| TimeRange::new(from, to));
    range.and_then(Result::ok).ok_or(StoreError::InvalidErasure)
}

impl Step {
    /// Runs the step, again if it met a deadlock or a locked row.
    async fn run_until_done(
        &self,
        session: &mut Session,
        on_commit: &(impl Fn(ErasureCommit) + Sync),
    ) -> Result<u64, StoreError> {
        let mut attempts = 1;
        loop {
            // A sample that is prepared cannot be deleted, and would come back.
            prepared::recover(session, Rows::Of(self.erasure.user_id())).await?;
            match self.run(session).await {
                Err(error) if is_about_other_session(&error) && attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    sleep(RETRY_PAUSE_MAX.mul_f64(fastrand::f64())).await;
                }
                Ok(Some(commit)) => {
                    let samples = commit.samples;
                    on_commit(commit);
                    return Ok(samples);
                }
                Ok(None) => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs the step once. Returns `None` if it has erased nothing.
    async fn run(&self, session: &mut Session) -> Result<Option<ErasureCommit>, StoreError> {
        let user = self.erasure.user_id();
        if self.erasure.is_whole_user() {
            // Ending the epoch makes writers wait until the transaction ends. So it has a short transaction of its own.
            let mut transaction = begin(session).await?;
            let any_dirty_slice = transaction.prepare(ANY_DIRTY_SLICE).await?;
            let row = transaction.client().query_one(&any_dirty_slice, &[&user.get()]).await?;
            if row.get(0) {
                threshold::end_epoch(&mut transaction).await?;
            }
            transaction.commit().await?;
        }

        let mut transaction = begin(session).await?;
        let deletion = Deletion::of(&self.erasure);
        let mut samples = execute(&mut transaction, deletion.sql(), &deletion.params()).await?;
        if self.erasure.is_whole_user() {
            execute(&mut transaction, DELETE_DIRTY_SLICES, &[&user.get()]).await?;
            execute(&mut transaction, DELETE_ROLLUPS, &[&user.get()]).await?;
        } else if samples > 0 {
            summarise_rest(&mut transaction, &self.erasure).await?;
        }
        if samples == 0 && !self.has_record {
            transaction.commit().await?;
            return Ok(None);
        }
        let mut append = ErasureAppend::new(&mut transaction, self.erasure.clone()).await?;
        let params = deletion.params();
        let (found, previous_writer_id) = append.append(&mut transaction, (deletion.sql(), &params)).await?;
        if found > 0 && !self.erasure.is_whole_user() {
            // Writers have committed some of the samples that were summarised.
            summarise_rest(&mut transaction, &self.erasure).await?;
        }
        samples += found;
        let warnings = transaction.client().warnings();
        transaction.commit().await?;
        prepared::recover_if_warned(session, Rows::Of(user), warnings).await?;
        Ok(Some(append.committed(previous_writer_id, samples)))
    }
}

/// The statement that deletes the samples of an erasure, and its parameters.
struct Deletion<'a> {
    user: i64,
    range: Option<(Micros, Micros)>,
    source: Option<&'a str>,
}

impl<'a> Deletion<'a> {
    fn of(erasure: &'a Erasure) -> Self {
        let micros = |range: TimeRange| {
            let (start, end) = (range.start().timestamp_micros(), range.end().timestamp_micros());
            (Micros(start), Micros(end))
        };
        Self {
            user: erasure.user_id().get(),
            range: erasure.range().map(micros),
            source: erasure.source().map(Source::as_str),
        }
    }

    fn sql(&self) -> &'static str {
        match self.range {
            Some(_) => DELETE_RANGE,
            None => DELETE_SAMPLES,
        }
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        match &self.range {
            Some((start, end)) => vec![&self.user, start, end, &self.source],
            None => vec![&self.user],
        }
    }
}

/// Deletes the summaries of the slices, hours and days that an erasure touches, and stores those of the samples that
/// are left.
///
/// Only time before the threshold has summaries, and the threshold stays while the lock of the rollers is held. Between
/// the two watermarks, this may store a summary that the roller has not made yet. It is replaced when the roller gets
/// there.
async fn summarise_rest(session: &mut Session, erasure: &Erasure) -> Result<(), StoreError> {
    let Some(range) = erasure.range() else { return Ok(()) };
    let user = erasure.user_id().get();
    let statement = session.prepare(THRESHOLD).await?;
    let threshold = session.client().query_one(&statement, &[]).await?.get::<_, Micros>(0).0;
    let span = UserTimeSpan {
        user,
        from: Grain::Slice.floor(range.start().timestamp_micros()),
        to: Grain::Slice.ceil(range.end().timestamp_micros()).min(threshold),
    };
    if span.from >= span.to {
        return Ok(());
    }
    for grain in [Grain::Minute, Grain::Slice, Grain::Hour, Grain::Day] {
        let (from, to) = (Micros(grain.floor(span.from)), Micros(span.to));
        execute(session, DELETE_ROLLUPS_OF_RANGE, &[&user, &grain.minutes(), &from, &to]).await?;
    }
    let spans = [span];
    let summaries = summarise::samples(session, &spans, None, rollup::DENSE_SAMPLES).await?;
    summaries.store(session).await?;
    summarise::coarser(session, &spans, |_| threshold).await
}

/// Begins a transaction with the lock of the rollers. The isolation level is explicit, because a role may have another
/// default: each statement needs a snapshot of its own.
async fn begin(session: &mut Session) -> Result<Transaction<'_>, StoreError> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {STATEMENT_TIMEOUT}; {}",
        rollup::LOCK
    );
    let mut transaction = Transaction::begin(session, &begin).await?;
    required_version::check_now(&mut transaction).await?;
    Ok(transaction)
}

async fn execute(session: &mut Session, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, StoreError> {
    let statement = session.prepare(sql).await?;
    Ok(session.client().execute(&statement, params).await?)
}

/// Returns whether a step failed because of what another session was doing at that moment.
fn is_about_other_session(error: &StoreError) -> bool {
    let codes = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
    match error {
        StoreError::Postgres(error) => error.code().is_some_and(|code| codes.contains(code)),
        StoreError::LeftPrepared => true,
        _ => false,
    }
}
