//! Clients that post samples and read the feed, while servers and databases come and go.

use std::{io, net::SocketAddr, time::Duration};

use health_core::{Cursor, FeedEvent, Steps};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Longer than anything here takes: a test that waits for something that never comes fails instead of hanging.
const TIMEOUT: Duration = Duration::from_mins(2);

/// The pause before a refused request is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The user of all samples.
const USER: i64 = 7;

/// A subscribed feed connection.
pub(crate) struct Feed(BufReader<TcpStream>);

/// What the server says about a cursor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Subscribed {
    Resumed,
    NotResumed { reason: String },
}

/// Posts samples, one in each request, until the server has stored them. Their steps are `numbers`.
pub(crate) async fn post(http: SocketAddr, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        let stored = async {
            while !matches!(try_post(http, number).await, Ok(true)) {
                sleep(RETRY_PAUSE).await;
            }
        };
        timeout(TIMEOUT, stored).await.expect("the sample is stored in time");
    }
}

/// Posts one sample. Returns whether the server has stored it.
async fn try_post(http: SocketAddr, number: u32) -> io::Result<bool> {
    let (status, response) = post_once(http, number).await?;
    assert!(["200", "429", "503"].contains(&status.as_str()), "{response}");
    Ok(status == "200")
}

/// Posts one sample once. Its time is that second of a day. Returns the status and the whole response.
pub(crate) async fn post_once(http: SocketAddr, number: u32) -> io::Result<(String, String)> {
    let (hour, minute, second) = (number / 3600, number / 60 % 60, number % 60);
    let time = format!("2025-03-02T{hour:02}:{minute:02}:{second:02}Z");
    let body = format!(r#"{{"user_id":{USER},"timestamp":"{time}","steps":{number}}}"#);
    let head = format!(
        "POST /ingest HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}",
        body.len()
    );
    request(
        http,
        &format!("{head}\r\nhost: localhost\r\nconnection: close\r\n\r\n{body}"),
    )
    .await
}

/// Gets a resource. Returns the status and the whole response.
pub(crate) async fn get(http: SocketAddr, path: &str) -> io::Result<(String, String)> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    request(http, &head).await
}

async fn request(http: SocketAddr, text: &str) -> io::Result<(String, String)> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let status = response.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok((status, response))
}

impl Feed {
    /// Subscribes to new samples.
    pub(crate) async fn from_now(address: SocketAddr) -> Self {
        let (feed, subscribed) = Self::subscribe(address, "SUBSCRIBE\n".to_owned()).await;
        assert_eq!(subscribed, Subscribed::Resumed);
        feed
    }

    /// Resumes from a cursor.
    pub(crate) async fn after(address: SocketAddr, cursor: &str) -> (Self, Subscribed) {
        Self::subscribe(address, format!("SUBSCRIBE after={cursor}\n")).await
    }

    async fn subscribe(address: SocketAddr, command: String) -> (Self, Subscribed) {
        let mut feed = Self(BufReader::new(TcpStream::connect(address).await.unwrap()));
        feed.0.get_mut().write_all(command.as_bytes()).await.unwrap();
        assert!(matches!(feed.event().await, FeedEvent::Hello { .. }));
        let subscribed = feed.subscribed().await;
        (feed, subscribed)
    }

    /// Returns the next `subscribed` event. Nothing else may come before it.
    pub(crate) async fn subscribed(&mut self) -> Subscribed {
        match self.event().await {
            FeedEvent::Subscribed {
                resumed: true,
                reason: None,
            } => Subscribed::Resumed,
            FeedEvent::Subscribed {
                resumed: false,
                reason: Some(reason),
            } => Subscribed::NotResumed { reason },
            other => panic!("not subscribed: {other:?}"),
        }
    }

    /// Receives samples until one has the number `last`. Returns each number once, with its cursor.
    pub(crate) async fn samples_until(&mut self, last: u32) -> Vec<(u32, Cursor)> {
        let mut samples: Vec<(u32, Cursor)> = Vec::new();
        loop {
            match self.event().await {
                FeedEvent::Sample { cursor, sample } => {
                    let number = sample.steps().map(Steps::get).unwrap().unsigned_abs();
                    // At least once: a sample may come again.
                    if samples.iter().all(|(received, _)| *received != number) {
                        samples.push((number, cursor));
                    }
                    if number == last {
                        return samples;
                    }
                }
                other => panic!("not a sample: {other:?}; received {samples:?}"),
            }
        }
    }

    /// Receives samples, which must be exactly these, in this order.
    pub(crate) async fn expect(&mut self, numbers: &[u32]) {
        let received = self.samples_until(*numbers.last().unwrap()).await;
        let received: Vec<_> = received.into_iter().map(|(number, _)| number).collect();
        assert_eq!(received, numbers);
    }

    /// Returns the next event that is not a heartbeat.
    async fn event(&mut self) -> FeedEvent {
        loop {
            let mut line = String::new();
            let read = timeout(TIMEOUT, self.0.read_line(&mut line)).await;
            read.expect("an event in time").unwrap();
            let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
            if !matches!(event, FeedEvent::Heartbeat { .. }) {
                return event;
            }
        }
    }
}
