//! A client that sends each request until it is acknowledged, and checks every response.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use fastrand::Rng;
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    client::Client,
    model::{Counts, Identity, Model, Values},
};

/// The server that currently runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CurrentServer {
    /// How many servers ran before it. Tells a writer whether its server was replaced.
    pub(crate) generation: u64,
    pub(crate) http: SocketAddr,
}

/// The users of each writer. Three, so that the server splits one request between its own writers.
const USERS: usize = 3;
const USERS_I64: i64 = 3;

const SECONDS_PER_DAY: i64 = 86_400;

/// A client that writes samples of its own users only. It therefore knows the order of all writes to each of its
/// samples.
pub(crate) struct Writer {
    rng: Rng,
    first_user: i64,
    /// For each user, the first second without a sample.
    next_second: [i64; USERS],
    model: Model,
    server: watch::Receiver<CurrentServer>,
    connection: Option<Connection>,
    acknowledged: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
    resent: u64,
}

/// What a writer knows at its end.
pub(crate) struct WriterReport {
    /// The samples that were acknowledged. All of them must be stored.
    pub(crate) model: Model,
    /// The number of requests that were sent more than once.
    pub(crate) resent: u64,
}

struct Connection {
    generation: u64,
    client: Client,
}

struct Request {
    /// The valid samples of the request.
    samples: Vec<(Identity, Values)>,
    media_type: &'static str,
    body: String,
    /// The number of invalid records in the request.
    rejected: u64,
}

impl Writer {
    pub(crate) fn new(
        number: i64,
        rng: Rng,
        server: watch::Receiver<CurrentServer>,
        acknowledged: watch::Sender<u64>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            rng,
            first_user: number * USERS_I64 + 1,
            next_second: [0; USERS],
            model: Model::default(),
            server,
            connection: None,
            acknowledged,
            stop,
            resent: 0,
        }
    }

    /// Writes until it is told to stop. Counts each acknowledged request.
    pub(crate) async fn run(mut self) -> WriterReport {
        while !self.stop.load(Relaxed) {
            let request = self.new_request();
            self.send_until_acknowledged(&request).await;
            self.acknowledged.send_modify(|count| *count += 1);
        }
        WriterReport {
            model: self.model,
            resent: self.resent,
        }
    }

    async fn send_until_acknowledged(&mut self, request: &Request) {
        let expected = self.model.ingest(&request.samples);
        let mut is_resent = false;
        loop {
            match self.try_send(request).await {
                Ok((200 | 422, response)) => {
                    self.resent += u64::from(is_resent);
                    return check(request, expected, is_resent, &response);
                }
                // Not acknowledged: overloaded, the database is out of reach, or the server was killed.
                Ok((429 | 503, _)) | Err(_) => is_resent = true,
                Ok((status, response)) => panic!("{status}: {response}"),
            }
        }
    }

    /// Sends a request once. After an error, waits for the next server.
    async fn try_send(&mut self, request: &Request) -> io::Result<(u16, Value)> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let response = connection
            .client
            .post(request.media_type, request.body.as_bytes())
            .await;
        if response.is_ok() {
            self.connection = Some(connection);
        } else {
            self.wait_for_server_after(connection.generation).await;
        }
        response
    }

    async fn connect(&mut self) -> io::Result<Connection> {
        let CurrentServer { generation, http } = *self.server.borrow_and_update();
        match Client::connect(http).await {
            Ok(client) => Ok(Connection { generation, client }),
            Err(error) => {
                self.wait_for_server_after(generation).await;
                Err(error)
            }
        }
    }

    async fn wait_for_server_after(&mut self, generation: u64) {
        let is_newer = |server: &CurrentServer| server.generation > generation;
        self.server.wait_for(is_newer).await.unwrap();
    }

    /// Invents a request: of any size, as JSON or NDJSON, with new, repeated, corrected and sometimes invalid
    /// records.
    fn new_request(&mut self) -> Request {
        // From the largest kind on, the server writes with COPY.
        let sizes = [1..6, 1..6, 1..6, 20..200, 600..1500];
        let kind = self.rng.usize(..sizes.len());
        let size = self.rng.usize(sizes[kind].clone());
        let repeated_share = self.rng.f64() * 0.8;
        let mut samples: Vec<(Identity, Values)> = Vec::new();
        for _ in 0..size {
            let sample = if self.rng.f64() < repeated_share {
                self.repeated_sample(&samples)
            } else {
                self.new_sample()
            };
            samples.push(sample);
        }
        let mut records: Vec<String> = samples
            .iter()
            .map(|(identity, values)| values.to_record(*identity))
            .collect();
        let rejected = u64::from(self.rng.u8(..10) == 0);
        if rejected > 0 {
            let invalid = format!(r#"{{"user_id":{},"heart_rate":255}}"#, self.first_user);
            records.insert(self.rng.usize(..=size), invalid);
        }
        let (media_type, body) = if self.rng.bool() {
            ("application/x-ndjson", records.join("\n"))
        } else {
            ("application/json", format!("[{}]", records.join(",")))
        };
        Request {
            samples,
            media_type,
            body,
            rejected,
        }
    }

    fn new_sample(&mut self) -> (Identity, Values) {
        let index = self.rng.usize(..USERS);
        let second = self.next_second[index];
        self.next_second[index] = (second + 1) % SECONDS_PER_DAY;
        let user = self.first_user + i64::try_from(index).unwrap();
        let source = ["", "watch"][self.rng.usize(..2)];
        ((user, second, source), self.values())
    }

    /// Returns a sample of this request or of an earlier one. Half of them have other values.
    fn repeated_sample(&mut self, this_request: &[(Identity, Values)]) -> (Identity, Values) {
        let (identity, values) = if !this_request.is_empty() && self.rng.u8(..4) == 0 {
            this_request[self.rng.usize(..this_request.len())]
        } else {
            let from = (
                self.first_user + self.rng.i64(0..USERS_I64),
                self.rng.i64(0..=self.next_second[0]),
                "",
            );
            match self.model.samples.range(from..).next() {
                Some((identity, values)) => (*identity, *values),
                None => return self.new_sample(),
            }
        };
        (identity, if self.rng.bool() { values } else { self.values() })
    }

    fn values(&mut self) -> Values {
        loop {
            let values = Values {
                heart_rate: [None, Some(60.0), Some(61.5)][self.rng.usize(..3)],
                steps: [None, Some(0), Some(7)][self.rng.usize(..3)],
                calories: [None, Some(0.25)][self.rng.usize(..2)],
            };
            if !values.is_empty() {
                return values;
            }
        }
    }
}

/// Checks the counts of a response.
fn check(request: &Request, expected: Counts, is_resent: bool, response: &Value) {
    let count = |name: &str| {
        response[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name}: {response}"))
    };
    let counts = Counts {
        inserted: count("inserted"),
        updated: count("updated"),
        unchanged: count("unchanged"),
    };
    assert_eq!(count("accepted"), counts.accepted(), "{response}");
    assert_eq!(counts.accepted(), expected.accepted(), "{response}");
    assert_eq!(
        response["rejected"].as_u64().unwrap_or(0),
        request.rejected,
        "{response}"
    );
    if is_resent {
        // An earlier attempt may have stored a part, which now counts as updated or unchanged.
        assert!(
            counts.inserted <= expected.inserted,
            "{response}, expected {expected:?}"
        );
    } else {
        assert_eq!(counts, expected, "{response}");
    }
}
