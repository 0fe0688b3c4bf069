//! A user of the soak: the samples that its devices send, and what the server must have stored of it.

use chrono::{DateTime, TimeDelta, Utc};
use examples::Result;
use fastrand::Rng;
use health_core::{Calories, Erasure, HeartRate, Readings, Sample, Source, Steps, UserId};
use tokio::time::{Duration, Instant};

use crate::oracle::Oracle;

/// The number of acknowledged samples that a user remembers, to send them again or to correct them.
const REMEMBERED_MAX: usize = 64;

/// How long a request that was sent several times may still have a copy in a server. Until then, nothing of its users
/// is erased: the copy would store the samples again.
const COPIES_LAST: Duration = Duration::from_mins(2);

/// The past that a phone sends: from 26 hours before the start to an hour before it. Then come the days before.
const PAST_START: TimeDelta = TimeDelta::hours(26);
const PAST_LENGTH: TimeDelta = TimeDelta::hours(25);

/// The time between two samples of the past.
const PAST_STEP: TimeDelta = TimeDelta::seconds(2);

/// A user whom exactly one writer writes about.
pub(crate) struct Person {
    pub(crate) user: UserId,
    pub(crate) oracle: Oracle,
    /// The timestamp of the last sample of the present.
    last_live: DateTime<Utc>,
    /// The past that is being sent: the next sample, and where it ends.
    past_next: DateTime<Utc>,
    past_end: DateTime<Utc>,
    remembered: Vec<Sample>,
    copies_until: Option<Instant>,
}

/// One acknowledged change of a stored sample.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The index of the person.
    pub(crate) person: usize,
    /// What is sent. Absent fields keep their stored value.
    pub(crate) record: Sample,
    pub(crate) before: Option<Sample>,
    pub(crate) after: Sample,
}

impl Person {
    pub(crate) fn new(user: UserId, now: DateTime<Utc>) -> Self {
        // Whole seconds, which are written shorter.
        let start = DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now) - PAST_START;
        Self {
            user,
            oracle: Oracle::default(),
            last_live: now,
            past_next: start,
            past_end: start + PAST_LENGTH,
            remembered: Vec::new(),
            copies_until: None,
        }
    }

    /// Returns a new sample of the present.
    pub(crate) fn live(&mut self, person: usize, rng: &mut Rng) -> Result<Change> {
        let now = DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).unwrap_or_default();
        self.last_live = now.max(self.last_live + TimeDelta::milliseconds(1));
        let source = if rng.u8(..4) == 0 { "ring" } else { "watch" };
        self.inserted(person, self.last_live, source, rng)
    }

    /// Returns the next sample of the past.
    pub(crate) fn past(&mut self, person: usize, rng: &mut Rng) -> Result<Change> {
        if self.past_next >= self.past_end {
            self.past_end -= PAST_LENGTH;
            self.past_next = self.past_end - PAST_LENGTH;
        }
        let time = self.past_next;
        self.past_next += PAST_STEP;
        let unnamed_or_phone = if self.user.get() % 2 == 0 { "" } else { "phone" };
        let source = if rng.u8(..5) == 0 { "watch" } else { unnamed_or_phone };
        self.inserted(person, time, source, rng)
    }

    fn inserted(&self, person: usize, time: DateTime<Utc>, source: &str, rng: &mut Rng) -> Result<Change> {
        let sample = Sample::new(self.user, time, Source::new(source)?, readings(rng)?)?;
        Ok(Change {
            person,
            record: sample.clone(),
            before: None,
            after: sample,
        })
    }

    /// Returns stored samples again: some as they are, some with other values, some with a part of the fields.
    pub(crate) fn again(&mut self, person: usize, count: usize, rng: &mut Rng) -> Result<Vec<Change>> {
        rng.shuffle(&mut self.remembered);
        let chosen = self.remembered.iter().take(count);
        let changes = chosen.map(|before| {
            let identity = before.identity().clone();
            let newer = if rng.bool() { before.readings() } else { readings(rng)? };
            let record = Sample::new(identity.user_id, identity.timestamp, identity.source, newer)?;
            Ok(Change {
                person,
                after: before.clone().merged_with(record.readings()),
                record,
                before: Some(before.clone()),
            })
        });
        changes.collect()
    }

    /// Notes an acknowledged change. `is_certain`: it was sent once only, so no server has another copy of it.
    pub(crate) fn acknowledged(&mut self, change: &Change, is_certain: bool, rng: &mut Rng) {
        if let Some(before) = &change.before {
            self.oracle.remove(before);
            self.remembered.retain(|sample| sample.identity() != before.identity());
        }
        self.oracle.add(&change.after);
        if !is_certain {
            self.copies_until = Some(Instant::now() + COPIES_LAST);
        } else if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.push(change.after.clone());
        } else if rng.u8(..16) == 0 {
            // Others stay, so that old samples are corrected too.
            let index = rng.usize(..self.remembered.len());
            self.remembered[index] = change.after.clone();
        }
    }

    /// Notes an acknowledged erasure of these samples.
    pub(crate) fn erased(&mut self, erasure: &Erasure, samples: &[Sample], is_certain: bool) {
        if erasure.is_whole_user() {
            self.oracle.clear();
        }
        for sample in samples {
            self.oracle.remove(sample);
        }
        self.remembered.retain(|sample| !erasure.covers(sample));
        if !is_certain {
            self.copies_until = Some(Instant::now() + COPIES_LAST);
        }
    }

    /// Returns whether a server may still have a copy of an earlier request.
    pub(crate) fn has_copies(&self) -> bool {
        self.copies_until.is_some_and(|until| Instant::now() < until)
    }

    /// Returns where a range that begins at `start` must end at the latest, so that no new sample is inside.
    pub(crate) fn latest_end(&self, start: DateTime<Utc>) -> DateTime<Utc> {
        if start < self.past_next && start >= self.past_end - PAST_LENGTH {
            self.past_next
        } else {
            self.last_live
        }
    }
}

/// Returns readings of which at least one is present. All are multiples of 1/4.
fn readings(rng: &mut Rng) -> Result<Readings> {
    let steps = Steps::new(rng.i64(0..40))?;
    let readings = Readings {
        heart_rate: (rng.u8(..10) > 0)
            .then(|| HeartRate::new(50.0 + f64::from(rng.u8(..200)) / 2.0))
            .transpose()?,
        steps: (rng.u8(..10) > 2).then_some(steps),
        calories: (rng.u8(..10) > 3)
            .then(|| Calories::new(f64::from(rng.u8(..40)) / 4.0))
            .transpose()?,
    };
    let is_empty = readings == Readings::default();
    Ok(if is_empty {
        Readings {
            steps: Some(steps),
            ..readings
        }
    } else {
        readings
    })
}
