//! How a writer erases samples and knows exactly which.

use chrono::TimeDelta;
use examples::Result;
use health_core::{ErasedResponse, Erasure, Sample, TimeRange, format_timestamp};
use hyper::{Method, StatusCode};

use crate::{
    ledger::is_mirrored,
    oracle::{slice_of, start_of},
    writer::Writer,
};

/// The shortest and the longest range that is erased, in seconds.
const SECONDS: std::ops::Range<i64> = 60..2_400;

impl Writer {
    /// Erases a random range of a user, sometimes of one source only.
    pub(crate) async fn erase_range(&mut self, person: usize) -> Result<()> {
        let Some(erasure) = self.random_range(person) else {
            return Ok(());
        };
        let Some(range) = erasure.range() else {
            return Ok(());
        };
        // What is stored is known exactly before it is erased: the range may begin and end inside a slice.
        let samples = self
            .check_samples(person, slice_of(range.start())..slice_of(range.end()) + 1)
            .await?;
        let erased: Vec<Sample> = samples.into_iter().filter(|sample| erasure.covers(sample)).collect();
        let source = erasure
            .source()
            .map_or(String::new(), |source| format!("&source={}", source.as_str()));
        let path = format!("/samples?{}{source}", range_query(erasure.user_id().get(), range));
        self.release(&erasure);
        let answer = self.shared.client.send(Method::DELETE, &path, "").await?;
        if answer.status != StatusCode::OK {
            return Err(answer.unexpected("DELETE", &path));
        }
        let response: ErasedResponse = serde_json::from_slice(&answer.body)?;
        let expected = u64::try_from(erased.len())?;
        if response.erased > expected || answer.is_first && response.erased < expected {
            return Err(format!("DELETE {path} erased {} samples instead of {expected}", response.erased).into());
        }
        self.people[person].erased(&erasure, &erased, answer.is_first);
        self.shared.recorder.erased(erased.len());
        self.check(person).await
    }

    fn random_range(&mut self, person: usize) -> Option<Erasure> {
        let known = &self.people[person];
        if known.has_copies() {
            return None;
        }
        let slice = known.oracle.random_slice(&mut self.rng)?;
        let start = start_of(slice) + TimeDelta::seconds(self.rng.i64(0..900));
        let end = start + TimeDelta::seconds(self.rng.i64(SECONDS));
        let range = TimeRange::new(start, end.min(known.latest_end(start))).ok()?;
        let source = ["watch", "ring", "phone"][self.rng.usize(..3)];
        let source = (self.rng.u8(..3) == 0)
            .then(|| health_core::Source::new(source))
            .transpose()
            .ok()?;
        Some(Erasure::of_range(known.user, range, source))
    }

    /// Erases everything of a user.
    pub(crate) async fn erase_user(&mut self, person: usize) -> Result<()> {
        let known = &self.people[person];
        if known.has_copies() || known.oracle.is_empty() {
            return Ok(());
        }
        let (erasure, samples) = (Erasure::of_user(known.user), known.oracle.samples());
        let path = format!("/users/{}", known.user.get());
        self.release(&erasure);
        let answer = self.shared.client.send(Method::DELETE, &path, "").await?;
        let is_expected = answer.status == StatusCode::NO_CONTENT
            // An earlier attempt has erased it.
            || !answer.is_first && answer.status == StatusCode::NOT_FOUND;
        if !is_expected {
            return Err(answer.unexpected("DELETE", &path));
        }
        self.people[person].erased(&erasure, &[], answer.is_first);
        self.shared.recorder.erased(usize::try_from(samples)?);
        self.check(person).await
    }

    /// Erases a user of the mirrors of the feed readers, if this writer has one.
    pub(crate) async fn erase_mirrored(&mut self) -> Result<()> {
        let mirrored = self.people.iter().position(|person| is_mirrored(person.user));
        match mirrored {
            Some(person) => self.erase_user(person).await,
            None => Ok(()),
        }
    }

    fn release(&self, erasure: &Erasure) {
        for ledger in &*self.shared.ledgers {
            ledger.release(erasure);
        }
    }
}

/// Returns the query parameters of a range of a user.
pub(crate) fn range_query(user: i64, range: TimeRange) -> String {
    let (start, end) = (format_timestamp(range.start()), format_timestamp(range.end()));
    format!("user_id={user}&start={start}&end={end}")
}
