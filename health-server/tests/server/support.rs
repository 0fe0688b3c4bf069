//! A server of a test's own.

use std::net::SocketAddr;

use health_core::{Config, Error, Health};
use health_server::{Limits, Listeners, run};
use serde_json::Value;
use test_support::TestDatabase;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::client::{Answer, Http, Lines};

/// Serves on free ports over a database of its own until it is stopped or dropped.
pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) feed: SocketAddr,
    pub(crate) database: TestDatabase,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), Error>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::over(TestDatabase::new().await, None, limits).await
    }

    /// Over a database that is reached by another URL than its own.
    pub(crate) async fn over(database: TestDatabase, url: Option<&str>, limits: Limits) -> Self {
        let config = Config::from_url(url.unwrap_or(database.url())).unwrap();
        let config = config.limits(limits.core());
        let health = Health::open(config).await.unwrap();
        let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await.unwrap();
        let (http, feed) = (listeners.http_address(), listeners.feed_address());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(listeners, health, limits, async {
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

    /// Asks it to end, and gives back what becomes of that.
    pub(crate) fn stop(self) -> (JoinHandle<Result<(), Error>>, TestDatabase) {
        self.stop.send(()).unwrap();
        (self.running, self.database)
    }

    pub(crate) async fn connect(&self) -> Http {
        Http::connect(self.http).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.connect().await.ask("GET", path, &[], b"").await
    }

    /// Posts a body of a media type: `json` or `x-ndjson`.
    pub(crate) async fn post(&self, kind: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post_with(&[("content-type", &format!("application/{kind}"))], body)
            .await
    }

    pub(crate) async fn post_with(&self, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        self.connect()
            .await
            .ask("POST", "/ingest", headers, body.as_ref())
            .await
    }

    /// How many samples a user has.
    pub(crate) async fn samples(&self, user: i64) -> i64 {
        let path = format!("/metrics?user_id={user}&start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z");
        let answer = self.get(&path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["samples"].as_i64().unwrap()
    }

    /// A feed connection that has said hello.
    pub(crate) async fn feed(&self) -> Lines {
        let mut lines = Lines::connect(self.feed).await;
        assert_eq!(lines.event().await["event"], "hello");
        lines
    }

    /// A feed connection that is subscribed.
    pub(crate) async fn subscribed(&self, options: &str) -> Lines {
        let mut lines = self.feed().await;
        lines.send(format!("SUBSCRIBE {options}\n")).await;
        assert_eq!(lines.event().await["event"], "subscribed");
        lines
    }

    /// A connection to the database itself.
    pub(crate) async fn sql(&self) -> tokio_postgres::Client {
        self.sql_in(self.database.name()).await
    }

    /// A connection to another database of the same PostgreSQL.
    pub(crate) async fn sql_in(&self, database: &str) -> tokio_postgres::Client {
        let mut config: tokio_postgres::Config = self.database.url().parse().unwrap();
        let (client, connection) = config.dbname(database).connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// The four counts of an answer.
pub(crate) fn counts(answer: &Answer) -> [i64; 4] {
    let json = answer.json();
    ["accepted", "inserted", "updated", "unchanged"]
        .map(|name| json[name].as_i64().unwrap_or_else(|| panic!("{answer:?}")))
}

/// One record of a user at a second of a minute.
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

/// So many lines of records of a user.
pub(crate) fn records(user: i64, count: i64) -> String {
    (0..count).map(|second| record(user, second) + "\n").collect()
}

/// The fields of the errors of a problem, by index.
pub(crate) fn faults(answer: &Answer) -> Vec<(i64, Value)> {
    let errors = answer.json()["errors"].clone();
    let errors = errors.as_array().unwrap_or_else(|| panic!("{answer:?}"));
    errors
        .iter()
        .map(|error| (error["index"].as_i64().unwrap(), error["field"].clone()))
        .collect()
}
