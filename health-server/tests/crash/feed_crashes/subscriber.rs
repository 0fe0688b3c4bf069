//! A subscriber that disconnects at random and resumes on any running server.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    sync::Arc,
};

use fastrand::Rng;
use health_core::{Cursor, Erasure, FeedEvent, Sample, Source, UserId, parse_timestamp};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    task::yield_now,
    time::timeout,
};

use crate::feed_crashes::{
    two_servers::{RunningServers, TIMEOUT},
    version::{Identity, Version, version},
};

/// The stored version of every sample. `None` until all writers have ended.
pub(crate) type FinalVersions = watch::Receiver<Option<Arc<BTreeMap<Identity, Version>>>>;

/// How a subscriber gets its events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Transport {
    /// Lines over TCP.
    Lines,
    /// Server-sent events over HTTP.
    Stream,
}

/// A subscriber that checks what it receives.
pub(crate) struct Subscriber {
    rng: Rng,
    transport: Transport,
    /// The users that it subscribes to; `None` means all users.
    users: Option<BTreeSet<i64>>,
    /// The cursor that it resumes from.
    cursor: Cursor,
    servers: RunningServers,
    final_versions: FinalVersions,
    /// The last received version of each sample.
    newest: BTreeMap<Identity, Version>,
    /// The samples whose final version it has not received, or that it holds although they were erased. `None` until
    /// the final versions are known.
    missing: Option<BTreeSet<Identity>>,
    received: Received,
}

/// Everything that one subscriber received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) versions: BTreeSet<(Identity, Version)>,
    pub(crate) samples: usize,
    pub(crate) erasures: usize,
    pub(crate) connections: usize,
}

impl Subscriber {
    pub(crate) fn new(
        rng: Rng,
        transport: Transport,
        users: Option<BTreeSet<i64>>,
        cursor: Cursor,
        servers: RunningServers,
        final_versions: FinalVersions,
    ) -> Self {
        Self {
            rng,
            transport,
            users,
            cursor,
            servers,
            final_versions,
            newest: BTreeMap::new(),
            missing: None,
            received: Received::default(),
        }
    }

    /// Receives until it has the final version of every sample of its users.
    pub(crate) async fn run(mut self) -> Received {
        while !self.has_everything() {
            // A killed server ends the connection, perhaps within a line. The cursor tells where to resume.
            if self.connect_and_receive().await.is_err() {
                yield_now().await;
            }
        }
        assert!(self.received.connections > 1, "the subscriber must have resumed");
        self.received
    }

    /// Connects, resumes from the cursor, and receives until the connection ends or the subscriber drops it.
    async fn connect_and_receive(&mut self) -> io::Result<()> {
        let mut final_versions = self.final_versions.clone();
        final_versions.mark_unchanged();
        self.update_missing();
        // While the writers write, the subscriber leaves after a random number of lines. After that, it stays.
        let lines_max = match self.missing {
            Some(_) => usize::MAX,
            None => self.rng.usize(1..2000),
        };
        let server = self.servers.any(&mut self.rng).await;
        let (address, request) = match self.transport {
            Transport::Lines => (server.feed, self.subscribe_command()),
            Transport::Stream => (server.http, self.stream_request()),
        };
        let mut feed = BufReader::new(TcpStream::connect(address).await?);
        feed.get_mut().write_all(request.as_bytes()).await?;
        self.received.connections += 1;
        let mut last_request = HashMap::new();
        let mut line = String::new();
        for _ in 0..lines_max {
            line.clear();
            let read = timeout(TIMEOUT, async {
                tokio::select! {
                    read = feed.read_line(&mut line) => read,
                    // Reconnects, to find out what is missing.
                    _ = final_versions.changed() => Ok(0),
                }
            });
            let Ok(read) = read.await else {
                panic!(
                    "no line within {TIMEOUT:?} after cursor {}; still missing: {:?}",
                    self.cursor, self.missing
                );
            };
            if read? == 0 || !line.ends_with('\n') {
                return Ok(());
            }
            let Some(event) = self.event_of(line.trim_end()) else {
                continue;
            };
            let event = serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {line}"));
            if !self.handle(event, &mut last_request) || self.has_everything() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns the JSON of the event that a line has, if it has one. Keeps the id of a server-sent event.
    fn event_of<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if self.transport == Transport::Lines {
            return Some(line);
        }
        if let Some(id) = line.strip_prefix("id: ") {
            self.cursor = Cursor::new(id);
        }
        assert!(!line.starts_with("HTTP/") || line.ends_with("200 OK"), "{line}");
        line.strip_prefix("data: ")
    }

    /// Handles an event. Returns whether the connection can go on.
    fn handle(&mut self, event: FeedEvent, last_request: &mut HashMap<UserId, i32>) -> bool {
        match event {
            FeedEvent::Hello { .. } => {}
            FeedEvent::Subscribed { resumed, reason } => assert!(resumed, "{reason:?}"),
            FeedEvent::Sample { cursor, sample } => {
                self.cursor = cursor;
                self.handle_sample(&sample, last_request);
            }
            FeedEvent::Erased { cursor, erasure } => {
                self.cursor = cursor;
                self.handle_erasure(&erasure);
            }
            FeedEvent::Heartbeat { cursor, .. } => self.cursor = cursor,
            FeedEvent::Lagged { missed, cursor } => {
                assert!(missed > 0);
                self.cursor = cursor;
                return false;
            }
            FeedEvent::Bye { .. } => return false,
            other => panic!("unexpected event: {other:?}"),
        }
        true
    }

    /// Checks that a sample was subscribed to and comes in commit order, and notes its version.
    fn handle_sample(&mut self, sample: &Sample, last_request: &mut HashMap<UserId, i32>) {
        let (identity, version) = version(sample);
        assert!(self.is_subscribed_to(identity.0), "not subscribed to {sample:?}");
        // The steps of a sample are the number of its request, see `writer`.
        let request = version.1.unwrap();
        let previous = last_request.insert(sample.user_id(), request);
        assert!(
            previous <= Some(request),
            "not in commit order: request {previous:?} came before {sample:?}"
        );
        self.received.samples += 1;
        self.received.versions.insert((identity.clone(), version.clone()));
        if let (Some(missing), Some(final_versions)) = (&mut self.missing, &*self.final_versions.borrow()) {
            if final_versions.get(&identity) == Some(&version) {
                missing.remove(&identity);
            } else {
                missing.insert(identity.clone());
            }
        }
        self.newest.insert(identity, version);
    }

    /// Drops what was erased. What is stored in the end comes again after the erasure.
    fn handle_erasure(&mut self, erasure: &Erasure) {
        let user = erasure.user_id().get();
        assert!(self.is_subscribed_to(user), "not subscribed to {erasure:?}");
        self.received.erasures += 1;
        let is_erased = |(of, timestamp, source): &Identity| {
            let (time, source) = (parse_timestamp(timestamp).unwrap(), Source::new(source).unwrap());
            *of == user && erasure.covers_reading(time, &source)
        };
        let erased: Vec<_> = self
            .newest
            .keys()
            .filter(|identity| is_erased(identity))
            .cloned()
            .collect();
        for identity in erased {
            self.newest.remove(&identity);
            if let (Some(missing), Some(final_versions)) = (&mut self.missing, &*self.final_versions.borrow()) {
                if final_versions.contains_key(&identity) {
                    missing.insert(identity);
                } else {
                    missing.remove(&identity);
                }
            }
        }
    }

    fn subscribe_command(&self) -> String {
        format!("SUBSCRIBE{} after={}\n", self.users_option(' '), self.cursor)
    }

    /// A body of HTTP/1.0 has no chunks, so its lines are those of the stream.
    fn stream_request(&self) -> String {
        let (users, cursor) = (self.users_option('?'), &self.cursor);
        format!("GET /feed{users} HTTP/1.0\r\nhost: localhost\r\nlast-event-id: {cursor}\r\n\r\n")
    }

    fn users_option(&self, separator: char) -> String {
        self.users.as_ref().map_or(String::new(), |users| {
            let users: Vec<_> = users.iter().map(i64::to_string).collect();
            format!("{separator}users={}", users.join(","))
        })
    }

    fn is_subscribed_to(&self, user: i64) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(&user))
    }

    fn has_everything(&self) -> bool {
        self.missing.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// Computes what is missing, once the final versions are known.
    fn update_missing(&mut self) {
        if self.missing.is_some() {
            return;
        }
        let missing = self.final_versions.borrow().as_ref().map(|final_versions| {
            let wanted = final_versions
                .iter()
                .filter(|(identity, _)| self.is_subscribed_to(identity.0));
            let missing = wanted.filter(|(identity, version)| self.newest.get(*identity) != Some(*version));
            let missing = missing.map(|(identity, _)| identity);
            // The erasures of these are still to come.
            let held = self
                .newest
                .keys()
                .filter(|identity| !final_versions.contains_key(*identity));
            missing.chain(held).cloned().collect()
        });
        self.missing = missing;
    }
}
