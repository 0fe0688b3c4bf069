//! The example `tail` as a program: with servers that stop and come back, and with an output that is closed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::HashSet, env, process::Stdio, time::Duration};

use health_core::{Config, Health, Readings, Sample, Source, Steps, UserId};
use health_server::{Listeners, ServerLimits, run};
use test_support::{ReservedPort, TestDatabase};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// Longer than any step of a test takes.
const TIMEOUT: Duration = Duration::from_secs(90);

struct Server {
    health: Health,
    feed: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

/// The lines that `tail` prints.
type Output = Lines<BufReader<ChildStdout>>;

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

/// Returns the only sample of a user. Its steps are the version, so that each version changes the stored sample.
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

/// Returns the line that `tail` prints for a sample.
fn line(user: i64, version: i64) -> String {
    serde_json::to_string(&sample(user, version)).unwrap()
}

/// Returns a command for the example, which `cargo test` builds next to the tests.
fn tail(feed: &str) -> Command {
    let this_test = env::current_exe().unwrap();
    let program = this_test.ancestors().nth(2).unwrap().join("examples/tail");
    let mut command = Command::new(program);
    command
        .args(["--feed", feed])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts `tail` and waits until it has printed a sample, because only that shows that it has subscribed.
async fn start_tail(server: &Server) -> (Child, Output) {
    let mut child = tail(&server.feed).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    for version in 1.. {
        server.ingest(1, version).await;
        let next = timeout(Duration::from_millis(50), output.next_line()).await;
        if let Ok(first) = next {
            let mut last = first.unwrap().unwrap();
            while last != line(1, version) {
                last = next_line(&mut output).await;
            }
            break;
        }
    }
    (child, output)
}

async fn next_line(output: &mut Output) -> String {
    let next = timeout(TIMEOUT, output.next_line()).await.expect("a line in time");
    next.unwrap().expect("a line")
}

/// Returns the next line that was not printed before. Delivery is "at least once", so a resumed stream may repeat
/// lines.
async fn next_new_line(output: &mut Output, printed: &mut HashSet<String>) -> String {
    loop {
        let line = next_line(output).await;
        if printed.insert(line.clone()) {
            return line;
        }
    }
}

#[tokio::test]
async fn it_misses_no_sample_while_servers_stop_and_come_back() {
    let database = TestDatabase::new().await;
    let port = ReservedPort::new();
    let feed = port.address().to_string();
    let mut server = Server::start(&database, &feed).await;
    let (mut child, mut output) = start_tail(&server).await;
    // Any version of the sample of user 1 may have been printed while `tail` started.
    let mut printed: HashSet<String> = (1..=1_000).map(|version| line(1, version)).collect();
    for user in 2..5 {
        server.stop().await;
        // Another server stores a sample while `tail` has no connection.
        let other = Server::start(&database, "127.0.0.1:0").await;
        other.ingest(user, 1).await;
        other.stop().await;
        server = Server::start(&database, &feed).await;
        assert_eq!(next_new_line(&mut output, &mut printed).await, line(user, 1));
        server.ingest(user, 2).await;
        assert_eq!(next_new_line(&mut output, &mut printed).await, line(user, 2));
    }
    // On SIGINT it prints the cursor from which another run can continue.
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(timeout(TIMEOUT, child.wait()).await.unwrap().unwrap().success());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
    let (_, cursor) = stderr.rsplit_once("--after ").unwrap();
    server.ingest(9, 9).await;
    let mut second_run = tail(&feed).args(["--after", cursor.trim()]).spawn().unwrap();
    let mut output = BufReader::new(second_run.stdout.take().unwrap()).lines();
    assert_eq!(next_new_line(&mut output, &mut printed).await, line(9, 9));
    server.stop().await;
}

/// Before the outage the client has received only `hello` and `subscribed`.
#[tokio::test]
async fn it_misses_no_sample_if_the_server_stops_in_the_first_moments() {
    let database = TestDatabase::new().await;
    let port = ReservedPort::new();
    let feed = port.address().to_string();
    let server = Server::start(&database, &feed).await;
    let mut child = tail(&feed).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut messages = BufReader::new(child.stderr.take().unwrap()).lines();
    let message = timeout(TIMEOUT, messages.next_line()).await.expect("a message in time");
    assert_eq!(message.unwrap().unwrap(), format!("tail: {feed}: connected"));
    server.stop().await;
    let other = Server::start(&database, "127.0.0.1:0").await;
    other.ingest(888, 1).await;
    other.stop().await;
    let server = Server::start(&database, &feed).await;
    assert_eq!(next_line(&mut output).await, line(888, 1));
    server.stop().await;
}

#[tokio::test]
async fn it_ends_when_its_output_is_closed_or_its_options_are_wrong() {
    let database = TestDatabase::new().await;
    let server = Server::start(&database, "127.0.0.1:0").await;
    let (mut child, output) = start_tail(&server).await;
    drop(output);
    // No sample follows, so it must notice the closed pipe at the next heartbeat.
    assert!(timeout(TIMEOUT, child.wait()).await.unwrap().unwrap().success());

    for (feed, users, message) in [
        (server.feed.as_str(), "none", "not a list of user ids"),
        ("127.0.0.1", "1", "127.0.0.1:8001"),
    ] {
        let ended = timeout(TIMEOUT, tail(feed).args(["--users", users]).output());
        let ended = ended.await.unwrap().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && stderr.contains(message), "{stderr}");
    }
    server.stop().await;
}
