//! The real program in a process of its own, with its log.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use serde_json::Value;
use test_support::{Signal, TestDatabase, TestProcess};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    sync::watch,
    time::timeout,
};

use crate::client::{FeedConnection, HttpConnection, Response};

/// Longer than any line takes on a busy machine, so that a test that waits in vain fails.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A running `health-server`.
pub(crate) struct Program {
    pub(crate) http: SocketAddr,
    pub(crate) feed: SocketAddr,
    process: TestProcess,
    log: watch::Receiver<Vec<String>>,
}

/// Returns the command of the program, without the settings of this machine.
pub(crate) fn health_server(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_health-server"));
    command.args(arguments).env_remove("DATABASE_URL").kill_on_drop(true);
    command
}

impl Program {
    /// Starts a server on the database of a URL. `log` is the filter of the log, whose lines are JSON.
    pub(crate) async fn start(url: &str, log: &str, arguments: &[&str]) -> Self {
        let ports = ["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0", "--log-format", "json"];
        let mut command = health_server(&[&ports, arguments].concat());
        command
            .env("HEALTH_LOG", log)
            .env("DATABASE_URL", url)
            .stderr(Stdio::piped());
        let mut process = TestProcess::start(command);
        let stderr = process.child().stderr.take().unwrap();
        let (sender, log) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                sender.send_modify(|lines| lines.push(line));
            }
        });
        let addresses = process.listening().await;
        Self {
            http: addresses.http,
            feed: addresses.feed,
            process,
            log,
        }
    }

    /// Starts a server on a database of its own, with the default log.
    pub(crate) async fn on(database: &TestDatabase) -> Self {
        Self::start(database.url(), "info", &[]).await
    }

    pub(crate) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut http = HttpConnection::connect(self.http).await;
        http.request(method, path, headers, body.as_bytes()).await
    }

    /// Opens a feed connection, sends lines, and returns the events until the one with this name.
    pub(crate) async fn feed(&self, lines: &str, last: &str) -> Vec<Value> {
        let mut feed = FeedConnection::connect(self.feed).await;
        feed.send(lines).await;
        let mut events = Vec::new();
        loop {
            events.push(feed.event().await);
            if events.last().is_some_and(|event| event["event"] == last) {
                return events;
            }
        }
    }

    /// Waits for a log line that has all these fields with these values, and returns it.
    pub(crate) async fn line(&mut self, fields: &[(&str, Value)]) -> Value {
        let find = |lines: &Vec<String>| {
            lines.iter().find_map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                fields.iter().all(|(name, value)| line[name] == *value).then_some(line)
            })
        };
        let found = timeout(TIMEOUT, self.log.wait_for(|lines| find(lines).is_some())).await;
        let found = found.map(|lines| lines.map(|lines| find(&lines)));
        match found {
            Ok(Ok(Some(line))) => line,
            _ => panic!("no line with {fields:?} in {:#?}", self.log.borrow()),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Stops the server. Returns everything that it has logged.
    pub(crate) async fn stop(self) -> Vec<String> {
        let Self { process, mut log, .. } = self;
        assert!(process.stop().await.success());
        // The sender is dropped at the end of the log.
        while log.changed().await.is_ok() {}
        let lines = log.borrow();
        lines.clone()
    }
}
