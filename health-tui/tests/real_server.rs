//! The real binary in a pseudo-terminal, with the real server and a real database.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

mod support;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Stdio,
    time::Instant,
};

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use support::{
    TIMEOUT,
    process::{health_tui, next_line},
    terminal::Terminal,
    tui,
};
use test_support::{ReservedPort, Signal, TestDatabase, TestProcess, test_directory};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// The server of the other tests: they run this test in a process of its own. Without the variable it does nothing.
#[tokio::test]
async fn server_process() {
    let Ok(url) = std::env::var("HEALTH_TUI_TEST_DATABASE") else {
        return;
    };
    let address = |name: &str| std::env::var(name).unwrap();
    let limits = health_server::ServerLimits::default();
    let config = health_core::Config::from_url(&url).unwrap();
    let health = health_core::Health::open(config).await.unwrap();
    let (http, feed) = (address("HEALTH_TUI_TEST_HTTP"), address("HEALTH_TUI_TEST_FEED"));
    let listeners = health_server::Listeners::bind(&http, &feed).await.unwrap();
    println!("\n{listeners}");
    health_server::run(listeners, health, limits, std::future::pending())
        .await
        .unwrap();
}

/// The ports of a server that is killed and starts again.
#[derive(Default)]
struct Ports {
    http: ReservedPort,
    feed: ReservedPort,
}

/// A server in a process of its own.
struct Server {
    process: TestProcess,
    http: SocketAddr,
    feed: SocketAddr,
}

impl Server {
    async fn start(database: &TestDatabase, ports: &Ports) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "server_process", "--nocapture"])
            .env("HEALTH_TUI_TEST_DATABASE", database.url())
            .env("HEALTH_TUI_TEST_HTTP", ports.http.address().to_string())
            .env("HEALTH_TUI_TEST_FEED", ports.feed.address().to_string());
        let mut process = TestProcess::start(command);
        let addresses = process.listening().await;
        Self {
            process,
            http: addresses.http,
            feed: addresses.feed,
        }
    }

    fn dashboard(&self) -> Terminal {
        let (url, feed) = (format!("http://{}", self.http), self.feed.to_string());
        let terminal = Terminal::open(tui(&["--server", &url, "--feed", &feed]), 120, 36);
        terminal.wait_for("connected");
        terminal
    }

    /// Posts a heart rate with a timestamp `seconds` ago, and waits for the acknowledgement.
    fn post_heart_rate(&self, user: u32, bpm: u32, seconds: i64) {
        self.post(user, seconds, "watch", &format!(r#""heart_rate":{bpm}"#));
    }

    /// Posts a sample with a timestamp `seconds` ago, and waits for the acknowledgement.
    fn post(&self, user: u32, seconds: i64, source: &str, readings: &str) {
        let at = (Utc::now() - TimeDelta::seconds(seconds)).to_rfc3339();
        let body = format!(r#"{{"user_id":{user},"timestamp":"{at}","source":"{source}",{readings}}}"#);
        self.send(&format!(
            "POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }

    /// Returns the answer of `GET /metrics` for the last `minutes`.
    fn metrics(&self, user: u32, minutes: i64) -> Value {
        let time = |minutes: i64| (Utc::now() - TimeDelta::minutes(minutes)).format("%Y-%m-%dT%H:%M:%SZ");
        let path = format!("/metrics?user_id={user}&start={}&end={}", time(minutes), time(-1));
        let response = self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ));
        serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        response
    }
}

/// Returns the users of the samples in a recording.
fn recorded_users(path: &Path) -> BTreeSet<u64> {
    let text = std::fs::read_to_string(path).unwrap();
    // The recorder may be writing the last line.
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete
        .lines()
        .map(|line| {
            let sample: Value = serde_json::from_str(line).unwrap();
            sample["user_id"].as_u64().unwrap()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_sample_is_lost_when_the_server_is_killed() {
    let database = TestDatabase::new().await;
    let ports = Ports::default();
    let mut server = Server::start(&database, &ports).await;
    // The server knows this user before the dashboard starts.
    for (bpm, seconds) in [(61, 30), (63, 20), (65, 10), (67, 0)] {
        server.post_heart_rate(4001, bpm, seconds);
    }
    let mut terminal = server.dashboard();
    terminal.wait_until("four older readings, the newest of which is in the table", |s| {
        let text = s.contents();
        text.contains("4001") && text.contains("4 readings") && text.contains("67 ")
    });
    let directory = test_directory();
    let path = directory.path().join("recording.ndjson");
    let mut command = health_tui(&["record", path.to_str().unwrap(), "--feed", &server.feed.to_string()]);
    command.stderr(Stdio::piped());
    let mut recorder = TestProcess::start(command);
    let mut messages = BufReader::new(recorder.child().stderr.take().unwrap()).lines();
    assert_eq!(next_line(&mut messages).await.unwrap(), "connected");
    server.post_heart_rate(4002, 72, 0);
    terminal.wait_for("4002");
    let mut posted = BTreeSet::from([4002]);
    for round in 0..3u32 {
        // Some samples are acknowledged right before the server dies. Others are posted as soon as it is back, before
        // its clients have reconnected.
        for user in 1..=20 {
            server.post_heart_rate(5000 + round * 100 + user, 70, 0);
            posted.insert(u64::from(5000 + round * 100 + user));
        }
        server.process.kill().await;
        terminal.wait_for("retry in");
        server = Server::start(&database, &ports).await;
        for user in 21..=40 {
            server.post_heart_rate(5000 + round * 100 + user, 71, 0);
            posted.insert(u64::from(5000 + round * 100 + user));
        }
        terminal.send("\x12");
        terminal.wait_for("connected");
    }
    // 4001, 4002 and forty users in each round.
    terminal.wait_for("122 users");
    terminal.send("G");
    terminal.wait_for("5240");
    let end = Instant::now() + TIMEOUT;
    while recorded_users(&path) != posted {
        assert!(
            Instant::now() < end,
            "lost: {:?}",
            posted.difference(&recorded_users(&path)).collect::<Vec<_>>()
        );
        tokio::task::yield_now().await;
    }

    // The restarted server also answers queries.
    terminal.send("/4002\r");
    terminal.wait_for("filter 4002 (1)");
    terminal.send("t");
    terminal.wait_for("Which user");
    terminal.send("\r");
    terminal.wait_for("average bpm");
    terminal.wait_for("72, 72, 72");
    terminal.send("\x03");
    assert_eq!(terminal.ended().0, 0);
    recorder.signal(Signal::INT);
    assert!(recorder.wait().await.success());
}

/// The clients have received only `hello` and `subscribed`: no sample and, most often, no heartbeat.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_during_an_outage_in_the_first_moments_reaches_every_client() {
    let database = TestDatabase::new().await;
    let ports = Ports::default();
    let server = Server::start(&database, &ports).await;
    let mut terminal = server.dashboard();
    let directory = test_directory();
    let path = directory.path().join("recording.ndjson");
    let feed = server.feed.to_string();
    let start = |arguments: &[&str]| {
        let mut command = health_tui(arguments);
        command.args(["--feed", &feed]).stderr(Stdio::piped());
        TestProcess::start(command)
    };
    let mut plain = start(&["--plain"]);
    let mut recorder = start(&["record", path.to_str().unwrap()]);
    for process in [&mut plain, &mut recorder] {
        let mut messages = BufReader::new(process.child().stderr.take().unwrap()).lines();
        assert_eq!(next_line(&mut messages).await.unwrap(), "connected");
        // Keeps the pipe open.
        tokio::spawn(async move { while let Ok(Some(_)) = messages.next_line().await {} });
    }
    server.process.kill().await;
    let other = Server::start(&database, &Ports::default()).await;
    other.post_heart_rate(888, 72, 0);
    other.process.kill().await;
    let server = Server::start(&database, &ports).await;
    assert!(plain.line_after(" user 888: ").await.starts_with("72 bpm"));
    terminal.wait_for("888");
    let end = Instant::now() + TIMEOUT;
    while recorded_users(&path) != BTreeSet::from([888]) {
        assert!(Instant::now() < end, "user 888 was not recorded");
        tokio::task::yield_now().await;
    }
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
    assert!(plain.stop().await.success());
    recorder.signal(Signal::INT);
    assert!(recorder.wait().await.success());
    drop(server);
}

/// Returns the value at the right of a label of the user view.
fn value_of(screen: &vt100::Screen, label: &str) -> Option<String> {
    let text = screen.contents();
    let (_, after) = text.split_once("This window")?;
    after.lines().find_map(|line| {
        let mut words = line.split_whitespace().rev();
        let (value, name) = (words.next()?, words.next()?);
        (name == label).then(|| value.to_owned())
    })
}

/// The readings are unevenly distributed, so that the mean of bucket means (120) differs from the mean of all
/// readings (72). Both devices count the same steps, so that a plain sum (190) differs from the total (100).
#[tokio::test(flavor = "multi_thread")]
async fn this_window_shows_the_statistics_of_the_server() {
    let database = TestDatabase::new().await;
    let server = Server::start(&database, &Ports::default()).await;
    for second in 0..9 {
        server.post_heart_rate(7, 60, 3 * 3_600 - second);
    }
    let two_hours_and_a_half = 9_000;
    server.post(7, two_hours_and_a_half, "watch", r#""steps":100"#);
    server.post(7, two_hours_and_a_half, "phone", r#""steps":90"#);
    server.post_heart_rate(7, 180, 30);
    let mut terminal = server.dashboard();
    terminal.wait_for("180");
    terminal.send("\r");
    // 15 minutes: the chart shows single samples.
    let has = |label: &'static str, value: &'static str| {
        move |screen: &vt100::Screen| value_of(screen, label).as_deref() == Some(value)
    };
    terminal.wait_until("the average of the last 15 minutes", has("avg", "180.0"));
    terminal.wait_until("one sample", has("samples", "1"));
    // 30 minutes, 1 hour, 2 hours, 4 hours: the chart shows buckets.
    terminal.send("----");
    terminal.wait_until("all samples", has("samples", "12"));
    let metrics = server.metrics(7, 240);
    let shown = |label: &str| terminal.look(|screen| value_of(screen, label)).unwrap();
    let bpm = |field: &str| metrics[field].as_f64().unwrap();
    assert_eq!(shown("avg"), format!("{:.1}", bpm("average_heart_rate")));
    assert_eq!(shown("min"), format!("{:.0}", bpm("min_heart_rate")));
    assert_eq!(shown("max"), format!("{:.0}", bpm("max_heart_rate")));
    assert_eq!(shown("steps"), metrics["total_steps"].to_string());
    assert_eq!((shown("avg"), shown("steps")), ("72.0".to_owned(), "100".to_owned()));
    assert!(terminal.look(|screen| screen.contents().contains("as of")));
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}
