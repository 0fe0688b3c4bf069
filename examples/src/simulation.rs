//! A population's samples on their way to a server: first the past, then the present.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use health_core::{IngestCounts, Sample};
use tokio::time::sleep;

use crate::{
    client::{Client, ClientError},
    population::Population,
};

/// Samples in one request, about: large enough to be fast, small enough to be sent again without regret.
const REQUEST_SAMPLES: u64 = 50_000;

/// The shortest time between two requests of the present: with many people something is due all the time.
const PAUSE_MIN: TimeDelta = TimeDelta::milliseconds(50);

/// Posts what a [`Population`] measures, and keeps at it when the server cannot take it.
pub struct Simulation {
    population: Population,
    client: Client,
    tally: Tally,
    /// Since when the server has taken nothing.
    trouble: Option<Instant>,
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

/// What came of it so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// What the server took.
    pub counts: IngestCounts,
    /// What it refused.
    pub rejected: u64,
    /// Requests it answered.
    pub requests: u64,
    /// Attempts that came to nothing and were made again.
    pub retries: u64,
}

impl Simulation {
    /// `tell` hears a sentence when something is wrong, and one when it is well again.
    pub fn new(population: Population, client: Client, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            population,
            client,
            tally: Tally::default(),
            trouble: None,
            tell: Box::new(tell),
        }
    }

    /// What came of it so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Posts all that the population measured from `from` up to, but not including, `to`, in large requests. `progress` hears how many
    /// samples were made, about; in a request that has to be sent again, it goes back.
    ///
    /// # Errors
    /// [`ClientError`] where the server will never take it. Where it only cannot, this waits.
    pub async fn fill(
        &mut self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        progress: impl Fn(u64) + Clone + Send + Sync + 'static,
    ) -> Result<(), ClientError> {
        let mut begin = from.max(Sample::EARLIEST);
        let mut done = 0;
        while begin < to {
            let end = (begin + self.stretch_of_a_request()).min(to);
            self.post(begin, end, {
                let progress = progress.clone();
                move |made| progress(done + made)
            })
            .await?;
            done += self.population.due(begin, end);
            progress(done);
            begin = end;
        }
        Ok(())
    }

    /// Posts what is measured from `from` on, as it is measured, for ever. What could not be posted in time comes later.
    ///
    /// # Errors
    /// As [`Simulation::fill`].
    pub async fn live(&mut self, from: DateTime<Utc>) -> Result<Infallible, ClientError> {
        let mut posted_until = from.trunc_subsecs(3);
        let mut asked = Utc::now();
        loop {
            let due = self.population.next_due(posted_until).max(asked + PAUSE_MIN);
            // A millisecond on top: what is due at a moment lies before the next.
            let wait = due - Utc::now() + TimeDelta::milliseconds(1);
            sleep(wait.to_std().unwrap_or_default()).await;
            asked = Utc::now();
            let now = asked.trunc_subsecs(3);
            if now > posted_until {
                self.fill(posted_until, now, |_| ()).await?;
                posted_until = now;
            }
        }
    }

    /// Whole intervals, so that every request holds as many samples of each person.
    fn stretch_of_a_request(&self) -> TimeDelta {
        let people = u64::try_from(self.population.users().len()).unwrap_or(u64::MAX);
        let intervals = i32::try_from(REQUEST_SAMPLES / people.max(1)).unwrap_or(i32::MAX);
        self.population.interval() * intervals.max(1)
    }

    /// Posts a stretch in one request, as often as it takes.
    async fn post(
        &mut self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        made: impl Fn(u64) + Clone + Send + Sync + 'static,
    ) -> Result<(), ClientError> {
        // A watch that is off sends nothing, and a request without a record is none.
        if self.population.samples(from, to).next().is_none() {
            return Ok(());
        }
        loop {
            let made = made.clone();
            let samples = (1..)
                .zip(self.population.samples(from, to))
                .map(move |(number, sample)| {
                    made(number);
                    sample
                });
            match self.client.ingest(samples).await {
                Ok(posted) => {
                    if posted.rejected > 0 {
                        let reason = posted.reason.as_deref().unwrap_or("it does not say why");
                        (self.tell)(&format!(
                            "{} samples were refused, the first because it {reason}",
                            posted.rejected
                        ));
                    }
                    self.went_well(posted.counts, posted.rejected);
                    return Ok(());
                }
                Err(ClientError::Later { why, after }) => {
                    self.went_wrong(&why);
                    sleep(after).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn went_well(&mut self, counts: IngestCounts, rejected: u64) {
        self.tally.counts.add(counts);
        self.tally.rejected += rejected;
        self.tally.requests += 1;
        if let Some(since) = self.trouble.take() {
            (self.tell)(&format!(
                "the server takes samples again, after {:.1?}",
                since.elapsed()
            ));
        }
    }

    /// Says it once, however long it lasts.
    fn went_wrong(&mut self, why: &str) {
        self.tally.retries += 1;
        if self.trouble.is_none() {
            self.trouble = Some(Instant::now());
            (self.tell)(&format!("{why} (trying again)"));
        }
    }
}

impl Tally {
    /// The sentence a person reads at the end.
    pub fn summary(&self, took: Duration) -> String {
        let IngestCounts {
            accepted,
            inserted,
            updated,
            unchanged,
        } = self.counts;
        let Self {
            rejected,
            requests,
            retries,
            ..
        } = self;
        let again = match retries {
            0 => String::new(),
            _ => format!("; {retries} times the server was not there or too busy"),
        };
        format!(
            "posted {accepted} samples ({inserted} new, {updated} changed, {unchanged} known already; {rejected} refused) \
             in {requests} requests and {took:.1?}{again}"
        )
    }
}
