//! `replay`: shows a recording as if its samples arrived now.
//!
//! A recording has one JSON object per line, as `record` writes it and `GET /samples` returns it. A line that says that
//! samples were erased belongs to the moment of the line before it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Erasure, RecordedEvent, Sample};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    app::{ConnectionEvent, NetworkEvent, ReceivedSamples},
    error::Error,
};

/// The longest line of a recording. A sample with a source of 64 bytes is below 400 bytes.
const LINE_MAX_BYTES: u64 = 64 * 1024;

/// The largest number of samples in one message to the event loop: few enough to apply between two frames.
const SAMPLES_AT_ONCE: usize = 1_024;

/// A recording. It is read while it is replayed, because it may be larger than the memory.
pub(crate) struct Recording {
    reader: BufReader<File>,
    path: PathBuf,
    /// The number of the last line that was read. The first line is 1.
    line: u64,
    next: Option<Sample>,
    /// What was erased between the sample before `next` and `next`.
    erased: Vec<Erasure>,
}

/// A line of a recording.
enum Line {
    Sample(Sample),
    Erased(Erasure),
}

/// What is due at a moment.
struct Due {
    samples: Vec<Sample>,
    /// What was erased after these samples.
    erased: Vec<Erasure>,
    /// What ended the recording too early.
    error: Option<Error>,
}

impl Recording {
    /// Opens a recording and reads its first sample.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })?;
        let mut recording = Self {
            reader: BufReader::new(file),
            path: path.to_owned(),
            line: 0,
            next: None,
            erased: Vec::new(),
        };
        recording.next = recording.read_sample()?;
        // Nothing was sent yet that could be dropped.
        recording.erased.clear();
        if recording.next.is_none() {
            return Err(recording.invalid("the file has no samples".to_owned()));
        }
        Ok(recording)
    }

    /// Returns the timestamp of the next sample.
    pub(crate) fn next_timestamp(&self) -> Option<DateTime<Utc>> {
        self.next.as_ref().map(Sample::timestamp)
    }

    /// Returns the next sample, and reads the one after it.
    fn take_next(&mut self) -> Result<Option<Sample>, Error> {
        let following = self.read_sample()?;
        Ok(std::mem::replace(&mut self.next, following))
    }

    /// Reads the next sample, and what was erased before it.
    fn read_sample(&mut self) -> Result<Option<Sample>, Error> {
        loop {
            match self.read_line()? {
                Some(Line::Sample(sample)) => return Ok(Some(sample)),
                Some(Line::Erased(erasure)) => self.erased.push(erasure),
                None => return Ok(None),
            }
        }
    }

    /// Reads the next line that is not empty.
    fn read_line(&mut self) -> Result<Option<Line>, Error> {
        loop {
            let mut line = Vec::new();
            let length = io::Read::take(&mut self.reader, LINE_MAX_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(|source| Error::File {
                    path: self.path.clone(),
                    source,
                })?;
            if length == 0 {
                return Ok(None);
            }
            self.line += 1;
            // Editors on Windows write a mark before the text.
            if self.line == 1 && line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let sample = match serde_json::from_slice(&line) {
                Ok(sample) => return Ok(Some(Line::Sample(sample))),
                Err(error) => error,
            };
            return match serde_json::from_slice(&line) {
                Ok(RecordedEvent::Erased(erasure)) => Ok(Some(Line::Erased(erasure))),
                _ => Err(self.invalid(sample.to_string())),
            };
        }
    }

    fn invalid(&self, reason: String) -> Error {
        Error::Recording {
            path: self.path.clone(),
            line: self.line.max(1),
            reason,
        }
    }

    /// Sends the samples at the pace of their timestamps, `speed` times as fast.
    ///
    /// A sample that is older than its predecessor is sent together with it.
    pub(crate) async fn play(mut self, to: mpsc::Sender<NetworkEvent>, speed: f64, name: String) {
        let report = |description: String| NetworkEvent::Connection(ConnectionEvent::Replaying { description });
        if to.send(report(format!("replaying {name} at {speed}x"))).await.is_err() {
            return;
        }
        let (started_at, first) = (Instant::now(), self.next_timestamp());
        let end = loop {
            let (Some(next), Some(first)) = (self.next_timestamp(), first) else {
                break format!("end of {name}");
            };
            let due = started_at + (next - first).to_std().unwrap_or(Duration::ZERO).div_f64(speed);
            tokio::select! {
                () = sleep_until(due) => {}
                () = to.closed() => return,
            }
            let elapsed = started_at.elapsed().mul_f64(speed);
            let now = first + TimeDelta::from_std(elapsed).unwrap_or(TimeDelta::MAX);
            let Due { samples, erased, error } = self.take_until(now.max(next));
            let received = NetworkEvent::Samples(ReceivedSamples { samples, replaced: 0 });
            for event in std::iter::once(received).chain(erased.into_iter().map(NetworkEvent::Erased)) {
                if to.send(event).await.is_err() {
                    return;
                }
            }
            if let Some(error) = error {
                break error.to_string();
            }
        };
        // If the event loop has ended, there is no receiver for the report.
        _ = to.send(report(end)).await;
        to.closed().await;
    }

    /// Returns the samples up to the time `until`, but at most [`SAMPLES_AT_ONCE`], and none after an erasure.
    fn take_until(&mut self, until: DateTime<Utc>) -> Due {
        let mut samples = Vec::new();
        let mut error = None;
        while self.erased.is_empty()
            && samples.len() < SAMPLES_AT_ONCE
            && self.next_timestamp().is_some_and(|next| next <= until)
        {
            match self.take_next() {
                Ok(sample) => samples.extend(sample),
                Err(end) => {
                    // The sample before the damaged line.
                    samples.extend(self.next.take());
                    error = Some(end);
                    break;
                }
            }
        }
        Due {
            samples,
            erased: std::mem::take(&mut self.erased),
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erasure_comes_after_the_samples_before_it_and_before_those_after_it() {
        let sample = |second: u32| {
            format!(r#"{{"user_id":1,"timestamp":"2025-03-02T18:00:{second:02}Z","heart_rate":70,"source":""}}"#)
        };
        let erased = r#"{"event":"erased","user_id":1}"#;
        let directory = test_support::test_directory();
        let path = directory.path().join("recording.ndjson");
        // Before the first sample, nothing was sent that could be dropped.
        let [first, second, third] = [sample(0), sample(1), sample(2)];
        let lines = [
            erased,
            first.as_str(),
            second.as_str(),
            erased,
            third.as_str(),
            erased,
            erased,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let mut recording = Recording::open(&path).unwrap();
        let mut due = Vec::new();
        while recording.next_timestamp().is_some() {
            let Due { samples, erased, error } = recording.take_until(DateTime::<Utc>::MAX_UTC);
            assert!(error.is_none());
            due.push((samples.len(), erased.len()));
        }
        assert_eq!(due, [(2, 1), (1, 2)]);

        let lines = [first.as_str(), r#"{"event":"erased","source":"x"}"#];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let damaged = Recording::open(&path).unwrap().take_until(DateTime::<Utc>::MAX_UTC);
        assert!(matches!(damaged.error, Some(Error::Recording { line: 2, .. })));
        assert_eq!(damaged.samples.len(), 1);
    }
}
