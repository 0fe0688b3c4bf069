//! A client that sends until it is answered, and checks what it is told.

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
    model::{Key, Model, Row, Verdict},
};

/// Where the server is, and the how manieth it is.
pub(crate) type Place = (u64, SocketAddr);

/// Users of each writer: enough that a request is split between the server's writers.
const USERS: usize = 3;

const SECONDS_A_DAY: i64 = 86_400;

/// One client with users of its own, so that the order of what is written of them is known.
pub(crate) struct Writer {
    rng: Rng,
    first_user: i64,
    /// The next second of each user that has no sample yet.
    next_second: [i64; USERS],
    model: Model,
    place: watch::Receiver<Place>,
    connection: Option<(u64, Client)>,
    acknowledged: watch::Sender<u64>,
    enough: Arc<AtomicBool>,
    /// Requests that were answered only after they had been sent again.
    pub(crate) resent: u64,
}

struct Request {
    records: Vec<(Key, Row)>,
    media_type: &'static str,
    body: String,
    /// Records that break the rules.
    refused: u64,
}

impl Writer {
    pub(crate) fn new(
        number: i64,
        rng: Rng,
        place: watch::Receiver<Place>,
        acknowledged: watch::Sender<u64>,
        enough: Arc<AtomicBool>,
    ) -> Self {
        Self {
            rng,
            first_user: number * users() + 1,
            next_second: [0; USERS],
            model: Model::default(),
            place,
            connection: None,
            acknowledged,
            enough,
            resent: 0,
        }
    }

    /// Writes until there is enough, and says what has to be stored now, and how many requests were sent more than once.
    pub(crate) async fn run(mut self) -> (Model, u64) {
        while !self.enough.load(Relaxed) {
            let request = self.request();
            self.send(&request).await;
            self.acknowledged.send_modify(|count| *count += 1);
        }
        (self.model, self.resent)
    }

    /// Sends a request until it is answered.
    async fn send(&mut self, request: &Request) {
        let expected = self.model.take(&request.records);
        let mut again = false;
        loop {
            match self.try_send(request).await {
                Ok((200 | 422, answer)) => {
                    self.resent += u64::from(again);
                    return check(request, expected, again, &answer);
                }
                Ok((429 | 503, _)) | Err(_) => again = true,
                Ok((status, answer)) => panic!("{status}: {answer}"),
            }
        }
    }

    async fn try_send(&mut self, request: &Request) -> io::Result<(u16, Value)> {
        let (number, mut client) = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answer = client.post(request.media_type, request.body.as_bytes()).await;
        if answer.is_ok() {
            self.connection = Some((number, client));
        } else {
            // This server is dying. The next one has another number.
            self.place.wait_for(|(other, _)| *other > number).await.unwrap();
        }
        answer
    }

    async fn connect(&mut self) -> io::Result<(u64, Client)> {
        let (number, address) = *self.place.borrow_and_update();
        match Client::connect(address).await {
            Ok(client) => Ok((number, client)),
            Err(error) => {
                self.place.wait_for(|(other, _)| *other > number).await.unwrap();
                Err(error)
            }
        }
    }

    fn request(&mut self) -> Request {
        // The last kind is enough for COPY.
        let sizes = [1..6, 1..6, 1..6, 20..200, 600..1500];
        let kind = self.rng.usize(..sizes.len());
        let size = self.rng.usize(sizes[kind].clone());
        let resends = self.rng.f64() * 0.8;
        let mut records: Vec<(Key, Row)> = Vec::new();
        for _ in 0..size {
            let record = if self.rng.f64() < resends {
                self.known_record(&records)
            } else {
                self.new_record()
            };
            records.push(record);
        }
        let mut lines: Vec<String> = records.iter().map(|(key, row)| row.record(*key)).collect();
        let refused = u64::from(self.rng.u8(..10) == 0);
        if refused > 0 {
            let user = self.first_user;
            lines.insert(
                self.rng.usize(..=size),
                format!(r#"{{"user_id":{user},"heart_rate":255}}"#),
            );
        }
        let (media_type, body) = if self.rng.bool() {
            ("application/x-ndjson", lines.join("\n"))
        } else {
            ("application/json", format!("[{}]", lines.join(",")))
        };
        Request {
            records,
            media_type,
            body,
            refused,
        }
    }

    fn new_record(&mut self) -> (Key, Row) {
        let place = self.rng.usize(..self.next_second.len());
        let second = self.next_second[place];
        self.next_second[place] = (second + 1) % SECONDS_A_DAY;
        let user = self.first_user + i64::try_from(place).unwrap();
        let source = ["", "watch"][self.rng.usize(..2)];
        ((user, second, source), self.row())
    }

    /// One that was sent before, or stands in this request already; half of them with other values.
    fn known_record(&mut self, earlier: &[(Key, Row)]) -> (Key, Row) {
        let (key, row) = if !earlier.is_empty() && self.rng.u8(..4) == 0 {
            earlier[self.rng.usize(..earlier.len())]
        } else {
            let from = (
                self.first_user + self.rng.i64(0..users()),
                self.rng.i64(0..=self.next_second[0]),
                "",
            );
            match self.model.rows.range(from..).next() {
                Some((key, row)) => (*key, *row),
                None => return self.new_record(),
            }
        };
        (key, if self.rng.bool() { row } else { self.row() })
    }

    fn row(&mut self) -> Row {
        loop {
            let row = Row {
                heart_rate: [None, Some(60.0), Some(61.5)][self.rng.usize(..3)],
                steps: [None, Some(0), Some(7)][self.rng.usize(..3)],
                calories: [None, Some(0.25)][self.rng.usize(..2)],
            };
            if !row.is_empty() {
                return row;
            }
        }
    }
}

fn users() -> i64 {
    i64::try_from(USERS).unwrap()
}

fn check(request: &Request, expected: Verdict, again: bool, answer: &Value) {
    let count = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("no {name}: {answer}"));
    let told = Verdict {
        inserted: count("inserted"),
        updated: count("updated"),
        unchanged: count("unchanged"),
    };
    assert_eq!(count("accepted"), told.accepted(), "{answer}");
    assert_eq!(told.accepted(), expected.accepted(), "{answer}");
    assert_eq!(answer["rejected"].as_u64().unwrap_or(0), request.refused, "{answer}");
    if again {
        // Part of it may have been stored before.
        assert!(told.inserted <= expected.inserted, "{answer}, expected {expected:?}");
    } else {
        assert_eq!(told, expected, "{answer}");
    }
}
