//! The client's side, as thin as it can be: what it takes, the server does not have.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    Outcome,
    data::{Rows, Values},
    float,
};

/// How long each of many calls took.
pub(crate) struct Run {
    latencies: Vec<Duration>,
    took: Duration,
}

impl Run {
    pub(crate) fn new(latencies: Vec<Duration>, took: Duration) -> Self {
        Self { latencies, took }
    }

    pub(crate) fn per_second(&self) -> f64 {
        float(self.latencies.len()) / self.took.as_secs_f64()
    }

    pub(crate) fn quantile_ms(&mut self, per_mille: usize) -> f64 {
        self.latencies.sort_unstable();
        // In thousandths, to stay with integers.
        let place = self.latencies.len() * per_mille / 1_000;
        self.latencies
            .get(place)
            .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// Posts each body over a connection of its own, all at once.
pub(crate) async fn post_all(http: SocketAddr, bodies: &[Vec<u8>]) -> Outcome<Duration> {
    let began = Instant::now();
    let mut posts = JoinSet::new();
    for body in bodies {
        let body = body.clone();
        posts.spawn(async move {
            let mut connection = Connection::open(http).await?;
            let head = head("application/x-ndjson", &format!("Content-Length: {}", body.len()));
            connection.stream.write_all(head.as_bytes()).await?;
            connection.stream.write_all(&body).await?;
            connection.expect_200().await
        });
    }
    while let Some(post) = posts.join_next().await {
        post??;
    }
    Ok(began.elapsed())
}

/// Posts rows as one chunked body, made while it is sent.
pub(crate) async fn post_stream(http: SocketAddr, rows: Rows, bar: &ProgressBar) -> Outcome<Duration> {
    const PIECE_ROWS: usize = 1_000;
    let began = Instant::now();
    let mut connection = Connection::open(http).await?;
    connection
        .stream
        .write_all(head("application/x-ndjson", "Transfer-Encoding: chunked").as_bytes())
        .await?;
    for from in (0..rows.count).step_by(PIECE_ROWS) {
        let piece: String = (from..rows.count.min(from + PIECE_ROWS))
            .map(|place| rows.line(place, Values::First))
            .collect();
        connection
            .stream
            .write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
            .await?;
        bar.set_message(format!("one body of {} lines: {from}", rows.count));
    }
    connection.stream.write_all(b"0\r\n\r\n").await?;
    connection.expect_200().await?;
    Ok(began.elapsed())
}

/// Posts one sample a request over so many kept-alive connections.
pub(crate) async fn singles(http: SocketAddr, connections: usize, length: Duration) -> Outcome<Run> {
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..connections {
        clients.spawn(async move {
            let mut connection = Connection::open(http).await?;
            let mut latencies = Vec::new();
            while began.elapsed() < length {
                // Without a timestamp: a device that sends as it measures.
                let (user, rate) = (client + 1, 60 + latencies.len() % 60);
                let line = format!("{{\"user_id\":{user},\"heart_rate\":{rate},\"steps\":3,\"calories\":0.25}}");
                let head = head("application/json", &format!("Content-Length: {}", line.len()));
                let sent = Instant::now();
                connection.stream.write_all(format!("{head}{line}").as_bytes()).await?;
                connection.expect_200().await?;
                latencies.push(sent.elapsed());
            }
            Outcome::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.extend(client??);
    }
    Ok(Run::new(latencies, began.elapsed()))
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(http: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(http).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            answer: Vec::new(),
        })
    }

    async fn expect_200(&mut self) -> Outcome<()> {
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            let text = String::from_utf8_lossy(&self.answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return if head.starts_with("HTTP/1.1 200") {
                    Ok(())
                } else {
                    Err(text.into())
                };
            }
        }
    }
}

fn head(media_type: &str, length: &str) -> String {
    format!("POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n{length}\r\n\r\n")
}
