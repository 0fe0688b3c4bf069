//! Those who post and those who listen.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinHandle,
    time::{Duration, MissedTickBehavior, interval},
};

use crate::Outcome;

/// A connection that posts.
pub(crate) struct Poster {
    stream: BufReader<TcpStream>,
}

/// What a reader has heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) samples: AtomicU64,
    pub(crate) lagged: AtomicU64,
}

/// Where, in a line of the feed, the number of its post stands.
const MARK: &[u8] = b"\"steps\":";

impl Poster {
    pub(crate) async fn connect(http: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(http).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Posts, and comes back with the answer.
    pub(crate) async fn post(&mut self, body: &str) -> Outcome<()> {
        let mut request = format!(
            "POST /ingest HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        request.push_str(body);
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let mut line = String::new();
        let mut status = None;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            let text = line.trim_end().to_ascii_lowercase();
            if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            status.get_or_insert_with(|| text.clone());
            if text.is_empty() {
                break;
            }
        }
        self.stream.read_exact(&mut vec![0; length]).await?;
        match status {
            Some(status) if status.contains(" 200 ") => Ok(()),
            other => Err(format!("a post was answered {other:?}").into()),
        }
    }
}

/// One line a user, all of the same second and with the same number.
pub(crate) fn body(first_user: usize, users: usize, second: usize, number: usize) -> String {
    let mut body = String::new();
    let (day, hour) = (1 + second / 86_400 % 28, second / 3600 % 24);
    let (minute, rest) = (second / 60 % 60, second % 60);
    for user in first_user..first_user + users {
        // Writing to a string cannot fail.
        let _ = writeln!(
            body,
            r#"{{"user_id":{user},"timestamp":"2025-01-{day:02}T{hour:02}:{minute:02}:{rest:02}Z","heart_rate":70,"steps":{number}}}"#
        );
    }
    body
}

/// When a post went out, and when its answer was there.
#[derive(Clone, Copy)]
pub(crate) struct Posted {
    pub(crate) number: usize,
    pub(crate) began: Instant,
    pub(crate) answered: Instant,
}

/// Posts at an even pace from several connections.
pub(crate) async fn post_evenly(
    http: SocketAddr,
    connections: usize,
    samples_a_post: usize,
    samples_a_second: usize,
    time: Duration,
) -> Outcome<Vec<Posted>> {
    let pause =
        Duration::from_secs(1) * u32::try_from(connections * samples_a_post)? / u32::try_from(samples_a_second)?;
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let mut poster = Poster::connect(http).await?;
        tasks.push(tokio::spawn(async move {
            let mut posts = Vec::new();
            let mut clock = interval(pause);
            clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let end = Instant::now() + time;
            let mut second = 0;
            while Instant::now() < end {
                clock.tick().await;
                let number = second * connections + connection;
                let body = body(1 + connection * samples_a_post, samples_a_post, second, number);
                let began = Instant::now();
                poster.post(&body).await?;
                posts.push(Posted {
                    number,
                    began,
                    answered: Instant::now(),
                });
                second += 1;
            }
            Outcome::Ok(posts)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(all)
}

/// A connection that has subscribed to everyone.
pub(crate) async fn subscribe(feed: SocketAddr) -> Outcome<BufReader<TcpStream>> {
    let mut lines = BufReader::with_capacity(16 << 10, TcpStream::connect(feed).await?);
    lines.get_mut().write_all(b"SUBSCRIBE\n").await?;
    let mut line = String::new();
    while !line.contains("\"subscribed\"") {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            return Err("the feed has closed the connection".into());
        }
    }
    Ok(lines)
}

/// Reads on, and notes when each sample came, by the number of its post.
pub(crate) fn note_arrivals(mut lines: BufReader<TcpStream>, most: usize) -> JoinHandle<Vec<(usize, Instant)>> {
    tokio::spawn(async move {
        let mut arrivals = Vec::new();
        let mut line = Vec::new();
        while arrivals.len() < most && lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            if let Some(number) = number(&line) {
                arrivals.push((number, Instant::now()));
            }
            line.clear();
        }
        arrivals
    })
}

/// Reads on, and only counts.
pub(crate) fn count(mut lines: BufReader<TcpStream>) -> (Arc<Heard>, JoinHandle<()>) {
    let heard = Arc::new(Heard::default());
    let counting = Arc::clone(&heard);
    let task = tokio::spawn(async move {
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            if line.starts_with(br#"{"event":"sample""#) {
                counting.samples.fetch_add(1, Relaxed);
            } else if line.starts_with(br#"{"event":"lagged""#) {
                counting.lagged.fetch_add(1, Relaxed);
            }
            line.clear();
        }
    });
    (heard, task)
}

fn number(line: &[u8]) -> Option<usize> {
    let start = line.windows(MARK.len()).position(|part| part == MARK)? + MARK.len();
    let digits = line[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}
