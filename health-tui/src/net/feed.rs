//! The live feed: connects, subscribes behind the last cursor it saw, and comes back whatever happens.

#[cfg(test)]
mod servers_tests;

use std::{collections::HashMap, convert::Infallible, io, sync::Arc, time::Duration};

use health_core::{Cursor, FeedEvent, Sample};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf},
    net::TcpStream,
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    app::{Batch, FeedNews, Net},
    net::{backoff, lines::Lines},
};

/// To connect, and for each answer of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Heartbeats come every 5 s: a feed that says nothing for this long is late, and the header says so.
const QUIET: Duration = Duration::from_secs(7);

/// A feed that says nothing for this long is dead.
const SILENCE: Duration = Duration::from_secs(15);

/// At most this often what the server skipped is asked for again; a dashboard that cannot keep up would otherwise only
/// ever see the past.
const RESUME_EVERY: Duration = Duration::from_secs(10);

/// Samples in one message to the loop at most.
const BATCH_SAMPLES_MAX: usize = 1_024;

/// Where the feed is.
#[derive(Clone, Debug)]
pub(crate) struct FeedOptions {
    /// `host:port`.
    pub(crate) addr: String,
    pub(crate) token: Option<String>,
    /// Waits for the receiver in place of keeping the newest of each user: for recordings.
    pub(crate) lossless: bool,
}

/// Why there is no connection, in words for the header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error("{}", plain(.0))]
    Connect(#[source] io::Error),
    #[error("no answer")]
    Silent,
    #[error("not the feed of a health-server")]
    Foreign,
    #[error("a token is needed (--token)")]
    TokenNeeded,
    #[error("{0}")]
    Refused(String),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server says: {0}")]
    Bye(String),
    #[error("the dashboard has ended")]
    Ended,
}

/// What one connection ended with, and how far it got.
struct Ended {
    subscribed: bool,
    why: FeedError,
}

/// The task.
pub(crate) struct Feed {
    options: FeedOptions,
    to: mpsc::Sender<Net>,
    retry: Arc<Notify>,
    cursor: Option<Cursor>,
    /// What the loop had no room for.
    waiting: Waiting,
    resumed_at: Option<Instant>,
}

/// The newest sample of each user the loop could not take yet.
#[derive(Default)]
struct Waiting {
    samples: HashMap<i64, Sample>,
    coalesced: u64,
}

impl Waiting {
    fn add(&mut self, batch: Batch) {
        self.coalesced += batch.coalesced;
        for sample in batch.samples {
            let id = sample.user_id().get();
            match self.samples.get(&id) {
                Some(known) if known.timestamp() > sample.timestamp() => self.coalesced += 1,
                Some(_) => {
                    self.coalesced += 1;
                    self.samples.insert(id, sample);
                }
                None => {
                    self.samples.insert(id, sample);
                }
            }
        }
    }

    fn take(&mut self) -> Batch {
        Batch {
            samples: self.samples.drain().map(|(_, s)| s).collect(),
            coalesced: std::mem::take(&mut self.coalesced),
        }
    }

    fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

impl Feed {
    pub(crate) fn new(options: FeedOptions, to: mpsc::Sender<Net>, retry: Arc<Notify>) -> Self {
        Self {
            options,
            to,
            retry,
            cursor: None,
            waiting: Waiting::default(),
            resumed_at: None,
        }
    }

    /// Runs until the dashboard ends.
    pub(crate) async fn run(mut self) {
        let mut failures = 0u32;
        loop {
            if self.tell(FeedNews::Connecting { attempt: failures + 1 }).await.is_err() {
                return;
            }
            let ended = self.connection().await;
            if matches!(ended.why, FeedError::Ended) {
                return;
            }
            failures = if ended.subscribed { 1 } else { failures + 1 };
            let delay = backoff::delay(failures, fastrand::f64());
            let news = FeedNews::Waiting {
                attempt: failures,
                why: ended.why.to_string(),
                delay,
            };
            if self.tell(news).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = self.retry.notified() => {}
                () = self.to.closed() => return,
            }
        }
    }

    async fn connection(&mut self) -> Ended {
        let mut subscribed = false;
        let ended = match connect(&self.options.addr).await {
            Ok(stream) => self.converse(stream, &mut subscribed).await,
            Err(why) => Err(why),
        };
        let why = match ended {
            Ok(never) => match never {},
            Err(why) => why,
        };
        Ended { subscribed, why }
    }

    async fn converse(
        &mut self,
        stream: impl AsyncRead + AsyncWrite,
        subscribed: &mut bool,
    ) -> Result<Infallible, FeedError> {
        let (read, mut write) = tokio::io::split(stream);
        let mut lines = Lines::new(read);
        greet(&mut lines, &mut write, self.options.token.as_deref()).await?;
        self.subscribe(&mut write).await?;
        let to = self.to.clone();
        let mut heard = Instant::now();
        let mut quiet = false;
        loop {
            let mut batch = Batch::default();
            while let Some(line) = lines.next_buffered() {
                match serde_json::from_slice::<FeedEvent>(&line) {
                    Ok(FeedEvent::Sample { cursor, sample }) => {
                        self.cursor = Some(cursor);
                        batch.samples.push(sample);
                        if batch.samples.len() >= BATCH_SAMPLES_MAX {
                            self.pass_on(std::mem::take(&mut batch)).await?;
                        }
                    }
                    Ok(other) => {
                        // In the order of the feed: what came before goes first.
                        self.pass_on(std::mem::take(&mut batch)).await?;
                        if let FeedEvent::Subscribed { .. } = other {
                            *subscribed = true;
                        }
                        self.event(other, &mut write).await?;
                    }
                    // Protocol 1 may learn events that this program does not know.
                    Err(_) if line.first() == Some(&b'{') => {}
                    Err(_) => return Err(FeedError::Foreign),
                }
            }
            self.pass_on(batch).await?;
            let late = heard + if quiet { SILENCE } else { QUIET };
            tokio::select! {
                read = lines.fill() => {
                    if !read.map_err(FeedError::Connect)? {
                        return Err(FeedError::Closed);
                    }
                    heard = Instant::now();
                    if std::mem::take(&mut quiet) {
                        self.tell(FeedNews::Heard).await?;
                    }
                }
                permit = to.reserve(), if !self.waiting.is_empty() => {
                    permit.map_err(|_| FeedError::Ended)?.send(Net::Samples(self.waiting.take()));
                }
                () = sleep_until(late) => {
                    if quiet {
                        return Err(FeedError::Silent);
                    }
                    quiet = true;
                    self.tell(FeedNews::Quiet { since: heard.elapsed() }).await?;
                }
                () = to.closed() => return Err(FeedError::Ended),
            }
        }
    }

    /// From now on, or behind the last sample that was seen.
    async fn subscribe(&self, write: &mut WriteHalf<impl AsyncWrite>) -> Result<(), FeedError> {
        match &self.cursor {
            Some(cursor) => send(write, &format!("SUBSCRIBE after={cursor}")).await,
            None => send(write, "SUBSCRIBE").await,
        }
    }

    async fn event(&mut self, event: FeedEvent, write: &mut WriteHalf<impl AsyncWrite>) -> Result<(), FeedError> {
        match event {
            FeedEvent::Subscribed { resumed, reason } => {
                let resumed = self.cursor.is_some().then_some(resumed);
                self.tell(FeedNews::Connected { resumed, reason }).await
            }
            FeedEvent::Lagged { missed, cursor } => {
                if self.resumed_at.is_none_or(|at| at.elapsed() >= RESUME_EVERY) {
                    self.resumed_at = Some(Instant::now());
                    return send(write, &format!("SUBSCRIBE after={cursor}")).await;
                }
                self.tell(FeedNews::Lagged { missed }).await
            }
            FeedEvent::Heartbeat { cursor, .. } => {
                self.cursor = Some(cursor);
                Ok(())
            }
            FeedEvent::Error { reason } => self.tell(FeedNews::Refused { reason }).await,
            FeedEvent::Bye { reason } => Err(FeedError::Bye(reason)),
            _ => Ok(()),
        }
    }

    /// To the loop, or, where it has no room, to what waits.
    async fn pass_on(&mut self, batch: Batch) -> Result<(), FeedError> {
        if batch.samples.is_empty() {
            return Ok(());
        }
        if self.options.lossless {
            return self.to.send(Net::Samples(batch)).await.map_err(|_| FeedError::Ended);
        }
        if !self.waiting.is_empty() {
            self.waiting.add(batch);
            return Ok(());
        }
        match self.to.try_send(Net::Samples(batch)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(Net::Samples(batch))) => {
                self.waiting.add(batch);
                Ok(())
            }
            Err(_) => Err(FeedError::Ended),
        }
    }

    /// News are few and all of them count: they wait for room.
    async fn tell(&mut self, news: FeedNews) -> Result<(), FeedError> {
        self.to.send(Net::Feed(news)).await.map_err(|_| FeedError::Ended)
    }
}

async fn connect(addr: &str) -> Result<TcpStream, FeedError> {
    let stream = timeout(HANDSHAKE, TcpStream::connect(addr))
        .await
        .map_err(|_| FeedError::Silent)?
        .map_err(FeedError::Connect)?;
    // Commands are short and wait for nothing.
    stream.set_nodelay(true).map_err(FeedError::Connect)?;
    Ok(stream)
}

/// Takes `hello`, and sends the token where it is asked for.
async fn greet(
    lines: &mut Lines<impl AsyncRead + Unpin>,
    write: &mut WriteHalf<impl AsyncWrite>,
    token: Option<&str>,
) -> Result<(), FeedError> {
    let line = timeout(HANDSHAKE, lines.next()).await.map_err(|_| FeedError::Silent)?;
    let line = line.map_err(FeedError::Connect)?.ok_or(FeedError::Closed)?;
    match serde_json::from_slice(&line) {
        Ok(FeedEvent::Hello { auth: true, .. }) => {
            let token = token.ok_or(FeedError::TokenNeeded)?;
            send(write, &format!("AUTH {token}")).await
        }
        Ok(FeedEvent::Hello { auth: false, .. }) => Ok(()),
        Ok(FeedEvent::Error { reason }) => Err(FeedError::Refused(reason)),
        Ok(FeedEvent::Bye { reason }) => Err(FeedError::Bye(reason)),
        _ => Err(FeedError::Foreign),
    }
}

/// A command, within the time a server that is alive takes to read it.
async fn send(write: &mut WriteHalf<impl AsyncWrite>, command: &str) -> Result<(), FeedError> {
    timeout(HANDSHAKE, write.write_all(format!("{command}\n").as_bytes()))
        .await
        .map_err(|_| FeedError::Silent)?
        .map_err(FeedError::Connect)
}

/// The system's own words, without `(os error 111)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use health_core::{HeartRate, Readings, Source, UserId};

    use super::*;

    #[test]
    fn what_waits_is_the_newest_of_each_user() {
        let sample = |user: i64, s: i64, bpm: f64| {
            let readings = Readings {
                heart_rate: HeartRate::new(bpm).ok(),
                ..Readings::default()
            };
            let at = chrono::DateTime::from_timestamp(1_740_938_400 + s, 0).unwrap();
            Sample::new(UserId::new(user).unwrap(), at, Source::default(), readings).unwrap()
        };
        let mut waiting = Waiting::default();
        let batch = |samples| Batch { samples, coalesced: 0 };
        waiting.add(batch(vec![sample(1, 0, 60.0), sample(2, 0, 70.0), sample(1, 8, 61.0)]));
        waiting.add(batch(vec![sample(1, 4, 99.0)]));
        let mut taken = waiting.take();
        taken.samples.sort_by_key(|s| s.user_id().get());
        assert_eq!(taken.samples, [sample(1, 8, 61.0), sample(2, 0, 70.0)]);
        assert_eq!(taken.coalesced, 2);
        assert!(waiting.is_empty());
    }
}
