//! Clients that post samples and clients that read the feed.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use examples::{Connection, Result, server_process::ServerProcess};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinHandle,
    time::{Duration, MissedTickBehavior, interval},
};

pub(crate) const NDJSON: &str = "application/x-ndjson";

/// How many events of each kind a subscriber has received.
#[derive(Default)]
pub(crate) struct EventCounts {
    pub(crate) samples: AtomicU64,
    pub(crate) lagged: AtomicU64,
}

/// One request: when it was sent, and when its response had arrived.
#[derive(Clone, Copy)]
pub(crate) struct Post {
    pub(crate) number: usize,
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
}

/// How fast samples are posted.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) connections: usize,
    pub(crate) samples_per_post: usize,
    pub(crate) samples_per_second: usize,
    pub(crate) time: Duration,
}

/// The field of an event that holds the number of the post.
const POST_NUMBER: &[u8] = b"\"steps\":";

/// Returns one sample of each user as NDJSON, all at the same second. Their steps are the number of the post.
pub(crate) fn body(first_user: usize, users: usize, second: usize, number: usize) -> String {
    let mut body = String::new();
    let (day, hour) = (1 + second / 86_400 % 28, second / 3600 % 24);
    let (minute, second) = (second / 60 % 60, second % 60);
    for user in first_user..first_user + users {
        // Writing to a string cannot fail.
        let _ = writeln!(
            body,
            r#"{{"user_id":{user},"timestamp":"2025-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z","heart_rate":70,"steps":{number}}}"#
        );
    }
    body
}

/// Returns samples of a few users as NDJSON, at the seconds from `first_second` on.
pub(crate) fn body_of_users(users: &[usize], samples: usize, first_second: usize) -> String {
    let seconds = first_second / users.len()..(first_second + samples) / users.len();
    seconds
        .flat_map(|second| users.iter().map(move |user| body(*user, 1, second, 1)))
        .collect()
}

/// Posts samples at an even pace.
pub(crate) async fn post_evenly(http: SocketAddr, pace: Pace) -> Result<Vec<Post>> {
    let Pace {
        connections,
        samples_per_post,
        samples_per_second,
        time,
    } = pace;
    let samples_per_tick = u32::try_from(connections * samples_per_post)?;
    let period = Duration::from_secs(1) * samples_per_tick / u32::try_from(samples_per_second)?;
    let mut tasks = Vec::new();
    for client in 0..connections {
        let mut connection = Connection::open(http).await?;
        tasks.push(tokio::spawn(async move {
            let mut posts = Vec::new();
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let end = Instant::now() + time;
            let mut second = 0;
            while Instant::now() < end {
                ticks.tick().await;
                let number = second * connections + client;
                let body = body(1 + client * samples_per_post, samples_per_post, second, number);
                let sent = Instant::now();
                connection.ingest(NDJSON, body.as_bytes()).await?;
                posts.push(Post {
                    number,
                    sent,
                    answered: Instant::now(),
                });
                second += 1;
            }
            Result::Ok(posts)
        }));
    }
    let mut posts = Vec::new();
    for task in tasks {
        posts.extend(task.await??);
    }
    Ok(posts)
}

/// How subscribers get their events.
#[derive(Clone, Copy)]
pub(crate) enum Transport {
    /// Lines over TCP.
    Lines,
    /// Server-sent events over HTTP.
    Streams,
}

impl Transport {
    pub(crate) fn address(self, server: &ServerProcess) -> SocketAddr {
        match self {
            Self::Lines => server.feed(),
            Self::Streams => server.http(),
        }
    }

    /// Returns what a client sends to subscribe. A body of HTTP/1.0 has no chunks, so its lines are those of the
    /// stream.
    pub(crate) fn request(self, options: &[&str]) -> String {
        match self {
            Self::Lines => format!("SUBSCRIBE {}\n", options.join(" ")),
            Self::Streams => format!("GET /feed?{} HTTP/1.0\r\nHost: localhost\r\n\r\n", options.join("&")),
        }
    }
}

/// Opens a connection and subscribes to all users.
pub(crate) async fn subscribe(server: &ServerProcess, transport: Transport) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(transport.address(server)).await?;
    let mut stream = BufReader::with_capacity(16 << 10, stream);
    stream.get_mut().write_all(transport.request(&[]).as_bytes()).await?;
    let mut line = String::new();
    while !line.contains("\"event\":\"subscribed\"") {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err("the feed closed the connection".into());
        }
    }
    Ok(stream)
}

/// Reads the feed to its end in a task. The task returns when each sample arrived, with the number of its post.
pub(crate) fn record_arrivals(mut stream: BufReader<TcpStream>) -> JoinHandle<Vec<(usize, Instant)>> {
    tokio::spawn(async move {
        let mut arrivals = Vec::new();
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            if let Some(number) = post_number(&line) {
                arrivals.push((number, Instant::now()));
            }
            line.clear();
        }
        arrivals
    })
}

/// Reads the feed to its end in a task that only counts the events.
pub(crate) fn count_events(mut stream: BufReader<TcpStream>) -> Arc<EventCounts> {
    let counts = Arc::new(EventCounts::default());
    let task_counts = Arc::clone(&counts);
    tokio::spawn(async move {
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            let json = line.strip_prefix(b"data: ").unwrap_or(&line);
            if json.starts_with(br#"{"event":"sample""#) {
                task_counts.samples.fetch_add(1, Relaxed);
            } else if json.starts_with(br#"{"event":"lagged""#) {
                task_counts.lagged.fetch_add(1, Relaxed);
            }
            line.clear();
        }
    });
    counts
}

/// Reads the number of the post from an event, without parsing JSON: the readers should take little CPU time.
fn post_number(line: &[u8]) -> Option<usize> {
    let field = line.windows(POST_NUMBER.len()).position(|bytes| bytes == POST_NUMBER)?;
    let digits = line[field + POST_NUMBER.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}
