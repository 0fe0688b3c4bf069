//! `record` and the reading side of `replay`: files of samples, one JSON object a line, as `GET /samples` gives them and
//! `POST /ingest` takes them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use health_core::Sample;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};

use crate::{
    app::{Batch, FeedNews, Net},
    error::Error,
    net::{Feed, FeedOptions},
    options::Options,
    signals,
};

/// The longest line of a recording.
const LINE_MAX_BYTES: u64 = 64 * 1024;

/// Samples of a replay in one message at most.
const BATCH_SAMPLES_MAX: usize = 1_024;

/// Writes every sample of the feed to a new file until interrupted. The connection comes back by itself, behind the last
/// sample that was written; what the server sends twice for that is written twice, and is one sample when it is ingested.
pub(crate) async fn run(options: &Options, path: &Path) -> Result<(), Error> {
    let file_error = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let mut file = File::create_new(path).map_err(file_error)?;
    let (to, mut from) = mpsc::channel(4);
    let feed = FeedOptions {
        addr: options.feed.clone(),
        token: options.token.clone(),
        lossless: true,
    };
    let feed = tokio::spawn(Feed::new(feed, to, Arc::new(Notify::new())).run());
    let stop = signals::stop().map_err(Error::Terminal)?;
    tokio::pin!(stop);
    let mut written = 0u64;
    let mut lines = Vec::new();
    loop {
        let net = tokio::select! {
            biased;
            () = &mut stop => break,
            net = from.recv() => net,
        };
        match net {
            Some(Net::Samples(batch)) => {
                lines.clear();
                for sample in &batch.samples {
                    serde_json::to_writer(&mut lines, sample).map_err(|e| file_error(e.into()))?;
                    lines.push(b'\n');
                }
                // Whole lines at once: a recording that is cut off ends with a whole sample.
                file.write_all(&lines).map_err(file_error)?;
                written += batch.samples.len() as u64;
            }
            Some(Net::Feed(news)) => tell(&news),
            Some(Net::Answer { .. }) => {}
            None => break,
        }
    }
    feed.abort();
    _ = writeln!(io::stderr(), "{written} samples in {}", path.display());
    Ok(())
}

/// The connection's story, on stderr.
pub(crate) fn tell(news: &FeedNews) {
    let text = match news {
        FeedNews::Connecting { .. } => return,
        FeedNews::Connected {
            resumed: Some(false), ..
        } => "connected; samples may be missing".to_owned(),
        FeedNews::Connected { .. } => "connected".to_owned(),
        FeedNews::Waiting { attempt, why, delay } => {
            format!(
                "not connected (attempt {attempt}: {why}); retry in {:.1} s",
                delay.as_secs_f64()
            )
        }
        FeedNews::Lagged { missed } => format!("{missed} samples were skipped"),
        FeedNews::Refused { reason } => format!("the feed says: {reason}"),
        FeedNews::Replaying { what } => what.clone(),
    };
    // With stderr closed there is nobody to tell.
    _ = writeln!(io::stderr(), "{text}");
}

/// A recording, read as it is replayed: it may be larger than the memory.
pub(crate) struct Recording {
    from: BufReader<File>,
    path: std::path::PathBuf,
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
