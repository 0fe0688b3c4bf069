//! Readers that subscribe and do not read: what they cost while they sleep, and what they receive when they read again.

use std::{
    collections::HashSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::{client::Client, database::Database, server::Server};

/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_mins(4);

/// The samples that the server keeps for its subscribers.
const QUEUE: u64 = 5_000;

/// Samples of one request.
const BODY_SAMPLES: u64 = 10_000;

/// Requests before the readers subscribe, and while they sleep.
const BACKLOG_BODIES: u64 = 2;
const BODIES: u64 = 3;

/// The most memory that the sleeping readers may add, in MiB.
const MEMORY_MIB: u64 = 24;

/// The receive buffer of a reader: so small that the server soon has to wait for it.
const RECEIVE_BUFFER_BYTES: u32 = 4096;

/// The steps of the last sample of all.
const LAST: u64 = 77_777;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    All,
    Users,
    Every,
    Resumed,
}

/// How many readers of each kind there are. Every second one reads server-sent events.
const READERS: [(Kind, usize); 4] = [(Kind::All, 44), (Kind::Users, 44), (Kind::Every, 6), (Kind::Resumed, 6)];

/// What a reader has received.
#[derive(Debug, Default)]
struct Received {
    /// Each sample once, by user and second.
    samples: HashSet<(String, String)>,
    missed: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_sleep_cost_little_and_miss_exactly_what_they_are_told() {
    let database = Database::start().await;
    let arguments = [
        "--database-url",
        &database.url(),
        "--subscriber-queue",
        &QUEUE.to_string(),
    ];
    let server = Server::start(&arguments, &database.directory().join("server.log")).await;
    let mut client = Client::connect(server.http()).await.unwrap();
    let greeting = greeting(&server).await;
    for number in 0..BACKLOG_BODIES {
        post(&mut client, &body(number)).await;
    }
    // The same load once without readers, for users of its own: what every server needs is not their cost.
    for number in 0..BODIES {
        post(&mut client, &body(number).replace("\"user_id\":9", "\"user_id\":8")).await;
    }
    let memory_before = server.peak_memory_mib();

    let began = Instant::now();
    let mut readers = Vec::new();
    for (kind, count) in READERS {
        for number in 0..count {
            let mut reader = subscribe(&server, kind, number % 2 == 1, &greeting).await;
            if kind != Kind::Resumed {
                // Then it is known from which sample on it subscribes.
                while !next_line(&mut reader).await.contains(r#""event":"subscribed""#) {}
            }
            readers.push((kind, reader));
        }
    }
    for number in BACKLOG_BODIES..BACKLOG_BODIES + BODIES {
        post(&mut client, &body(number)).await;
    }
    let memory = server.peak_memory_mib();
    assert!(
        memory <= memory_before + MEMORY_MIB,
        "{memory_before} MiB, then {memory} MiB"
    );
    let missed_asleep = missed(&server).await;
    let at_least = 88 * (BODIES * BODY_SAMPLES - 2 * QUEUE);
    assert!(missed_asleep >= at_least, "{missed_asleep} missed, not {at_least}");

    let mut reading = JoinSet::new();
    for (kind, stream) in readers {
        reading.spawn(async move { (kind, read_until_last(stream).await) });
    }
    let last = format!(r#"{{"user_id":90,"timestamp":"2025-03-03T12:00:00Z","steps":{LAST}}}"#);
    post(&mut client, &last).await;
    let mut missed_by_all = 0;
    while let Some(reader) = reading.join_next().await {
        let (kind, received) = reader.unwrap();
        let count = received.samples.len() as u64;
        missed_by_all += received.missed;
        match kind {
            Kind::All | Kind::Users => {
                assert_eq!(
                    count + received.missed,
                    BODIES * BODY_SAMPLES + 1,
                    "{kind:?}: {count} received"
                );
                assert!(received.missed > 0, "{kind:?}");
            }
            Kind::Every => {
                // The newest sample of each of the two users once a second.
                let most = 2 * (began.elapsed().as_secs() + 2);
                assert!(
                    (2..=most).contains(&count) && received.missed == 0,
                    "{count} of at most {most}"
                );
            }
            Kind::Resumed => {
                let all = (BACKLOG_BODIES + BODIES) * BODY_SAMPLES + 1;
                assert_eq!(count + received.missed, all, "{kind:?}: {count} received");
            }
        }
    }
    assert_eq!(missed(&server).await, missed_by_all);
    assert_eq!(server.stop().await.code(), Some(0));
}

async fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
    BufReader::new(socket.connect(address).await.unwrap())
}

/// Returns the cursor of the greeting.
async fn greeting(server: &Server) -> String {
    let hello = next_line(&mut connect(server.addresses().feed).await).await;
    field(&hello, "\"cursor\":\"").to_owned()
}

/// Subscribes over TCP, or to server-sent events.
async fn subscribe(server: &Server, kind: Kind, is_stream: bool, greeting: &str) -> BufReader<TcpStream> {
    let options = match kind {
        Kind::All => Vec::new(),
        Kind::Users => vec!["users=90,91".to_owned()],
        Kind::Every => vec!["every=1000".to_owned()],
        Kind::Resumed => vec!["users=90,91".to_owned(), format!("after={greeting}")],
    };
    let (address, request) = if is_stream {
        let query = options.join("&");
        // A body of HTTP/1.0 has no chunks, so its lines are those of the stream.
        let request = format!("GET /feed?{query} HTTP/1.0\r\nhost: localhost\r\n\r\n");
        (server.http(), request)
    } else {
        (server.addresses().feed, format!("SUBSCRIBE {}\n", options.join(" ")))
    };
    let mut reader = connect(address).await;
    reader.get_mut().write_all(request.as_bytes()).await.unwrap();
    reader
}

async fn next_line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    let read = timeout(TIMEOUT, stream.read_line(&mut line)).await;
    read.expect("an event in time").unwrap();
    assert!(line.ends_with('\n'), "{line:?}");
    line
}

async fn post(client: &mut Client, body: &str) {
    let (status, response) = client.post("application/x-ndjson", body.as_bytes()).await.unwrap();
    assert_eq!(status, 200, "{response}");
}

/// Returns samples of the users 90 and 91.
fn body(number: u64) -> String {
    let seconds = number * BODY_SAMPLES / 2..(number + 1) * BODY_SAMPLES / 2;
    let line = |second: u64, user: u64| {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{{\"user_id\":{user},\"timestamp\":\"2025-03-02T{hour:02}:{minute:02}:{second:02}Z\",\"steps\":1}}\n")
    };
    seconds
        .flat_map(|second| [line(second, 90), line(second, 91)])
        .collect()
}

/// Reads until the last sample of all.
async fn read_until_last(mut stream: BufReader<TcpStream>) -> Received {
    let mut received = Received::default();
    loop {
        let line = next_line(&mut stream).await;
        let Some(line) = line
            .strip_prefix("data: ")
            .or(line.starts_with('{').then_some(line.as_str()))
        else {
            // The head of a response, or a part of an event that is no JSON.
            continue;
        };
        if line.starts_with(r#"{"event":"sample""#) {
            let user = field(line, "\"user_id\":").to_owned();
            received
                .samples
                .insert((user, field(line, "\"timestamp\":\"").to_owned()));
            if field(line, "\"steps\":") == LAST.to_string() {
                return received;
            }
        } else if line.starts_with(r#"{"event":"lagged""#) {
            received.missed += field(line, "\"missed\":").parse::<u64>().unwrap();
        } else {
            let is_expected = ["\"heartbeat\"", "\"resumed\":true", "\"hello\""]
                .iter()
                .any(|expected| line.contains(expected));
            assert!(is_expected, "{line}");
        }
    }
}

/// Returns the value after a prefix. Parsing a million lines as JSON would take most of the test's time.
fn field<'a>(line: &'a str, prefix: &str) -> &'a str {
    let rest = line
        .split_once(prefix)
        .unwrap_or_else(|| panic!("no {prefix} in {line}"))
        .1;
    &rest[..rest.find(['"', ',', '}']).unwrap()]
}

async fn missed(server: &Server) -> u64 {
    let mut client = Client::connect(server.http()).await.unwrap();
    let metrics = client.get_text("/-/metrics").await.unwrap();
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix("health_feed_missed_total "));
    value.unwrap().trim().parse().unwrap()
}
