//! The model client of the feed, as a program: over a server that ends, over a pipe that nobody reads any more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::HashSet, env, process::Stdio, time::Duration};

use health_core::{Config, Health, Readings, Sample, Source, Steps, UserId};
use health_server::{Listeners, ServerLimits, run};
use test_support::TestDatabase;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    health: Health,
    feed: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Server {
    async fn start(database: &TestDatabase, feed: &str) -> Self {
        let config = Config::from_url(database.url()).unwrap();
        let health = Health::open(config).await.unwrap();
        let listeners = Listeners::bind("127.0.0.1:0", feed).await.unwrap();
        let feed = listeners.feed_address().to_string();
        let (stop, stopped) = oneshot::channel();
        let serving = run(listeners, health.clone(), ServerLimits::default(), async {
            let _ = stopped.await;
        });
        Self {
            health,
            feed,
            stop,
            running: tokio::spawn(async { serving.await.unwrap() }),
        }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }

    async fn ingest(&self, user: i64, version: i64) {
        self.health.ingest([sample(user, version)]).await.unwrap();
    }
}

fn sample(user: i64, version: i64) -> Sample {
    let readings = Readings {
        steps: Some(Steps::new(version).unwrap()),
        ..Readings::default()
    };
    Sample::new(
        UserId::new(user).unwrap(),
        Sample::EARLIEST,
        Source::default(),
        readings,
    )
    .unwrap()
}

/// What it prints of such a sample.
fn line(user: i64, version: i64) -> String {
    serde_json::to_string(&sample(user, version)).unwrap()
}

fn tail(feed: &str) -> Command {
    // Beside this test's own directory, where Cargo builds the examples.
    let mut program = env::current_exe().unwrap();
    program.pop();
    program.pop();
    let mut command = Command::new(program.join("examples/tail"));
    command
        .args(["--feed", feed])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// One that has printed a first sample: until then nobody knows whether it has subscribed.
async fn following(server: &Server) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = tail(&server.feed).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for version in 1.. {
        server.ingest(1, version).await;
        let next = timeout(Duration::from_millis(50), lines.next_line()).await;
        if let Ok(first) = next {
            let mut last = first.unwrap().unwrap();
            while last != line(1, version) {
                last = next_line(&mut lines).await;
            }
            break;
        }
    }
    (child, lines)
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let next = timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
    next.unwrap().expect("a line")
}

/// The next line that was not there before: what is resumed may be repeated, which is what "at least once" means.
async fn next_new(lines: &mut Lines<BufReader<ChildStdout>>, seen: &mut HashSet<String>) -> String {
    loop {
        let line = next_line(lines).await;
        if seen.insert(line.clone()) {
            return line;
        }
    }
}

#[tokio::test]
async fn it_misses_nothing_while_servers_end_and_come_back() {
    let database = TestDatabase::new().await;
    let mut server = Server::start(&database, "127.0.0.1:0").await;
    let (mut child, mut lines) = following(&server).await;
    let feed = server.feed.clone();
    // A first sample was printed in some versions before.
    let mut seen: HashSet<String> = (1..=1_000).map(|version| line(1, version)).collect();
    for round in 2..5 {
        server.stop().await;
        // Stored while it has nobody to listen to.
        let other = Server::start(&database, "127.0.0.1:0").await;
        other.ingest(round, 1).await;
        other.stop().await;
        server = Server::start(&database, &feed).await;
        assert_eq!(next_new(&mut lines, &mut seen).await, line(round, 1));
        server.ingest(round, 2).await;
        assert_eq!(next_new(&mut lines, &mut seen).await, line(round, 2));
    }
    // Asked to end, it says how to go on.
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).await.unwrap();
    let (_, cursor) = told.rsplit_once("--after ").unwrap();
    server.ingest(9, 9).await;
    let mut again = tail(&feed).args(["--after", cursor.trim()]).spawn().unwrap();
    let mut lines = BufReader::new(again.stdout.take().unwrap()).lines();
    assert_eq!(next_new(&mut lines, &mut seen).await, line(9, 9));
    server.stop().await;
}

#[tokio::test]
async fn it_ends_with_whoever_reads_it_and_with_what_cannot_be_mended() {
    let database = TestDatabase::new().await;
    let server = Server::start(&database, "127.0.0.1:0").await;
    let (mut child, lines) = following(&server).await;
    drop(lines);
    // Without another sample as well: at the next heartbeat.
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());

    for (feed, users, part) in [
        (server.feed.as_str(), "none", "not a list of user ids"),
        ("127.0.0.1", "1", "127.0.0.1:8001"),
    ] {
        let ended = timeout(PATIENCE, tail(feed).args(["--users", users]).output());
        let ended = ended.await.unwrap().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && told.contains(part), "{told}");
    }
    server.stop().await;
}
