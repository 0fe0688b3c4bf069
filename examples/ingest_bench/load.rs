//! The client's side, as thin as it can be: what it takes, the server does not have.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use examples::Connection;
use indicatif::ProgressBar;
use tokio::task::JoinSet;

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
pub(crate) async fn post_all(http: SocketAddr, bodies: &[Bytes]) -> Outcome<Duration> {
    let began = Instant::now();
    let mut posts = JoinSet::new();
    for body in bodies {
        let body = body.clone();
        posts.spawn(async move {
            let mut connection = Connection::open(http).await?;
            let head = head("application/x-ndjson", &format!("Content-Length: {}", body.len()));
            connection.send(head.as_bytes()).await?;
            connection.send(&body).await?;
            connection.expect_200().await
        });
    }
    while let Some(post) = posts.join_next().await {
        post??;
    }
    Ok(began.elapsed())
}

/// Posts the bodies in turn over so many kept-alive connections.
pub(crate) async fn post_in_turn(http: SocketAddr, bodies: &[Bytes], connections: usize) -> Outcome<Duration> {
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for first in 0..connections {
        let bodies: Vec<_> = bodies.iter().skip(first).step_by(connections).cloned().collect();
        clients.spawn(async move {
            let mut connection = Connection::open(http).await?;
            for body in bodies {
                let head = head("application/x-ndjson", &format!("Content-Length: {}", body.len()));
                connection.send(head.as_bytes()).await?;
                connection.send(&body).await?;
                connection.expect_200().await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(began.elapsed())
}

/// Posts rows as one chunked body, made while it is sent.
pub(crate) async fn post_stream(http: SocketAddr, rows: Rows, bar: &ProgressBar) -> Outcome<Duration> {
    const PIECE_ROWS: usize = 1_000;
    let began = Instant::now();
    let mut connection = Connection::open(http).await?;
    connection
        .send(head("application/x-ndjson", "Transfer-Encoding: chunked").as_bytes())
        .await?;
    for from in (0..rows.count).step_by(PIECE_ROWS) {
        let piece: String = (from..rows.count.min(from + PIECE_ROWS))
            .map(|place| rows.line(place, Values::First))
            .collect();
        connection
            .send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
            .await?;
        bar.set_message(format!("one body of {} lines: {from}", rows.count));
    }
    connection.send(b"0\r\n\r\n").await?;
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
                connection.send(format!("{head}{line}").as_bytes()).await?;
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

fn head(media_type: &str, length: &str) -> String {
    format!("POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n{length}\r\n\r\n")
}
