//! `replay`: a file of samples, one JSON object a line, as `record` writes and `GET /samples` gives them, as if they arrived
//! now.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use health_core::Sample;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    app::{Batch, FeedNews, Net},
    error::Error,
};

/// The longest line of a recording.
const LINE_MAX_BYTES: u64 = 64 * 1024;

/// Samples of a replay in one message at most.
const BATCH_SAMPLES_MAX: usize = 1_024;

/// A recording, read as it is replayed: it may be larger than the memory.
pub(crate) struct Recording {
    from: BufReader<File>,
    path: PathBuf,
    line: u64,
    next: Option<Sample>,
}

impl Recording {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })?;
        let mut recording = Self {
            from: BufReader::new(file),
            path: path.to_owned(),
            line: 0,
            next: None,
        };
        recording.next = recording.read()?;
        if recording.next.is_none() {
            return Err(recording.wrong("there is no sample in it".to_owned()));
        }
        Ok(recording)
    }

    /// The time of the first sample that is still to come.
    pub(crate) fn next_time(&self) -> Option<DateTime<Utc>> {
        self.next.as_ref().map(Sample::timestamp)
    }

    fn take(&mut self) -> Result<Option<Sample>, Error> {
        let next = self.read()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn read(&mut self) -> Result<Option<Sample>, Error> {
        loop {
            let mut text = Vec::new();
            let n = io::Read::take(&mut self.from, LINE_MAX_BYTES)
                .read_until(b'\n', &mut text)
                .map_err(|source| Error::File {
                    path: self.path.clone(),
                    source,
                })?;
            if n == 0 {
                return Ok(None);
            }
            self.line += 1;
            if text.trim_ascii().is_empty() {
                continue;
            }
            return serde_json::from_slice(&text)
                .map(Some)
                .map_err(|e| self.wrong(e.to_string()));
        }
    }

    fn wrong(&self, reason: String) -> Error {
        Error::Recording {
            path: self.path.clone(),
            line: self.line.max(1),
            reason,
        }
    }

    /// Sends the samples at the pace of their own times, `speed` times as fast. Late ones come when the one before them
    /// does.
    pub(crate) async fn play(mut self, to: mpsc::Sender<Net>, speed: f64, name: String) {
        let (began, first) = (Instant::now(), self.next_time());
        let say = |what: String| Net::Feed(FeedNews::Replaying { what });
        if to.send(say(format!("replaying {name} at {speed}x"))).await.is_err() {
            return;
        }
        let end = loop {
            let (Some(next), Some(first)) = (self.next_time(), first) else {
                break format!("{name} has been replayed");
            };
            let into = (next - first).to_std().unwrap_or(Duration::ZERO).div_f64(speed);
            let due = began + into;
            if due > Instant::now() {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = to.closed() => return,
                }
            }
            let mut samples = Vec::new();
            let passed = Instant::now().duration_since(began).mul_f64(speed);
            let until = first + chrono::TimeDelta::from_std(passed).unwrap_or(chrono::TimeDelta::MAX);
            let mut failed = None;
            while samples.len() < BATCH_SAMPLES_MAX && self.next_time().is_some_and(|t| t <= until.max(next)) {
                match self.take() {
                    Ok(Some(sample)) => samples.push(sample),
                    Ok(None) => break,
                    Err(error) => {
                        failed = Some(error.to_string());
                        break;
                    }
                }
            }
            if to.send(Net::Samples(Batch { samples, coalesced: 0 })).await.is_err() {
                return;
            }
            if let Some(error) = failed {
                break error;
            }
        };
        // Without a receiver the dashboard has ended.
        _ = to.send(say(end)).await;
        to.closed().await;
    }
}
