//! A server for one test, and what most tests send to it.

use std::{net::SocketAddr, time::Duration};

use health_core::{Config, Error, Limits};
use health_server::{Listeners, ServerLimits, run};
use serde_json::Value;
use test_support::{TestDatabase, open_with_retries};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::client::{EventStream, FeedConnection, HttpConnection, Response};

/// Longer than any outage in a test lasts, so that a test that waits in vain fails.
const OK_TIMEOUT: Duration = Duration::from_mins(2);

/// A server on free ports with a database of its own. It runs until it is stopped or dropped.
pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) feed: SocketAddr,
    pub(crate) database: TestDatabase,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), Error>>,
}

impl Server {
    /// Starts a server with the default limits.
    pub(crate) async fn start() -> Self {
        Self::with_limits(|_, _| {}).await
    }

    /// Starts a server with the limits of [`with_database`](Self::with_database), changed by `change`.
    pub(crate) async fn with_limits(change: impl FnOnce(&mut ServerLimits, &mut Limits)) -> Self {
        Self::with_database(TestDatabase::new().await, None, change).await
    }

    /// Starts a server that reaches its database by another URL than the database's own, with the default limits apart
    /// from longer waits, changed by `change`.
    pub(crate) async fn with_database(
        database: TestDatabase,
        url: Option<&str>,
        change: impl FnOnce(&mut ServerLimits, &mut Limits),
    ) -> Self {
        let (mut server_limits, mut limits) = (ServerLimits::default(), Limits::default());
        // Only reached if something is broken, also on a busy machine. Tests of these limits set others.
        limits.ingest_deadline = Duration::from_mins(1);
        limits.connection_wait = Duration::from_secs(30);
        change(&mut server_limits, &mut limits);
        let config = Config::from_url(url.unwrap_or(database.url())).unwrap();
        let health = timeout(OK_TIMEOUT, open_with_retries(config.limits(limits))).await;
        let health = health.expect("an open database in time");
        let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await.unwrap();
        let (http, feed) = (listeners.http_address(), listeners.feed_address());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(listeners, health, server_limits, async {
            let _ = stopped.await;
        }));
        Self {
            http,
            feed,
            database,
            stop,
            running,
        }
    }

    /// Begins a shutdown. Returns the running server, which resolves to its outcome, and its database.
    pub(crate) fn stop(self) -> (JoinHandle<Result<(), Error>>, TestDatabase) {
        self.stop.send(()).unwrap();
        (self.running, self.database)
    }

    pub(crate) async fn connect(&self) -> HttpConnection {
        HttpConnection::connect(self.http).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.connect().await.request("GET", path, &[], b"").await
    }

    /// Posts a body to `/ingest`. Its media type is `application/` and `kind`, such as `json` or `x-ndjson`.
    pub(crate) async fn post(&self, kind: &str, body: impl AsRef<[u8]>) -> Response {
        self.post_with(&[("content-type", &format!("application/{kind}"))], body)
            .await
    }

    /// Posts a body with these headers to `/ingest`.
    pub(crate) async fn post_with(&self, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
        self.connect()
            .await
            .request("POST", "/ingest", headers, body.as_ref())
            .await
    }

    /// Returns how many samples of a user the server reports.
    pub(crate) async fn samples(&self, user: i64) -> i64 {
        let path = format!("/metrics?user_id={user}&start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z");
        let response = self.get(&path).await;
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["samples"].as_i64().unwrap()
    }

    /// Opens a feed connection and reads its `hello`.
    pub(crate) async fn feed(&self) -> FeedConnection {
        let mut feed = FeedConnection::connect(self.feed).await;
        assert_eq!(feed.event().await["event"], "hello");
        feed
    }

    /// Opens a feed connection, subscribes with these options, and reads `subscribed`.
    pub(crate) async fn subscribed(&self, options: &str) -> FeedConnection {
        let mut feed = self.feed().await;
        feed.send(format!("SUBSCRIBE {options}\n")).await;
        assert_eq!(feed.event().await["event"], "subscribed");
        feed
    }

    /// Requests a stream of server-sent events with these query parameters, and reads its start.
    pub(crate) async fn stream(&self, parameters: &str) -> EventStream {
        self.resumed_stream(parameters, &[]).await
    }

    /// Requests a stream with these query parameters and headers, and reads its start.
    pub(crate) async fn resumed_stream(&self, parameters: &str, headers: &[(&str, &str)]) -> EventStream {
        let mut stream = EventStream::open(self.http, &format!("/feed?{parameters}"), headers).await;
        assert_eq!(stream.head.status, 200, "{:?}", stream.head);
        assert_eq!(stream.block().await.as_deref(), Some("retry: 2000"));
        stream
    }

    /// Stores so many samples of a user on 2025-03-02 that their export does not fit into the buffers of a connection.
    pub(crate) async fn fill(&self, user: i64) {
        let insert = format!(
            "INSERT INTO health_metrics (user_id, timestamp, source, steps) \
             SELECT {user}, '2025-03-02T00:00:00Z'::timestamptz + n * interval '0.1 s', '', 1 FROM generate_series(0, 300000) n"
        );
        self.sql().await.batch_execute(&insert).await.unwrap();
    }

    /// Opens a connection to the server's database.
    pub(crate) async fn sql(&self) -> tokio_postgres::Client {
        self.sql_in(self.database.name()).await
    }

    /// Opens a connection to another database of the same PostgreSQL.
    pub(crate) async fn sql_in(&self, database: &str) -> tokio_postgres::Client {
        let mut config: tokio_postgres::Config = self.database.url().parse().unwrap();
        let (client, connection) = config.dbname(database).connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// Sends a request until it is answered with 200, and returns that answer. Before, the outage that the test has made
/// may not be over, and on a busy machine, a short limit of the test may pass: that is a 503, or a 429 while the queue
/// is full.
pub(crate) async fn until_ok(send: impl AsyncFn() -> Response) -> Response {
    let sending = async {
        loop {
            let response = send().await;
            if response.status == 200 {
                return response;
            }
            assert!([429, 503].contains(&response.status), "{response:?}");
        }
    };
    timeout(OK_TIMEOUT, sending).await.expect("an answer with 200 in time")
}

/// Returns the counts of an ingest response: accepted, inserted, updated, unchanged.
pub(crate) fn counts(response: &Response) -> [i64; 4] {
    let json = response.json();
    ["accepted", "inserted", "updated", "unchanged"]
        .map(|name| json[name].as_i64().unwrap_or_else(|| panic!("{response:?}")))
}

/// Returns one JSON record of a user, at this second of 2025-03-02. Its steps are the last digit of the second.
pub(crate) fn record(user: i64, second: i64) -> String {
    let time = format!(
        "2025-03-02T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    format!(
        r#"{{"user_id":{user},"timestamp":"{time}","heart_rate":70,"steps":{}}}"#,
        second % 10
    )
}

/// Returns `count` records of a user as NDJSON, one for each second.
pub(crate) fn records(user: i64, count: i64) -> String {
    (0..count).map(|second| record(user, second) + "\n").collect()
}

/// Returns the index and the field of each listed error of a 422.
pub(crate) fn listed_errors(response: &Response) -> Vec<(i64, Value)> {
    let errors = response.json()["errors"].clone();
    let errors = errors.as_array().unwrap_or_else(|| panic!("{response:?}"));
    errors
        .iter()
        .map(|error| (error["index"].as_i64().unwrap(), error["field"].clone()))
        .collect()
}
