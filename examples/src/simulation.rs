//! Posts the samples of a population to a server: first those of the past, then the present ones as they come.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use health_core::{IngestCounts, Sample, counted};
use tokio::time::sleep;

use crate::{
    client::{Client, ClientError},
    population::Population,
};

/// The approximate number of samples in a request: large enough to be fast, small enough to repeat after a failure.
const REQUEST_SAMPLES: u64 = 50_000;

/// The shortest time between two requests with present samples. With many people, a sample is due all the time.
const MIN_PAUSE: TimeDelta = TimeDelta::milliseconds(50);

/// Posts the samples of a [`Population`], and repeats requests that fail for a time.
pub struct Simulation {
    population: Population,
    client: Client,
    totals: Totals,
    /// Set since the first of the attempts that have failed without a success in between.
    failing: Option<Failing>,
    notify: Box<dyn Fn(&str) + Send + Sync>,
}

struct Failing {
    since: Instant,
    /// Why the last attempt failed.
    reason: String,
}

/// The server does not have all samples that were due.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// The last attempt failed.
    #[error("the server does not have the last samples: {reason}")]
    Failing {
        /// Why the attempt failed.
        reason: String,
    },
    /// The server refused samples.
    #[error("the server refused {} and stored {}; the messages above say why", counted(*.rejected, "sample"), counted(*.accepted, "sample"))]
    Rejected {
        /// How many samples it refused.
        rejected: u64,
        /// How many samples it stored.
        accepted: u64,
    },
}

/// What the server has done so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// The counts of the stored samples.
    pub counts: IngestCounts,
    /// How many samples it refused.
    pub rejected: u64,
    /// How many requests succeeded.
    pub requests: u64,
    /// How many attempts failed and were repeated.
    pub retries: u64,
}

impl Simulation {
    /// Creates a simulation. It calls `notify` with a message when requests begin to fail, and when they succeed again.
    pub fn new(population: Population, client: Client, notify: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            population,
            client,
            totals: Totals::default(),
            failing: None,
            notify: Box::new(notify),
        }
    }

    /// Returns what the server has done so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Checks that the server has all samples that were due.
    ///
    /// # Errors
    /// [`Incomplete`] if the last attempt failed, or if the server refused samples.
    pub fn check_complete(&self) -> Result<(), Incomplete> {
        let (rejected, accepted) = (self.totals.rejected, self.totals.counts.accepted);
        match &self.failing {
            Some(Failing { reason, .. }) => Err(Incomplete::Failing { reason: reason.clone() }),
            None if rejected > 0 => Err(Incomplete::Rejected { rejected, accepted }),
            None => Ok(()),
        }
    }

    /// Posts the samples of the range `[from, to)` in large requests.
    ///
    /// It calls `progress` with the approximate number of samples that were sent. That number goes back when a request
    /// is repeated.
    ///
    /// # Errors
    /// Any [`ClientError`] that is not retryable. After a retryable one it waits and repeats the request.
    pub async fn fill(
        &mut self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        progress: impl Fn(u64) + Clone + Send + Sync + 'static,
    ) -> Result<(), ClientError> {
        let mut begin = from.max(Sample::EARLIEST);
        let mut done = 0;
        while begin < to {
            let end = (begin + self.request_range()).min(to);
            self.post(begin, end, {
                let progress = progress.clone();
                move |sent| progress(done + sent)
            })
            .await?;
            done += self.population.samples_max(begin, end);
            progress(done);
            begin = end;
        }
        Ok(())
    }

    /// Posts the samples from `from` on as they become due. Does not return unless it fails.
    ///
    /// Samples that could not be posted in time are posted later.
    ///
    /// # Errors
    /// See [`Simulation::fill`].
    pub async fn live(&mut self, from: DateTime<Utc>) -> Result<Infallible, ClientError> {
        let mut posted_until = from.trunc_subsecs(3);
        let mut last_post = Utc::now();
        loop {
            let due = self.population.next_slot_at(posted_until).max(last_post + MIN_PAUSE);
            // A range excludes its end, so a sample is in the range one millisecond after it is due.
            let wait = due - Utc::now() + TimeDelta::milliseconds(1);
            sleep(wait.to_std().unwrap_or_default()).await;
            last_post = Utc::now();
            let now = last_post.trunc_subsecs(3);
            if now > posted_until {
                self.fill(posted_until, now, |_| ()).await?;
                posted_until = now;
            }
        }
    }

    /// Returns the time range of one request: whole intervals, so that all people have the same number of samples in
    /// it.
    fn request_range(&self) -> TimeDelta {
        let people = u64::try_from(self.population.users().len()).unwrap_or(u64::MAX);
        let intervals = i32::try_from(REQUEST_SAMPLES / people.max(1)).unwrap_or(i32::MAX);
        self.population.interval() * intervals.max(1)
    }

    /// Posts the samples of a range in one request, and repeats it until the server accepts it.
    async fn post(
        &mut self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        progress: impl Fn(u64) + Clone + Send + Sync + 'static,
    ) -> Result<(), ClientError> {
        // If no watch is worn, there is nothing to post. The server refuses a body without a record.
        if self.population.samples(from, to).next().is_none() {
            return Ok(());
        }
        loop {
            let progress = progress.clone();
            let samples = (1..)
                .zip(self.population.samples(from, to))
                .map(move |(number, sample)| {
                    progress(number);
                    sample
                });
            match self.client.ingest(samples).await {
                Ok(result) => {
                    if result.rejected > 0 {
                        let reason = result.first_reason.as_deref().unwrap_or("no reason given");
                        (self.notify)(&format!(
                            "the server refused {}; the first: {reason}",
                            counted(result.rejected, "sample")
                        ));
                    }
                    self.record_success(result.counts, result.rejected);
                    return Ok(());
                }
                Err(ClientError::Retryable { reason, retry_after }) => {
                    self.record_failure(&reason);
                    sleep(retry_after).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn record_success(&mut self, counts: IngestCounts, rejected: u64) {
        self.totals.counts.add(counts);
        self.totals.rejected += rejected;
        self.totals.requests += 1;
        if let Some(failing) = self.failing.take() {
            (self.notify)(&format!(
                "the server accepts samples again, after {:.1?}",
                failing.since.elapsed()
            ));
        }
    }

    /// Notifies the user of the first failed attempt only.
    fn record_failure(&mut self, reason: &str) {
        self.totals.retries += 1;
        if let Some(failing) = &mut self.failing {
            reason.clone_into(&mut failing.reason);
            return;
        }
        (self.notify)(&format!("{reason} (retrying)"));
        self.failing = Some(Failing {
            since: Instant::now(),
            reason: reason.to_owned(),
        });
    }
}

impl Totals {
    /// Returns a sentence for the user. `took` is the time since the start.
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
        let retried = match retries {
            0 => String::new(),
            1 => "; 1 attempt failed".to_owned(),
            _ => format!("; {retries} attempts failed"),
        };
        format!(
            "posted {} ({inserted} new, {updated} updated, {unchanged} unchanged; {rejected} refused) in {} and {took:.1?}{retried}",
            counted(accepted, "sample"),
            counted(*requests, "request"),
        )
    }
}
