//! A reader that drops its connection at random and resumes, on whichever server there is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    sync::Arc,
};

use fastrand::Rng;
use health_core::{Cursor, FeedEvent, UserId};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    task::yield_now,
    time::timeout,
};

use crate::feed::{
    pair::{Addresses, PATIENCE},
    version::{Key, Version, version},
};

/// What every sample was in the end, once that is known.
pub(crate) type Done = watch::Receiver<Option<Arc<BTreeMap<Key, Version>>>>;

pub(crate) struct Reader {
    rng: Rng,
    users: Option<BTreeSet<i64>>,
    cursor: Cursor,
    addresses: Addresses,
    done: Done,
    newest: BTreeMap<Key, Version>,
    /// What it still has to hear, once that is known.
    missing: Option<BTreeSet<Key>>,
    heard: Heard,
}

/// All that one reader ever heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) versions: BTreeSet<(Key, Version)>,
    pub(crate) lines: usize,
    pub(crate) connections: usize,
}

impl Reader {
    pub(crate) fn new(
        rng: Rng,
        users: Option<BTreeSet<i64>>,
        cursor: Cursor,
        addresses: Addresses,
        done: Done,
    ) -> Self {
        Self {
            rng,
            users,
            cursor,
            addresses,
            done,
            newest: BTreeMap::new(),
            missing: None,
            heard: Heard::default(),
        }
    }

    /// Reads until it has the last version of everything; gives back all it ever heard.
    pub(crate) async fn run(mut self) -> Heard {
        while !self.has_all() {
            // A server that is killed ends the connection, perhaps within a line; what counts is the cursor.
            if self.listen().await.is_err() {
                yield_now().await;
            }
        }
        assert!(self.heard.connections > 1, "a test of coming and going");
        self.heard
    }

    async fn listen(&mut self) -> io::Result<()> {
        // As long as there is writing it leaves at random; behind that it stays, as far as it is let.
        let mut done = self.done.clone();
        done.mark_unchanged();
        self.look_what_is_missing();
        let most = match self.missing {
            Some(_) => usize::MAX,
            None => self.rng.usize(1..2000),
        };
        let address = self.addresses.any(&mut self.rng).await.feed;
        let mut lines = BufReader::new(TcpStream::connect(address).await?);
        lines.get_mut().write_all(self.subscribe().as_bytes()).await?;
        self.heard.connections += 1;
        let mut latest = HashMap::new();
        let mut line = String::new();
        for _ in 0..most {
            line.clear();
            let read = timeout(PATIENCE, async {
                tokio::select! {
                    read = lines.read_line(&mut line) => read,
                    _ = done.changed() => Ok(0),
                }
            });
            let Ok(read) = read.await else {
                panic!(
                    "nothing in {PATIENCE:?} behind {}, still missing {:?}",
                    self.cursor, self.missing
                );
            };
            if read? == 0 || !line.ends_with('\n') {
                return Ok(());
            }
            let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if !self.take(event, &mut latest) || self.has_all() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether it goes on.
    fn take(&mut self, event: FeedEvent, latest: &mut HashMap<UserId, i32>) -> bool {
        match event {
            FeedEvent::Sample { cursor, sample } => {
                let (key, version) = version(&sample);
                assert!(self.wants(key.0), "nobody asked for {sample:?}");
                let number = version.1.unwrap();
                let before = latest.insert(sample.user_id(), number);
                assert!(
                    before <= Some(number),
                    "in the order of commits: {before:?}, then {sample:?}"
                );
                self.cursor = cursor;
                self.heard.lines += 1;
                self.heard.versions.insert((key.clone(), version.clone()));
                if let (Some(missing), Some(last)) = (&mut self.missing, &*self.done.borrow()) {
                    if last.get(&key) == Some(&version) {
                        missing.remove(&key);
                    } else {
                        missing.insert(key.clone());
                    }
                }
                self.newest.insert(key, version);
            }
            FeedEvent::Heartbeat { cursor, .. } => self.cursor = cursor,
            FeedEvent::Subscribed { resumed, reason } => assert!(resumed, "{reason:?}"),
            FeedEvent::Hello { .. } => {}
            FeedEvent::Lagged { missed, cursor } => {
                assert!(missed > 0);
                self.cursor = cursor;
                return false;
            }
            FeedEvent::Bye { .. } => return false,
            other => panic!("unexpected: {other:?}"),
        }
        true
    }

    fn subscribe(&self) -> String {
        let users = self.users.as_ref().map_or(String::new(), |users| {
            let users: Vec<_> = users.iter().map(i64::to_string).collect();
            format!(" users={}", users.join(","))
        });
        format!("SUBSCRIBE{users} after={}\n", self.cursor)
    }

    fn wants(&self, user: i64) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(&user))
    }

    fn has_all(&self) -> bool {
        self.missing.as_ref().is_some_and(BTreeSet::is_empty)
    }

    fn look_what_is_missing(&mut self) {
        let done = self.done.borrow();
        let (None, Some(last)) = (&self.missing, &*done) else {
            return;
        };
        let wanted = last.iter().filter(|(key, _)| self.wants(key.0));
        let missing = wanted.filter(|(key, version)| self.newest.get(*key) != Some(*version));
        let missing = missing.map(|(key, _)| key.clone()).collect();
        drop(done);
        self.missing = Some(missing);
    }
}
