//! The client of the live feed. It subscribes, resumes from the last cursor and reconnects after every failure.

#[cfg(test)]
mod server_tests;

use std::{collections::HashMap, convert::Infallible, io, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use health_core::{Cursor, FeedEvent, Sample};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use crate::{
    app::{ConnectionEvent, NetworkEvent, ReceivedSamples},
    net::backoff,
};

/// The timeout to connect, and for each answer of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The header reports a silent feed after this time. Heartbeats come every 5 s, so one is late by then.
const SILENCE_WARNING: Duration = Duration::from_secs(7);

/// The client reconnects after this time without a message: three heartbeats are missing.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);

/// The client asks for skipped samples at most this often. Otherwise a slow dashboard would only ever see old
/// samples.
const RESUME_INTERVAL: Duration = Duration::from_secs(10);

/// The largest number of samples in one message to the event loop: few enough to apply between two frames.
const SAMPLES_AT_ONCE: usize = 1_024;

/// The longest line of the feed. A sample with a source of 64 bytes is below 400 bytes.
const LINE_MAX_BYTES: usize = 64 * 1024;

/// The initial size of the read buffer: about 200 samples in one read.
const READ_BYTES: usize = 64 * 1024;

/// How to reach the feed.
#[derive(Clone, Debug)]
pub(crate) struct FeedOptions {
    /// `host:port`.
    pub(crate) addr: String,
    pub(crate) token: Option<String>,
    /// Wait for a slow receiver instead of coalescing samples. Recordings need every sample.
    pub(crate) lossless: bool,
}

/// Why there is no connection. The header shows the message after "retry in 3 s".
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error("{}", without_error_code(.0))]
    Io(#[source] io::Error),
    #[error("no answer")]
    Silent,
    #[error("not the feed of a health-server: check --feed")]
    NotAFeed,
    #[error("a line of more than {LINE_MAX_BYTES} bytes: check --feed")]
    LineTooLong,
    #[error("a token is needed: use --token")]
    TokenNeeded,
    #[error("{0}")]
    Refused(String),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server says: {0}")]
    Bye(String),
    /// The event loop has ended. This message is not shown.
    #[error("the dashboard has ended")]
    DashboardEnded,
}

impl From<LinesCodecError> for FeedError {
    fn from(error: LinesCodecError) -> Self {
        match error {
            LinesCodecError::MaxLineLengthExceeded => Self::LineTooLong,
            // The codec reports invalid UTF-8 in this way. The feed is UTF-8.
            LinesCodecError::Io(error) if error.kind() == io::ErrorKind::InvalidData => Self::NotAFeed,
            LinesCodecError::Io(error) => Self::Io(error),
        }
    }
}

type Lines<S> = FramedRead<ReadHalf<S>, LinesCodec>;

/// The end of a connection.
struct Disconnect {
    /// Whether the server had accepted the subscription.
    was_subscribed: bool,
    reason: FeedError,
}

/// The client of the feed. It runs in a task of its own.
pub(crate) struct FeedClient {
    options: FeedOptions,
    to: mpsc::Sender<NetworkEvent>,
    /// The user asks to reconnect now.
    retry: Arc<Notify>,
    cursor: Option<Cursor>,
    /// The samples that the full channel did not take.
    waiting: NewestSamples,
    resumed_at: Option<Instant>,
}

/// The newest sample of each user that the event loop could not take yet.
#[derive(Default)]
struct NewestSamples {
    samples: HashMap<i64, Sample>,
    /// Number of samples that a newer one has replaced.
    replaced: u64,
}

impl NewestSamples {
    fn add(&mut self, received: ReceivedSamples) {
        self.replaced += received.replaced;
        for sample in received.samples {
            let id = sample.user_id().get();
            match self.samples.get(&id) {
                Some(known) if known.timestamp() > sample.timestamp() => self.replaced += 1,
                known => {
                    self.replaced += u64::from(known.is_some());
                    self.samples.insert(id, sample);
                }
            }
        }
    }

    fn take(&mut self) -> ReceivedSamples {
        ReceivedSamples {
            samples: self.samples.drain().map(|(_, sample)| sample).collect(),
            replaced: std::mem::take(&mut self.replaced),
        }
    }

    fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

impl FeedClient {
    pub(crate) fn new(options: FeedOptions, to: mpsc::Sender<NetworkEvent>, retry: Arc<Notify>) -> Self {
        Self {
            options,
            to,
            retry,
            cursor: None,
            waiting: NewestSamples::default(),
            resumed_at: None,
        }
    }

    /// Runs until the dashboard ends.
    pub(crate) async fn run(mut self) {
        let mut failures = 0u32;
        loop {
            let connecting = ConnectionEvent::Connecting { attempt: failures + 1 };
            if self.report(connecting).await.is_err() {
                return;
            }
            let disconnect = self.run_connection().await;
            if matches!(disconnect.reason, FeedError::DashboardEnded) {
                return;
            }
            failures = if disconnect.was_subscribed { 1 } else { failures + 1 };
            let retry_in = backoff::delay(failures, fastrand::f64());
            let disconnected = ConnectionEvent::Disconnected {
                attempt: failures,
                reason: disconnect.reason.to_string(),
                retry_in,
            };
            if self.report(disconnected).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(retry_in) => {}
                () = self.retry.notified() => {}
                () = self.to.closed() => return,
            }
        }
    }

    async fn run_connection(&mut self) -> Disconnect {
        let mut was_subscribed = false;
        let result = match connect(&self.options.addr).await {
            Ok(stream) => self.converse(stream, &mut was_subscribed).await,
            Err(reason) => Err(reason),
        };
        let Err(reason) = result;
        Disconnect { was_subscribed, reason }
    }

    /// Receives events until the connection fails. Sets `subscribed` when the server accepts the subscription.
    async fn converse<S: AsyncRead + AsyncWrite>(
        &mut self,
        stream: S,
        subscribed: &mut bool,
    ) -> Result<Infallible, FeedError> {
        let (read, mut write) = tokio::io::split(stream);
        let codec = LinesCodec::new_with_max_length(LINE_MAX_BYTES);
        let mut lines = FramedRead::with_capacity(read, codec, READ_BYTES);
        greet(&mut lines, &mut write, self.options.token.as_deref()).await?;
        self.subscribe(&mut write).await?;
        let to = self.to.clone();
        let mut last_message_at = Instant::now();
        let mut is_silent = false;
        loop {
            let deadline = last_message_at + if is_silent { SILENCE_TIMEOUT } else { SILENCE_WARNING };
            tokio::select! {
                line = lines.next() => {
                    last_message_at = Instant::now();
                    if std::mem::take(&mut is_silent) {
                        self.report(ConnectionEvent::Recovered).await?;
                    }
                    let mut received = ReceivedSamples::default();
                    let result = self.handle_lines(line, &mut lines, &mut write, subscribed, &mut received).await;
                    // Before an error too: the cursor is already past these samples.
                    self.send_samples(received).await?;
                    result?;
                }
                permit = to.reserve(), if !self.waiting.is_empty() => {
                    let permit = permit.map_err(|_| FeedError::DashboardEnded)?;
                    permit.send(NetworkEvent::Samples(self.waiting.take()));
                }
                () = sleep_until(deadline) => {
                    if is_silent {
                        return Err(FeedError::Silent);
                    }
                    is_silent = true;
                    let elapsed = last_message_at.elapsed();
                    self.report(ConnectionEvent::Silent { elapsed }).await?;
                }
                () = to.closed() => return Err(FeedError::DashboardEnded),
            }
        }
    }

    /// Handles a line and those that have already arrived after it. Collects their samples in `received`.
    async fn handle_lines<S: AsyncRead + AsyncWrite>(
        &mut self,
        first: Option<Result<String, LinesCodecError>>,
        lines: &mut Lines<S>,
        write: &mut WriteHalf<S>,
        subscribed: &mut bool,
        received: &mut ReceivedSamples,
    ) -> Result<(), FeedError> {
        let mut next = Some(first);
        while let Some(line) = next {
            let line = line.ok_or(FeedError::Closed)??;
            match serde_json::from_str(&line) {
                Ok(FeedEvent::Sample { cursor, sample }) => {
                    self.cursor = Some(cursor);
                    received.samples.push(sample);
                }
                Ok(event) => {
                    // Events and samples keep the order of the feed.
                    self.send_samples(std::mem::take(received)).await?;
                    *subscribed |= matches!(event, FeedEvent::Subscribed { .. });
                    self.handle_event(event, write).await?;
                }
                // A later version of the protocol may have events that this program does not know.
                Err(_) if line.starts_with('{') => {}
                Err(_) => return Err(FeedError::NotAFeed),
            }
            if received.samples.len() >= SAMPLES_AT_ONCE {
                return Ok(());
            }
            next = lines.next().now_or_never();
        }
        Ok(())
    }

    /// Subscribes to all users, from now on or from the last cursor.
    async fn subscribe(&self, write: &mut WriteHalf<impl AsyncWrite>) -> Result<(), FeedError> {
        match &self.cursor {
            Some(cursor) => send(write, &format!("SUBSCRIBE after={cursor}")).await,
            None => send(write, "SUBSCRIBE").await,
        }
    }

    async fn handle_event(
        &mut self,
        event: FeedEvent,
        write: &mut WriteHalf<impl AsyncWrite>,
    ) -> Result<(), FeedError> {
        match event {
            FeedEvent::Subscribed { resumed, reason } => {
                let resumed = self.cursor.is_some().then_some(resumed);
                self.report(ConnectionEvent::Connected { resumed, reason }).await
            }
            FeedEvent::Lagged { missed, cursor } => {
                if self.resumed_at.is_none_or(|at| at.elapsed() >= RESUME_INTERVAL) {
                    self.resumed_at = Some(Instant::now());
                    return send(write, &format!("SUBSCRIBE after={cursor}")).await;
                }
                self.report(ConnectionEvent::Lagged { missed }).await
            }
            FeedEvent::Heartbeat { cursor, .. } => {
                self.cursor = Some(cursor);
                Ok(())
            }
            FeedEvent::Error { reason } => self.report(ConnectionEvent::CommandRefused { reason }).await,
            FeedEvent::Bye { reason } => Err(FeedError::Bye(reason)),
            _ => Ok(()),
        }
    }

    /// Sends samples to the event loop. If the channel is full, keeps the newest sample of each user for later.
    async fn send_samples(&mut self, received: ReceivedSamples) -> Result<(), FeedError> {
        if received.samples.is_empty() {
            return Ok(());
        }
        if self.options.lossless {
            return self.send_event(NetworkEvent::Samples(received)).await;
        }
        if !self.waiting.is_empty() {
            self.waiting.add(received);
            return Ok(());
        }
        match self.to.try_send(NetworkEvent::Samples(received)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(NetworkEvent::Samples(received))) => {
                self.waiting.add(received);
                Ok(())
            }
            Err(_) => Err(FeedError::DashboardEnded),
        }
    }

    /// Reports a change of the connection. Changes are rare and never dropped: they wait for the channel.
    async fn report(&self, event: ConnectionEvent) -> Result<(), FeedError> {
        self.send_event(NetworkEvent::Connection(event)).await
    }

    async fn send_event(&self, event: NetworkEvent) -> Result<(), FeedError> {
        self.to.send(event).await.map_err(|_| FeedError::DashboardEnded)
    }
}

async fn connect(addr: &str) -> Result<TcpStream, FeedError> {
    let stream = timeout(HANDSHAKE_TIMEOUT, TcpStream::connect(addr))
        .await
        .map_err(|_| FeedError::Silent)?
        .map_err(FeedError::Io)?;
    // Commands are short. The kernel must not wait for more bytes to send with them.
    stream.set_nodelay(true).map_err(FeedError::Io)?;
    Ok(stream)
}

/// Receives `hello`, and sends the token if the server requires one.
async fn greet<S: AsyncRead + AsyncWrite>(
    lines: &mut Lines<S>,
    write: &mut WriteHalf<S>,
    token: Option<&str>,
) -> Result<(), FeedError> {
    let line = timeout(HANDSHAKE_TIMEOUT, lines.next())
        .await
        .map_err(|_| FeedError::Silent)?;
    let line = line.ok_or(FeedError::Closed)??;
    match serde_json::from_str(&line) {
        Ok(FeedEvent::Hello { auth: true, .. }) => {
            let token = token.ok_or(FeedError::TokenNeeded)?;
            send(write, &format!("AUTH {token}")).await
        }
        Ok(FeedEvent::Hello { auth: false, .. }) => Ok(()),
        Ok(FeedEvent::Error { reason }) => Err(FeedError::Refused(reason)),
        Ok(FeedEvent::Bye { reason }) => Err(FeedError::Bye(reason)),
        _ => Err(FeedError::NotAFeed),
    }
}

/// Sends a command. A server that is alive reads it within the timeout.
async fn send(write: &mut WriteHalf<impl AsyncWrite>, command: &str) -> Result<(), FeedError> {
    timeout(HANDSHAKE_TIMEOUT, write.write_all(format!("{command}\n").as_bytes()))
        .await
        .map_err(|_| FeedError::Silent)?
        .map_err(FeedError::Io)
}

/// Returns the operating system's message without `(os error 111)`.
fn without_error_code(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use health_core::{HeartRate, Readings, Source, UserId};

    use super::*;

    #[test]
    fn coalescing_keeps_the_newest_sample_of_each_user() {
        let sample = |user: i64, seconds: i64, bpm: f64| {
            let readings = Readings {
                heart_rate: HeartRate::new(bpm).ok(),
                ..Readings::default()
            };
            let at = chrono::DateTime::from_timestamp(1_740_938_400 + seconds, 0).unwrap();
            Sample::new(UserId::new(user).unwrap(), at, Source::default(), readings).unwrap()
        };
        let mut newest = NewestSamples::default();
        let received = |samples| ReceivedSamples { samples, replaced: 0 };
        newest.add(received(vec![
            sample(1, 0, 60.0),
            sample(2, 0, 70.0),
            sample(1, 8, 61.0),
        ]));
        newest.add(received(vec![sample(1, 4, 99.0)]));
        let mut taken = newest.take();
        taken.samples.sort_by_key(|sample| sample.user_id().get());
        assert_eq!(taken.samples, [sample(1, 8, 61.0), sample(2, 0, 70.0)]);
        assert_eq!(taken.replaced, 2);
        assert!(newest.is_empty());
    }
}
