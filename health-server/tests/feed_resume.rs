//! Readers that come and go, two servers that are killed in turn, late and corrected samples: nobody misses anything.

#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use health_core::{Cursor, FeedEvent, Sample, Steps, UserId};
use test_support::TestDatabase;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::{Notify, watch},
    time::timeout,
};
use tokio_postgres::{Client, NoTls};

const PATIENCE: Duration = Duration::from_mins(1);

const WRITERS: i64 = 4;
const USERS_A_WRITER: i64 = 3;
const POSTS_A_WRITER: i64 = 150;
const READERS: usize = 6;
const KILLS: usize = 8;

/// Everything that was ever committed, told by the database itself.
const AUDIT: &str = "CREATE TABLE audit AS SELECT user_id, timestamp, source, steps FROM health_metrics WITH NO DATA; \
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
    INSERT INTO audit VALUES (NEW.user_id, NEW.timestamp, NEW.source, NEW.steps); RETURN NEW; END'; \
    CREATE TRIGGER audit AFTER INSERT OR UPDATE ON health_metrics FOR EACH ROW EXECUTE FUNCTION audit()";

/// What tells a sample from others, and its version.
type Key = (i64, String, String);
type Versions = BTreeMap<Key, i32>;

/// The two servers, as those see them who talk to them.
#[derive(Default)]
struct Field {
    addresses: Mutex<[Option<(String, String)>; 2]>,
    posts: AtomicUsize,
    posted: Notify,
}

impl Field {
    /// One of those that are up, if any is.
    fn any(&self) -> Option<(String, String)> {
        let addresses = self.addresses.lock().unwrap();
        let up: Vec<_> = addresses.iter().flatten().cloned().collect();
        fastrand::choice(up)
    }

    async fn posts(&self, count: usize) {
        loop {
            let posted = self.posted.notified();
            if self.posts.load(SeqCst) >= count {
                return;
            }
            timeout(PATIENCE, posted).await.expect("a post in time");
        }
    }
}

async fn sql(database: &TestDatabase) -> Client {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn serve(database: &TestDatabase) -> (Child, (String, String)) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_health-server"))
        .args([
            "--http",
            "127.0.0.1:0",
            "--feed",
            "127.0.0.1:0",
            "--database-url",
            database.url(),
        ])
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    timeout(PATIENCE, out.read_line(&mut line)).await.unwrap().unwrap();
    let addresses = line.trim_end().strip_prefix("listening http=http://");
    let (http, feed) = addresses.and_then(|rest| rest.split_once(" feed=")).unwrap();
    (child, (http.to_owned(), feed.to_owned()))
}

/// Posts until somebody says that it is stored.
async fn post(field: &Field, body: &str) {
    loop {
        let Some((http, _)) = field.any() else {
            tokio::task::yield_now().await;
            continue;
        };
        let answered = async {
            let mut stream = TcpStream::connect(&http).await?;
            let head = format!(
                "POST /ingest HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + body).as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        if timeout(PATIENCE, answered)
            .await
            .expect("an answer in time")
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            break;
        }
    }
    field.posts.fetch_add(1, SeqCst);
    field.posted.notify_waiters();
}

/// Writes a few users, now this sample, now that one, each post with a number of its own as the steps.
async fn write(field: Arc<Field>, writer: i64) {
    for number in 1..=POSTS_A_WRITER {
        let mut records = BTreeSet::new();
        for _ in 0..fastrand::i64(1..=5) {
            let user = 1 + writer * USERS_A_WRITER + fastrand::i64(0..USERS_A_WRITER);
            let time = format!("2025-03-02T18:{:02}:00Z", fastrand::i64(0..30));
            let source = ["", "watch"][fastrand::usize(0..2)];
            records.insert(format!(
                r#"{{"user_id":{user},"timestamp":"{time}","source":"{source}","steps":{number}}}"#
            ));
        }
        let body: String = records.into_iter().map(|record| record + "\n").collect();
        post(&field, &body).await;
    }
}

fn key(sample: &Sample) -> Key {
    let time = health_core::format_timestamp(sample.timestamp());
    (sample.user_id().get(), time, sample.source().to_string())
}

struct Reader {
    field: Arc<Field>,
    users: Option<BTreeSet<i64>>,
    cursor: Cursor,
    newest: Versions,
    heard: BTreeSet<(Key, i32)>,
    connections: usize,
    done: watch::Receiver<Option<Arc<Versions>>>,
}

impl Reader {
    /// Reads until it has the last version of everything; gives back all it ever heard.
    async fn run(mut self) -> BTreeSet<(Key, i32)> {
        while !self.has_all() {
            let Some((_, feed)) = self.field.any() else {
                tokio::task::yield_now().await;
                continue;
            };
            // A server that is killed ends the connection; what counts is the cursor. Heartbeats are no progress.
            let ended = timeout(PATIENCE, self.listen(&feed)).await;
            assert!(
                ended.is_ok(),
                "behind {} still missing {:?}",
                self.cursor,
                self.missing()
            );
            self.connections += 1;
        }
        assert!(self.connections > 1, "a test of coming and going");
        self.heard
    }

    async fn listen(&mut self, feed: &str) -> std::io::Result<()> {
        // As long as there is writing it leaves at random; behind that it stays.
        let mut done = self.done.clone();
        let finished = done.borrow_and_update().is_some();
        let most = if finished { usize::MAX } else { fastrand::usize(1..200) };
        let mut lines = BufReader::new(TcpStream::connect(feed).await?);
        let users = self.users.as_ref().map_or(String::new(), |users| {
            let users: Vec<_> = users.iter().map(i64::to_string).collect();
            format!(" users={}", users.join(","))
        });
        let subscribe = format!("SUBSCRIBE{users} after={}\n", self.cursor);
        lines.get_mut().write_all(subscribe.as_bytes()).await?;
        let mut latest: HashMap<UserId, i32> = HashMap::new();
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
                panic!("nothing in {PATIENCE:?}, still missing {:?}", self.missing());
            };
            if read? == 0 {
                return Ok(());
            }
            let Ok(event) = serde_json::from_str(&line) else {
                return Ok(()); // Cut off by a kill.
            };
            match event {
                FeedEvent::Sample { cursor, sample } => {
                    let number = sample.steps().map_or(0, Steps::get);
                    let before = latest.insert(sample.user_id(), number);
                    assert!(
                        before <= Some(number),
                        "in the order of commits: {before:?}, then {sample:?}"
                    );
                    self.cursor = cursor;
                    self.heard.insert((key(&sample), number));
                    self.newest.insert(key(&sample), number);
                }
                FeedEvent::Heartbeat { cursor, .. } => self.cursor = cursor,
                FeedEvent::Subscribed { resumed, reason } => assert!(resumed, "{reason:?}"),
                FeedEvent::Hello { .. } => {}
                other => panic!("unexpected: {other:?}"),
            }
            if self.has_all() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn wants(&self, user: i64) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(&user))
    }

    fn has_all(&self) -> bool {
        self.done.borrow().is_some() && self.missing().is_empty()
    }

    fn missing(&self) -> Vec<Key> {
        let done = self.done.borrow();
        let all = done.iter().flat_map(|done| done.iter());
        let wanted = all.filter(|(key, _)| self.wants(key.0));
        let missing = wanted.filter(|(key, version)| self.newest.get(*key) != Some(*version));
        missing.map(|(key, _)| key.clone()).collect()
    }
}

async fn versions(client: &Client, table: &str) -> Vec<(Key, i32)> {
    let query = format!(
        "SELECT user_id, to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), source, steps FROM {table}"
    );
    let rows = client.query(&query, &[]).await.unwrap();
    let version = |row: &tokio_postgres::Row| ((row.get(0), row.get(1), row.get(2)), row.get(3));
    rows.iter().map(version).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_misses_anything_whoever_is_killed() {
    let database = TestDatabase::new().await;
    let client = sql(&database).await;
    client.batch_execute(AUDIT).await.unwrap();
    let field = Arc::new(Field::default());
    let (mut one, addresses) = serve(&database).await;
    let mut hello = String::new();
    let mut first = BufReader::new(TcpStream::connect(&addresses.1).await.unwrap());
    first.read_line(&mut hello).await.unwrap();
    let Ok(FeedEvent::Hello { cursor, .. }) = serde_json::from_str(&hello) else {
        panic!("{hello}");
    };
    field.addresses.lock().unwrap()[0] = Some(addresses);
    let (mut other, addresses) = serve(&database).await;
    field.addresses.lock().unwrap()[1] = Some(addresses);

    let (finish, done) = watch::channel(None);
    let users = WRITERS * USERS_A_WRITER;
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let some = (number % 2 == 1).then(|| (1..=users).filter(|_| fastrand::bool()).collect());
            let reader = Reader {
                field: Arc::clone(&field),
                users: some,
                cursor: cursor.clone(),
                newest: Versions::new(),
                heard: BTreeSet::new(),
                connections: 0,
                done: done.clone(),
            };
            tokio::spawn(reader.run())
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(Arc::clone(&field), writer)))
        .collect();

    let all = usize::try_from(WRITERS * POSTS_A_WRITER).unwrap();
    for kill in 1..=KILLS {
        field.posts(kill * all / (KILLS + 1)).await;
        let (place, child) = if kill % 2 == 0 { (0, &mut one) } else { (1, &mut other) };
        child.kill().await.unwrap();
        field.addresses.lock().unwrap()[place] = None;
        let (again, addresses) = serve(&database).await;
        *child = again;
        field.addresses.lock().unwrap()[place] = Some(addresses);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let last: Versions = versions(&client, "health_metrics").await.into_iter().collect();
    finish.send_replace(Some(Arc::new(last)));
    let committed: BTreeSet<_> = versions(&client, "audit").await.into_iter().collect();
    for reader in readers {
        let heard = timeout(PATIENCE * 2, reader).await.expect("an end in time").unwrap();
        let invented: Vec<_> = heard.difference(&committed).collect();
        assert!(invented.is_empty(), "never committed: {invented:?}");
    }
}
