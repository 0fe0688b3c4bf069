//! Keeps summaries up to date: seals slices that are old enough, and resummarises dirty ones.
//!
//! Two watermarks divide time, see [`Watermarks`]:
//!
//! ```text
//!        summaries, or dirty          being sealed            samples only
//!  ─────────────────────────────┬──────────────────────┬─────────────────────────▶ time
//!                         sealed_before            threshold                  now
//! ```
//!
//! A step of the roller does one of three things: it moves the threshold forward, it seals some of the slices
//! between the two watermarks, or it removes some dirty slices and resummarises them. Each step is one short
//! transaction. It holds a lock that excludes other rollers and erasers, so any number of servers may run a roller.

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    grain::Grain,
    store::{
        awaited_users::AwaitedUsers,
        connection::Session,
        dirty_slices::{self, UserSlice},
        error::StoreError,
        micros::Micros,
        prepared::{self, Rows},
        required_version,
        summarise::{self, UserTimeSpan},
        tables::Tables,
        threshold::{end_epoch, move_threshold},
        transaction::Transaction,
        users,
    },
};

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The step did something, and there may be more to do.
    Worked,
    /// Another roller or an eraser holds the lock.
    Busy,
    /// Dirty slices wait for the end of their epoch.
    Waiting,
    /// There is nothing to do for now.
    Idle,
}

/// What a roller remembers between its steps.
#[derive(Debug)]
pub(crate) struct Roller {
    /// How old samples must be before they are summarised.
    pub(crate) settle: Duration,
    /// The shortest time that an epoch lasts. At its end writers wait for each other for a moment, and afterwards
    /// add the slices that they go on changing to `health_dirty` again.
    pub(crate) epoch_min: Duration,
    /// An epoch with many dirty slices ends earlier if no transaction was committed for this long.
    pub(crate) quiet_min: Duration,
    /// The number of samples from which a slice is stored in minutes as well.
    pub(crate) dense_samples: u64,
    /// The number of dirty slices that the next step removes.
    dirty_slices_a_step: i64,
    /// The last dirty slice that a step removed. The next step continues after it, so that every user gets a turn.
    last_slice: UserSlice,
    /// The epoch in which a step has found no dirty slice of an earlier one.
    searched_epoch: Option<i64>,
    /// Users whose dirty slices are summarised first.
    pub(crate) awaited_users: Arc<AwaitedUsers>,
    /// The last step summarised slices of such a user. The next one does not, so that every user gets a turn.
    was_for_awaited: bool,
    /// A transaction of this roller, or of one that has ended, may be incomplete on some nodes of a cluster.
    may_be_incomplete: bool,
    /// This step needed all transactions to be complete, and has found one that is not.
    found_incomplete: bool,
    /// The batches that this server has written. Those that changed nothing have no commit number.
    pub(crate) batches: u64,
    /// The newest commit number and the number of batches that a step has seen, and when they were new.
    last_activity: Option<((Option<i64>, u64), Instant)>,
}

/// Users that one sealing step reads, at most. It bounds the size of the array of users; usually [`SAMPLES_A_STEP`]
/// ends a step first.
const USERS_A_STEP_LOCAL: i64 = 1_000;

/// The same if the tables are distributed: each shard gets the arrays of all users.
const USERS_A_STEP: i64 = 32;

/// Samples that one sealing step reads, unless a single slice holds more: about [`STEP_TARGET`] of work.
const SAMPLES_A_STEP: i64 = 100_000;

/// Dirty slices that one step removes. The roller doubles or halves the number to stay near [`STEP_TARGET`].
const DIRTY_SLICES_A_STEP: RangeInclusive<i64> = 16..=4_096;

/// The number of dirty slices in the first step: low, since how much they hold is not known yet.
const DIRTY_SLICES_IN_FIRST_STEP: i64 = 64;

/// How long a step should take: erasers wait for its lock.
const STEP_TARGET: Duration = Duration::from_millis(100);

/// See [`Roller::epoch_min`]. Long enough that the end of an epoch costs writers little, short enough that a late
/// sample is in the summaries within seconds.
const EPOCH_MIN: Duration = Duration::from_secs(5);

/// See [`Roller::quiet_min`]. While writers are busy, they commit several times in this time.
const QUIET_MIN: Duration = Duration::from_millis(500);

/// The number of dirty slices that are many, see [`Roller::quiet_min`]. To answer a query that finds as many takes ten
/// times as long as with summaries.
const MANY_DIRTY_SLICES: i64 = 1_000;

/// See [`Roller::dense_samples`]. A reader reads a part of a slice with fewer samples within 0.1 ms. In a slice
/// with more, the minutes take at most a tenth of the space that the samples take.
pub(crate) const DENSE_SAMPLES: u64 = 240;

/// Takes the lock of rollers and erasers if it is free: a roller does not wait, it comes back later.
const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock(hashtext('health rollers'))";

/// Takes the same lock and waits for it, as erasers do.
pub(crate) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('health rollers'))";

/// Reads the state of sealing. All times come from PostgreSQL's clock, because all servers share it.
const STATE: &str = "SELECT sealed_before, threshold, next_user, next_slice, \
     date_bin('15 minutes', clock_timestamp() - make_interval(secs => $1), '2000-01-01T00:00:00Z'), \
     epoch, clock_timestamp() >= epoch_since + make_interval(secs => $2), \
     (SELECT number FROM health_commits ORDER BY number DESC LIMIT 1), required_version FROM health_sealing";

/// Notes where the next sealing step begins.
const SET_NEXT_SLICE: &str = "UPDATE health_sealing SET next_user = $1, next_slice = $2";

/// Notes that everything up to the threshold is sealed.
const MOVE_SEALED_BEFORE: &str = "UPDATE health_sealing SET sealed_before = threshold";

/// During a recovery every transaction is read-only.
const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only')::boolean";

/// The two watermarks, in microseconds since 1970, both multiples of a slice.
#[derive(Debug, Clone, Copy)]
struct Watermarks {
    /// Every earlier slice with samples has a summary, or is dirty.
    sealed_before: i64,
    /// A writer that changes a sample older than this adds its slice to `health_dirty`. Never before `sealed_before`.
    threshold: i64,
}

/// The row of `health_sealing`, compared with the present.
struct SealingState {
    watermarks: Watermarks,
    /// The next user to seal: the slices of users with lower ids are summarised up to the threshold.
    next_user: i64,
    /// The next slice of that user to seal: the user's earlier slices are summarised. It is the threshold if the user
    /// is done.
    next_slice: i64,
    /// The latest threshold that [`Roller::settle`] allows.
    due: i64,
    epoch: i64,
    /// The epoch has lasted for [`Roller::epoch_min`].
    epoch_is_due: bool,
    /// The newest commit number, if there is one in the table.
    newest_commit: Option<i64>,
}

impl SealingState {
    /// Returns the last user of whom all slices between the watermarks are summarised. There need not be a next id: the
    /// user may have the greatest.
    fn last_user_done(&self) -> i64 {
        if self.next_slice < self.watermarks.threshold {
            self.next_user.saturating_sub(1)
        } else {
            self.next_user
        }
    }
}

impl Roller {
    /// Makes a roller that summarises samples once they are as old as `settle`.
    pub(crate) fn new(settle: Duration, awaited_users: Arc<AwaitedUsers>) -> Self {
        Self {
            settle,
            epoch_min: EPOCH_MIN,
            quiet_min: QUIET_MIN,
            dense_samples: DENSE_SAMPLES,
            dirty_slices_a_step: DIRTY_SLICES_IN_FIRST_STEP,
            last_slice: UserSlice::default(),
            searched_epoch: None,
            awaited_users,
            was_for_awaited: false,
            may_be_incomplete: true,
            found_incomplete: false,
            batches: 0,
            last_activity: None,
        }
    }

    /// Does a part of the work, in one transaction.
    pub(crate) async fn step(&mut self, session: &mut Session) -> Result<Step, StoreError> {
        if std::mem::replace(&mut self.may_be_incomplete, true) {
            prepared::recover(session, Rows::OfAllUsers).await?;
        }
        self.found_incomplete = false;
        let warnings = session.client().warnings();
        let mut transaction = Transaction::begin(session, "BEGIN").await?;
        let step = self.step_within(&mut transaction).await?;
        transaction.commit().await?;
        self.may_be_incomplete = self.found_incomplete || session.client().warnings() != warnings;
        Ok(step)
    }

    async fn step_within(&mut self, session: &mut Session) -> Result<Step, StoreError> {
        let try_lock = session.prepare(TRY_LOCK).await?;
        if !session.client().query_one(&try_lock, &[]).await?.get::<_, bool>(0) {
            return Ok(Step::Busy);
        }
        let state = self.state(session).await?;
        let is_quiet = self.is_quiet(state.newest_commit);
        let Watermarks {
            sealed_before,
            threshold,
        } = state.watermarks;
        if sealed_before < threshold {
            self.seal(session, &state).await?;
            return Ok(Step::Worked);
        }
        if threshold < state.due {
            if move_threshold(session, state.due).await? {
                return Ok(Step::Worked);
            }
            self.found_incomplete = true;
        }
        self.resummarise(session, &state, is_quiet).await
    }

    /// Returns whether no server changed samples for [`Self::quiet_min`], and this server wrote nothing else.
    fn is_quiet(&mut self, newest_commit: Option<i64>) -> bool {
        let activity = (newest_commit, self.batches);
        match self.last_activity {
            Some((last, since)) if last == activity => since.elapsed() >= self.quiet_min,
            _ => {
                self.last_activity = Some((activity, Instant::now()));
                self.quiet_min.is_zero()
            }
        }
    }

    async fn state(&self, session: &mut Session) -> Result<SealingState, StoreError> {
        let statement = session.prepare(STATE).await?;
        let (settle, epoch_min) = (self.settle.as_secs_f64(), self.epoch_min.as_secs_f64());
        let row = session.client().query_one(&statement, &[&settle, &epoch_min]).await?;
        required_version::check(row.get(8))?;
        let time = |column| row.get::<_, Micros>(column).0;
        Ok(SealingState {
            watermarks: Watermarks {
                sealed_before: time(0),
                threshold: time(1),
            },
            next_user: row.get(2),
            next_slice: time(3),
            due: time(4),
            epoch: row.get(5),
            epoch_is_due: row.get(6),
            newest_commit: row.get(7),
        })
    }

    /// Seals some of the slices between the watermarks, and notes where the next step continues.
    async fn seal(&mut self, session: &mut Session, state: &SealingState) -> Result<(), StoreError> {
        let Watermarks {
            sealed_before,
            threshold,
        } = state.watermarks;
        let users_a_step = match session.tables() {
            Tables::Local => USERS_A_STEP_LOCAL,
            Tables::Distributed => USERS_A_STEP,
        };
        let users = users::ids_after(session, state.last_user_done(), users_a_step).await?;
        let Some(last_user) = users.last().copied() else {
            // Readers rely on the summaries from then on, so those of earlier steps must be visible.
            if !prepared::have_ended(session, Rows::OfAllUsers).await? {
                self.found_incomplete = true;
                return Ok(());
            }
            let statement = session.prepare(MOVE_SEALED_BEFORE).await?;
            session.client().execute(&statement, &[]).await?;
            return Ok(());
        };
        let span = |user| UserTimeSpan {
            user,
            from: if user == state.next_user {
                state.next_slice
            } else {
                sealed_before
            },
            to: threshold,
        };
        let mut spans: Vec<_> = users.into_iter().map(span).collect();
        let mut summaries = summarise::samples(session, &spans, Some(SAMPLES_A_STEP), self.dense_samples).await?;
        let (next_user, next_slice) = match summaries.stopped_at {
            None => (last_user, threshold),
            Some((index, slice)) => {
                spans.truncate(index + 1);
                let cut = &mut spans[index];
                cut.to = slice;
                if index == 0 && slice == cut.from {
                    // The first slice alone holds more samples than a step reads. Read it to its end.
                    cut.to += Grain::Slice.micros();
                    summaries = summarise::samples(session, &spans, None, self.dense_samples).await?;
                }
                (spans[index].user, spans[index].to)
            }
        };
        summaries.store(session).await?;
        summarise::coarser(session, &spans, |span| span.to).await?;
        let statement = session.prepare(SET_NEXT_SLICE).await?;
        let next_slice = Micros(next_slice);
        session.client().execute(&statement, &[&next_user, &next_slice]).await?;
        Ok(())
    }

    /// Removes some dirty slices of past epochs and summarises them again. If there is none, it may end the epoch.
    async fn resummarise(
        &mut self,
        session: &mut Session,
        state: &SealingState,
        is_quiet: bool,
    ) -> Result<Step, StoreError> {
        if self.searched_epoch != Some(state.epoch) {
            if self.resummarise_past_epochs(session, state).await? {
                return Ok(Step::Worked);
            }
            // No writer adds a row of a past epoch any more, and a search reads all rows of the current one.
            self.searched_epoch = Some(state.epoch);
        }
        let waiting = dirty_slices::count(session, MANY_DIRTY_SLICES).await?;
        // The end of an epoch costs writers time, but not while none writes.
        let ends = state.epoch_is_due || (is_quiet && waiting == MANY_DIRTY_SLICES);
        Ok(match waiting {
            0 => Step::Idle,
            _ if ends => {
                if end_epoch(session).await? {
                    Step::Worked
                } else {
                    self.found_incomplete = true;
                    Step::Waiting
                }
            }
            _ => Step::Waiting,
        })
    }

    /// Removes some dirty slices of past epochs and summarises them again. Returns false if there is none.
    async fn resummarise_past_epochs(
        &mut self,
        session: &mut Session,
        state: &SealingState,
    ) -> Result<bool, StoreError> {
        if self.resummarise_awaited(session, state).await? {
            return Ok(true);
        }
        let began = Instant::now();
        let slices = dirty_slices::remove(session, state.epoch, self.last_slice, self.dirty_slices_a_step).await?;
        let Some(last) = slices.last() else {
            // The next step begins at the first user again.
            return Ok(std::mem::take(&mut self.last_slice) != UserSlice::default());
        };
        self.last_slice = *last;
        self.summarise(session, state, &slices).await?;
        self.adapt(began.elapsed());
        Ok(true)
    }

    /// Removes some dirty slices of the user who has waited for the longest time, perhaps with some of the next users,
    /// and summarises them again. Returns whether there were any. Every other call does nothing.
    async fn resummarise_awaited(&mut self, session: &mut Session, state: &SealingState) -> Result<bool, StoreError> {
        self.was_for_awaited = !self.was_for_awaited;
        let user = self.awaited_users.first().filter(|_| self.was_for_awaited);
        let Some(user) = user else {
            self.was_for_awaited = false;
            return Ok(false);
        };
        let began = Instant::now();
        let before = UserSlice {
            user: user.get(),
            start: 0,
        };
        let slices = dirty_slices::remove(session, state.epoch, before, self.dirty_slices_a_step).await?;
        if slices.last().is_none_or(|last| last.user != user.get()) {
            self.awaited_users.remove(user);
        }
        if slices.is_empty() {
            return Ok(false);
        }
        self.summarise(session, state, &slices).await?;
        self.adapt(began.elapsed());
        Ok(true)
    }

    /// Summarises slices that this transaction has removed from the dirty ones.
    async fn summarise(
        &self,
        session: &mut Session,
        state: &SealingState,
        slices: &[UserSlice],
    ) -> Result<(), StoreError> {
        // A later statement than the end of the epoch, so its snapshot contains everything that was written in the
        // epoch.
        let spans = join_adjacent(slices);
        let summaries = summarise::samples(session, &spans, None, self.dense_samples).await?;
        summaries.store(session).await?;
        summarise::coarser(session, &spans, |_| state.watermarks.sealed_before).await
    }

    /// Adapts the number of dirty slices in a step to how long the last one took.
    fn adapt(&mut self, took: Duration) {
        let (least, most) = (*DIRTY_SLICES_A_STEP.start(), *DIRTY_SLICES_A_STEP.end());
        if took < STEP_TARGET / 2 {
            self.dirty_slices_a_step = most.min(self.dirty_slices_a_step * 2);
        } else if took > STEP_TARGET * 2 {
            self.dirty_slices_a_step = least.max(self.dirty_slices_a_step / 2);
        }
    }
}

/// Joins slices that follow each other into spans. The slices are ascending.
fn join_adjacent(slices: &[UserSlice]) -> Vec<UserTimeSpan> {
    let mut spans: Vec<UserTimeSpan> = Vec::new();
    for &UserSlice { user, start } in slices {
        match spans.last_mut() {
            Some(last) if last.user == user && last.to == start => last.to += Grain::Slice.micros(),
            _ => spans.push(UserTimeSpan {
                user,
                from: start,
                to: start + Grain::Slice.micros(),
            }),
        }
    }
    spans
}

/// Returns whether the database is a standby, or set to read-only for this session.
pub(crate) async fn is_read_only(session: &mut Session) -> Result<bool, StoreError> {
    let statement = session.prepare(IS_READ_ONLY).await?;
    Ok(session.client().query_one(&statement, &[]).await?.get(0))
}
