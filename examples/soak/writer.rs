//! A writer: a gateway that posts the samples of some users one request after the other, at a constant rate.
//!
//! Only this writer writes about its users, so it knows at each moment what the server must have stored of them.

use std::sync::Arc;

use examples::{Result, bench::float};
use fastrand::Rng;
use health_core::IngestCounts;
use hyper::{Method, StatusCode};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

use crate::{
    client::Client,
    ledger::Ledger,
    person::{Change, Person},
    recorder::Recorder,
};

/// How far a writer may be behind its rate. After a longer outage, it leaves samples out.
const BEHIND_MAX: Duration = Duration::from_secs(10);

/// The largest request about the present, and the requests about the past. The larger ones of these are written with
/// COPY.
const LIVE_MAX: usize = 40;
const PAST_MIN: usize = 100;
const PAST_MAX: usize = 700;

/// One request in this many is about the past, so that the past has about as many samples as the present.
const PAST_ONE_IN: u8 = 20;

/// One request in this many sends stored samples again.
const AGAIN_ONE_IN: u8 = 8;

/// What all writers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) ledgers: Arc<[Ledger]>,
    pub(crate) recorder: Recorder,
}

/// How often a writer does what.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Samples in a second.
    pub(crate) rate: f64,
    /// The time between two comparisons of a user with the oracle.
    pub(crate) check: Duration,
    /// The time between two erasures of a range, and of a whole user.
    pub(crate) erase: Duration,
    pub(crate) erase_user: Duration,
}

pub(crate) struct Writer {
    pub(crate) shared: Shared,
    pub(crate) people: Vec<Person>,
    pub(crate) rng: Rng,
    pace: Pace,
}

impl Writer {
    pub(crate) fn new(shared: Shared, people: Vec<Person>, pace: Pace) -> Self {
        Self {
            shared,
            people,
            rng: Rng::new(),
            pace,
        }
    }

    /// Writes, erases and compares until it is told to stop.
    pub(crate) async fn run(mut self, stop: watch::Receiver<bool>) -> Result<Self> {
        let start = Instant::now();
        // Writers do not erase or compare at the same moment.
        let mut first = |period: Duration| start + period.mul_f64(0.5 + self.rng.f64());
        let (mut check, mut erase) = (first(self.pace.check), first(self.pace.erase));
        let (mut erase_user, mut erase_mirrored) = (first(self.pace.erase_user), first(self.pace.erase_user));
        let mut due = start;
        while !*stop.borrow() {
            sleep_until(due).await;
            let now = Instant::now();
            due = due.max(now.checked_sub(BEHIND_MAX).unwrap_or(now));
            due += Duration::from_secs_f64(float(self.post().await?) / self.pace.rate);
            if now >= check {
                check = now + self.pace.check;
                let person = self.any_person();
                self.check(person).await?;
            }
            if now >= erase {
                erase = now + self.pace.erase;
                let person = self.any_person();
                self.erase_range(person).await?;
            }
            if now >= erase_user {
                erase_user = now + self.pace.erase_user;
                let person = self.any_person();
                self.erase_user(person).await?;
            }
            if now >= erase_mirrored {
                erase_mirrored = now + self.pace.erase_user;
                self.erase_mirrored().await?;
            }
        }
        Ok(self)
    }

    fn any_person(&mut self) -> usize {
        self.rng.usize(..self.people.len())
    }

    /// Posts a request, until a server has acknowledged it. Returns the number of its samples.
    async fn post(&mut self) -> Result<usize> {
        let changes = self.changes()?;
        let mut body = Vec::new();
        for change in &changes {
            serde_json::to_writer(&mut body, &change.record)?;
            body.push(b'\n');
        }
        for ledger in &*self.shared.ledgers {
            ledger.expect(&changes);
        }
        let answer = self.shared.client.send(Method::POST, "/ingest", body).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.unexpected("POST", "/ingest"));
        }
        let counts: IngestCounts = serde_json::from_slice(&answer.body)?;
        check_counts(&changes, counts, answer.is_first)?;
        self.shared.recorder.posted(changes.len(), answer.elapsed);
        for change in &changes {
            self.people[change.person].acknowledged(change, answer.is_first, &mut self.rng);
        }
        Ok(changes.len())
    }

    fn changes(&mut self) -> Result<Vec<Change>> {
        let person = self.any_person();
        if self.rng.u8(..AGAIN_ONE_IN) == 0 {
            let count = self.rng.usize(1..LIVE_MAX);
            let changes = self.people[person].again(person, count, &mut self.rng)?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
        if self.rng.u8(..PAST_ONE_IN) == 0 {
            let count = self.rng.usize(PAST_MIN..PAST_MAX);
            let samples = (0..count).map(|_| self.people[person].past(person, &mut self.rng));
            return samples.collect();
        }
        let count = self.rng.usize(1..=LIVE_MAX);
        let samples = (0..count).map(|_| {
            let person = self.rng.usize(..self.people.len());
            self.people[person].live(person, &mut self.rng)
        });
        samples.collect()
    }
}

/// Compares the counts of a response with what the request must have changed.
fn check_counts(changes: &[Change], counts: IngestCounts, is_first: bool) -> Result<()> {
    let mut expected = IngestCounts::default();
    for change in changes {
        expected.accepted += 1;
        match &change.before {
            None => expected.inserted += 1,
            Some(before) if *before == change.after => expected.unchanged += 1,
            Some(_) => expected.updated += 1,
        }
    }
    // An earlier attempt may have stored some or all of them.
    let is_right = if is_first {
        counts == expected
    } else {
        counts.accepted == expected.accepted
            && counts.inserted <= expected.inserted
            && counts.updated <= expected.updated
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("a request with {expected:?} was answered with {counts:?} (first attempt: {is_first})").into())
    }
}
