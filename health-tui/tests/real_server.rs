//! The real binary in a real terminal, with the real server over a real database.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

mod support;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use support::{Running, terminal::Terminal, tui};
use test_support::TestDatabase;

/// Not a test of its own: the server, which the test below kills.
#[tokio::test]
async fn a_process_that_serves() {
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

struct Server {
    process: Running,
    http: String,
    feed: String,
}

impl Server {
    fn start(database: &TestDatabase, http: &str, feed: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_that_serves", "--nocapture"])
            .env("HEALTH_TUI_TEST_DATABASE", database.url())
            .env("HEALTH_TUI_TEST_HTTP", http)
            .env("HEALTH_TUI_TEST_FEED", feed)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = Running(child);
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let line = lines
            .map_while(Result::ok)
            .find(|l| l.starts_with("listening"))
            .expect("the server says where it listens");
        let (_, addresses) = line.split_once("http=http://").unwrap();
        let (http, feed) = addresses.split_once(" feed=").unwrap();
        let (http, feed) = (http.to_owned(), feed.to_owned());
        Self { process, http, feed }
    }

    /// Posts one reading of so many seconds ago, and sees it acknowledged.
    fn post(&self, user: u32, bpm: u32, seconds: i64) {
        let at = (chrono::Utc::now() - chrono::TimeDelta::seconds(seconds)).to_rfc3339();
        let body = format!(r#"{{"user_id":{user},"timestamp":"{at}","heart_rate":{bpm},"source":"watch"}}"#);
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(
            stream,
            "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// The users of the readings in a recording.
fn recorded(path: &std::path::Path) -> BTreeSet<u64> {
    let text = std::fs::read_to_string(path).unwrap();
    // The last line may be in the middle of being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|l| {
            serde_json::from_str::<serde_json::Value>(l).unwrap()["user_id"]
                .as_u64()
                .unwrap()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_real_server_is_killed() {
    let database = TestDatabase::new().await;
    let server = Server::start(&database, "127.0.0.1:0", "127.0.0.1:0");
    let url = format!("http://{}", server.http);
    // Somebody the server knows before the dashboard is there.
    for (bpm, seconds) in [(61, 30), (63, 20), (65, 10), (67, 0)] {
        server.post(4001, bpm, seconds);
    }
    let mut terminal = Terminal::open(tui(&["--server", &url, "--feed", &server.feed]), 100, 30);
    terminal.wait_for("connected");
    terminal.wait_until("four readings of the past, of which the last is the newest", |s| {
        let text = s.contents();
        text.contains("4001") && text.contains("4 readings") && text.contains("67 ")
    });
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("killed-{}.ndjson", std::process::id()));
    // Left over from a process that had the same number.
    _ = std::fs::remove_file(&path);
    let child = Command::new(env!("CARGO_BIN_EXE_health-tui"))
        .args(["record", path.to_str().unwrap(), "--feed", &server.feed])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut recorder = Running(child);
    let mut told = BufReader::new(recorder.0.stderr.take().unwrap()).lines();
    assert_eq!(told.next().unwrap().unwrap(), "connected");
    server.post(4002, 72, 0);
    terminal.wait_for("4002");
    let (http, feed) = (server.http.clone(), server.feed.clone());
    let mut posted = BTreeSet::from([4002]);
    let mut server = server;
    for round in 0..3u32 {
        // Some are acknowledged right before the server dies, some as soon as it is back, before anybody hears of it.
        for user in 1..=20 {
            server.post(5000 + round * 100 + user, 70, 0);
            posted.insert(u64::from(5000 + round * 100 + user));
        }
        assert_eq!(server.process.end("-KILL"), None, "killed by the signal");
        terminal.wait_for("retry in");
        server = Server::start(&database, &http, &feed);
        for user in 21..=40 {
            server.post(5000 + round * 100 + user, 71, 0);
            posted.insert(u64::from(5000 + round * 100 + user));
        }
        terminal.send("\x12");
        terminal.wait_for("connected");
    }
    // 4001, 4002 and forty a round.
    terminal.wait_for("122 users");
    terminal.send("G");
    terminal.wait_for("5240");
    let end = std::time::Instant::now() + support::PATIENCE;
    while recorded(&path) != posted {
        assert!(
            std::time::Instant::now() < end,
            "lost: {:?}",
            posted.difference(&recorded(&path)).collect::<Vec<_>>()
        );
        std::thread::yield_now();
    }

    // Questions are answered by the same server.
    terminal.send("/4002\r");
    terminal.wait_for("filter 4002 (1)");
    terminal.send("t");
    terminal.wait_for("Which user");
    terminal.send("\r");
    terminal.wait_for("average bpm");
    terminal.wait_for("72, 72, 72");
    terminal.send("\x03");
    assert_eq!(terminal.ended().0, 0);
    assert_eq!(recorder.end("-INT"), Some(0));
    std::fs::remove_file(path).unwrap();
}
