//! Readers of the feed, over TCP and over HTTP. They leave, change the server, read nothing for a while, and resume.

use examples::Result;
use fastrand::Rng;
use health_core::{
    Cursor, FeedEvent,
    client::{FeedClient, FeedOptions, FeedUpdate},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    time::{Duration, Instant, sleep, timeout},
};

use crate::{ledger::Ledger, servers::RunningServers};

/// The server sends an event at least every five seconds.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The longest stay on one server, and the longest pauses without a connection and without reading, in seconds.
const STAY_MAX: f64 = 90.0;
const BREAK_MAX: f64 = 15.0;

/// How a reader gets its events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Transport {
    Lines,
    Stream,
}

pub(crate) struct Reader {
    pub(crate) transport: Transport,
    pub(crate) ledger: Ledger,
    pub(crate) servers: RunningServers,
    /// True until the soak has stopped writing. Afterwards readers stay.
    pub(crate) leaves: watch::Receiver<bool>,
    /// Set when the reader has its first cursor.
    pub(crate) subscribed: watch::Sender<usize>,
    rng: Rng,
    cursor: Option<Cursor>,
}

impl Reader {
    pub(crate) fn new(
        transport: Transport,
        ledger: Ledger,
        servers: RunningServers,
        leaves: watch::Receiver<bool>,
        subscribed: watch::Sender<usize>,
    ) -> Self {
        Self {
            transport,
            ledger,
            servers,
            leaves,
            subscribed,
            rng: Rng::new(),
            cursor: None,
        }
    }

    /// Reads until it is dropped, or until a promise of the feed is broken.
    pub(crate) async fn run(mut self) -> Result<()> {
        loop {
            let end = Instant::now() + Duration::from_secs_f64(self.rng.f64() * STAY_MAX);
            match self.transport {
                Transport::Lines => self.read_lines(end).await?,
                // A killed server ends the connection, perhaps within a line.
                Transport::Stream => match self.read_stream(end).await {
                    Ok(()) | Err(Ended::Connection) => {}
                    Err(Ended::Promise(broken)) => return Err(broken.into()),
                },
            }
            let pause = if *self.leaves.borrow() {
                self.rng.f64() * BREAK_MAX
            } else {
                0.2
            };
            sleep(Duration::from_secs_f64(pause)).await;
        }
    }

    /// Returns whether the reader should leave now.
    fn leaves(&self, end: Instant) -> bool {
        *self.leaves.borrow() && Instant::now() > end
    }

    /// Notes that the reader has a cursor: from here on, it must get everything.
    fn has_subscribed(&mut self, cursor: Option<Cursor>) {
        if self.cursor.is_none() && cursor.is_some() {
            self.subscribed.send_modify(|readers| *readers += 1);
        }
        self.cursor = cursor.or(self.cursor.take());
    }

    /// Returns when to stop reading for some seconds, on every second connection.
    fn time_of_rest(&mut self, end: Instant) -> Option<Instant> {
        let stay = end.saturating_duration_since(Instant::now());
        self.rng.bool().then(|| Instant::now() + stay.mul_f64(self.rng.f64()))
    }

    /// Reads nothing for some seconds if it is time, so that the server must skip samples.
    async fn rest(&mut self, time: &mut Option<Instant>) {
        if *self.leaves.borrow() && time.is_some_and(|time| Instant::now() > time) {
            *time = None;
            sleep(Duration::from_secs_f64(self.rng.f64() * BREAK_MAX)).await;
        }
    }

    async fn read_lines(&mut self, end: Instant) -> Result<()> {
        let mut client = FeedClient::new(FeedOptions {
            address: self.servers.any().await?.feed.to_string(),
            after: self.cursor.clone(),
            ..FeedOptions::default()
        });
        let mut rest = self.time_of_rest(end);
        while !self.leaves(end) {
            let update = client.next().await;
            self.has_subscribed(client.cursor().cloned());
            match update {
                FeedUpdate::Samples(samples) => self.ledger.received(&samples),
                FeedUpdate::Erased(erasure) => self.ledger.erased(&erasure),
                FeedUpdate::Connected {
                    resumed: Some(false),
                    reason,
                } => return Err(self.gap(reason).into()),
                FeedUpdate::Disconnected { .. } => break,
                _ => {}
            }
            self.rest(&mut rest).await;
        }
        Ok(())
    }

    async fn read_stream(&mut self, end: Instant) -> std::result::Result<(), Ended> {
        let server = self.servers.any().await.map_err(|_| Ended::Connection)?;
        let mut feed = BufReader::new(TcpStream::connect(server.http).await?);
        let resume = self
            .cursor
            .as_ref()
            .map_or(String::new(), |cursor| format!("last-event-id: {cursor}\r\n"));
        // A body of HTTP/1.0 has no chunks, so its lines are those of the stream.
        let request = format!("GET /feed HTTP/1.0\r\nhost: localhost\r\n{resume}\r\n");
        feed.get_mut().write_all(request.as_bytes()).await?;
        let (mut line, mut id) = (String::new(), None);
        let mut rest = self.time_of_rest(end);
        while !self.leaves(end) {
            line.clear();
            let read = timeout(SILENCE_MAX, feed.read_line(&mut line)).await;
            if read.map_err(|_| Ended::Connection)?? == 0 || !line.ends_with('\n') {
                return Err(Ended::Connection);
            }
            let text = line.trim_end();
            if let Some(cursor) = text.strip_prefix("id: ") {
                id = Some(Cursor::new(cursor));
            } else if let Some(json) = text.strip_prefix("data: ") {
                let event = serde_json::from_str(json).map_err(|error| Ended::Promise(format!("{error}: {json}")))?;
                self.handle(event)?;
                self.rest(&mut rest).await;
            } else if text.is_empty() {
                // The event is complete.
                self.has_subscribed(id.take());
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: FeedEvent) -> std::result::Result<(), Ended> {
        match event {
            FeedEvent::Sample { sample, .. } => self.ledger.received(&[sample]),
            FeedEvent::Erased { erasure, .. } => self.ledger.erased(&erasure),
            FeedEvent::Subscribed { resumed: false, reason } if self.cursor.is_some() => {
                return Err(Ended::Promise(self.gap(reason)));
            }
            FeedEvent::Lagged { cursor, .. } => {
                self.cursor = Some(cursor);
                return Err(Ended::Connection);
            }
            FeedEvent::Bye { .. } => return Err(Ended::Connection),
            _ => {}
        }
        Ok(())
    }

    fn gap(&self, reason: Option<String>) -> String {
        let (reader, reason) = (self.ledger.reader, reason.unwrap_or_default());
        format!(
            "the feed reader {reader:?} could not resume after {:?}: {reason}",
            self.cursor
        )
    }
}

/// Why a stream was left.
enum Ended {
    /// The connection has ended. The reader resumes.
    Connection,
    /// The server has broken a promise.
    Promise(String),
}

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Self {
        Self::Connection
    }
}
