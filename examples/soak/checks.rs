//! How a writer compares a user with the oracle. While it does, nothing changes: only this writer writes about the
//! user.

use std::ops::Range;

use examples::Result;
use health_core::{HeartRate, Sample, StatsResponse, TimeRange, format_timestamp};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    erasing::range_query,
    ledger::is_mirrored,
    oracle::{Oracle, start_of},
    writer::Writer,
};

/// The length of the range whose samples are compared one by one: an hour.
const SLICES: i64 = 4;

/// The longest time in which a reader of the feed catches up, over kills and breaks.
const CATCH_UP: Duration = Duration::from_mins(4);

impl Writer {
    /// Compares the statistics of everything that a user has, and the samples of a random hour.
    pub(crate) async fn check(&mut self, person: usize) -> Result<()> {
        let all = self.people[person].oracle.slices().unwrap_or(0..1);
        self.check_stats(person, all.clone()).await?;
        if let Some(first) = self.people[person].oracle.random_slice(&mut self.rng) {
            self.check_samples(person, first..first + SLICES).await?;
        }
        if is_mirrored(self.people[person].user) {
            self.check_mirrors(person).await?;
        }
        self.shared.recorder.checked();
        Ok(())
    }

    /// Compares everything of every user, sample by sample.
    pub(crate) async fn check_all(&mut self) -> Result<()> {
        for person in 0..self.people.len() {
            self.check(person).await?;
            if let Some(all) = self.people[person].oracle.slices() {
                self.check_samples(person, all).await?;
            }
        }
        Ok(())
    }

    async fn check_stats(&self, person: usize, slices: Range<i64>) -> Result<StatsResponse> {
        let known = &self.people[person];
        let range = TimeRange::new(start_of(slices.start), start_of(slices.end))?;
        let path = format!("/metrics?{}", range_query(known.user.get(), range));
        let answer = self.shared.client.get(&path).await?;
        let stats: StatsResponse = serde_json::from_slice(&answer.body)?;
        let expected = known.oracle.part(slices);
        expected
            .compare_stats(&stats)
            .map_err(|difference| format!("GET {path}: {difference}"))?;
        Ok(stats)
    }

    /// Compares the samples of some slices, and the extremes of their statistics. Returns the samples.
    pub(crate) async fn check_samples(&self, person: usize, slices: Range<i64>) -> Result<Vec<Sample>> {
        let known = &self.people[person];
        let range = TimeRange::new(start_of(slices.start), start_of(slices.end))?;
        let path = format!("/samples?{}", range_query(known.user.get(), range));
        let answer = self.shared.client.get(&path).await?;
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let samples: Vec<Sample> = lines
            .map(serde_json::from_slice)
            .collect::<std::result::Result<_, _>>()?;
        let expected = known.oracle.part(slices.clone());
        let compared = expected.compare(&Oracle::of(&samples));
        compared.map_err(|difference| format!("GET {path}: {difference}"))?;
        let stats = self.check_stats(person, slices).await?.stats;
        let rates = || samples.iter().filter_map(Sample::heart_rate).map(HeartRate::get);
        let extremes = (rates().reduce(f64::min), rates().reduce(f64::max));
        if extremes != (stats.min_heart_rate, stats.max_heart_rate) {
            return Err(format!("GET {path}: the samples have heart rates within {extremes:?}, not {stats:?}").into());
        }
        Ok(samples)
    }

    /// Waits until each reader of the feed holds of a user what is stored.
    async fn check_mirrors(&self, person: usize) -> Result<()> {
        let known = &self.people[person];
        let start = Instant::now();
        for ledger in &*self.shared.ledgers {
            while let Err(difference) = known.oracle.compare(&ledger.held(known.user)) {
                if start.elapsed() > CATCH_UP {
                    let (reader, user, now) = (ledger.reader, known.user.get(), format_timestamp(chrono::Utc::now()));
                    return Err(format!(
                        "{now}: the feed reader {reader:?} holds other samples of user {user} than the server: {difference}"
                    )
                    .into());
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}
