//! The clients that load a server.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use examples::{
    Connection, Result,
    bench::{Latencies, Progress, float},
};
use tokio::task::JoinSet;

use crate::dataset::{Dataset, HeartRates};

const NDJSON: &str = "application/x-ndjson";

/// Many calls: how long each took, and how many there were in a second.
pub(crate) struct CallRate {
    pub(crate) latencies: Latencies,
    pub(crate) per_second: f64,
}

impl CallRate {
    pub(crate) fn new(latencies: Latencies, time: Duration) -> Self {
        Self {
            per_second: float(latencies.count()) / time.as_secs_f64(),
            latencies,
        }
    }
}

/// Posts all bodies at once, each over its own connection. Returns how many seconds that took.
pub(crate) async fn post_at_once(http: SocketAddr, bodies: &[Bytes]) -> Result<f64> {
    post_over(http, bodies, bodies.len()).await
}

/// Posts one body over a connection. Returns how many seconds that took.
pub(crate) async fn post_one(mut connection: Connection, body: &[u8]) -> Result<f64> {
    let start = Instant::now();
    connection.ingest(NDJSON, body).await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Posts the bodies over this many kept-alive connections. Returns how many seconds that took.
pub(crate) async fn post_over(http: SocketAddr, bodies: &[Bytes], connections: usize) -> Result<f64> {
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for first in 0..connections {
        let bodies: Vec<_> = bodies.iter().skip(first).step_by(connections).cloned().collect();
        clients.spawn(async move {
            let mut connection = Connection::open(http).await?;
            for body in bodies {
                connection.ingest(NDJSON, &body).await?;
            }
            Result::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Posts a dataset as one body, which is made while it is sent. Returns how many seconds that took.
pub(crate) async fn post_as_stream(http: SocketAddr, dataset: Dataset, progress: &Progress) -> Result<f64> {
    const CHUNK_SAMPLES: usize = 1_000;
    let start = Instant::now();
    let chunks = (0..dataset.count).step_by(CHUNK_SAMPLES).map(|first| {
        progress.show(format!("one body of {} samples: {first}", dataset.count));
        (first..dataset.count.min(first + CHUNK_SAMPLES))
            .map(|index| dataset.record(index, HeartRates::Original))
            .collect()
    });
    Connection::open(http).await?.ingest_stream(NDJSON, chunks).await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Posts single samples for this long, over each of the connections as fast as the server responds.
pub(crate) async fn post_single_samples(
    http: SocketAddr,
    token: Option<&str>,
    connections: usize,
    time: Duration,
) -> Result<CallRate> {
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..connections {
        let token = token.map(str::to_owned);
        clients.spawn(async move {
            let mut connection = Connection::open(http).await?;
            if let Some(token) = token {
                connection = connection.with_token(&token);
            }
            let mut latencies = Latencies::default();
            while start.elapsed() < time {
                // No timestamp, as from a device that sends each sample at once.
                let (user, rate) = (client + 1, 60 + latencies.count() % 60);
                let record = format!("{{\"user_id\":{user},\"heart_rate\":{rate},\"steps\":3,\"calories\":0.25}}");
                latencies
                    .measure(connection.ingest("application/json", record.as_bytes()))
                    .await?;
            }
            Result::Ok(latencies)
        });
    }
    let mut latencies = Latencies::default();
    while let Some(client) = clients.join_next().await {
        latencies.append(client??);
    }
    Ok(CallRate::new(latencies, start.elapsed()))
}

/// Posts a sample of a user that no dataset has, every [`PACE`] over each connection, until the bodies are stored.
/// Returns how many seconds that took, and how long each sample took.
pub(crate) async fn post_beside_samples(
    http: SocketAddr,
    bodies: &[Bytes],
    connections: usize,
) -> Result<(f64, Latencies)> {
    /// Far from the rate at which single samples themselves load the machine.
    const PACE: Duration = Duration::from_millis(20);
    let mut clients = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for client in 0..connections {
        let stopped = stopped.clone();
        clients.spawn(async move {
            let mut connection = Connection::open(http).await?;
            let mut latencies = Latencies::default();
            let mut pace = tokio::time::interval(PACE);
            while !*stopped.borrow() {
                pace.tick().await;
                let record = format!("{{\"user_id\":{},\"steps\":3}}", 1_000_000_000 + client);
                latencies
                    .measure(connection.ingest("application/json", record.as_bytes()))
                    .await?;
            }
            Result::Ok(latencies)
        });
    }
    let seconds = post_at_once(http, bodies).await?;
    stop.send(true)?;
    let mut latencies = Latencies::default();
    while let Some(client) = clients.join_next().await {
        latencies.append(client??);
    }
    Ok((seconds, latencies))
}
