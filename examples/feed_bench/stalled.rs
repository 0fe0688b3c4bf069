//! Subscribers that send a command and never read: what they cost ingestion and memory, for each kind of subscription.

use std::time::{Duration, Instant};

use examples::{
    Connection, Result,
    bench::{Row, float, median},
    server_process::ServerProcess,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    time::sleep,
};

use crate::{
    clients::{NDJSON, Transport, body_of_users},
    measure::Bench,
};

/// A kind of subscription.
struct Kind {
    name: &'static str,
    options: &'static [&'static str],
    /// Resumes from before the backlog.
    resumes: bool,
    /// Gets the number of samples that it misses. The others read the newest samples only, or everything from the
    /// table.
    misses: bool,
}

/// One load with or without subscribers.
struct Load {
    samples_per_second: f64,
    /// The server's CPU time: it varies less than the rate if other programs run on the machine.
    cpu_seconds: f64,
    peak_mb: f64,
    missed: f64,
    /// Until the buffers of the subscribers were full.
    fill_seconds: f64,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "stalled all",
        options: &[],
        resumes: false,
        misses: true,
    },
    Kind {
        name: "stalled users",
        options: &["users=90,91"],
        resumes: false,
        misses: true,
    },
    Kind {
        name: "stalled every",
        options: &["every=1000"],
        resumes: false,
        misses: false,
    },
    Kind {
        name: "stalled resumed",
        options: &[],
        resumes: true,
        misses: false,
    },
];

/// The users of all samples.
const USERS: [usize; 2] = [90, 91];

/// Samples of one request.
const BODY_SAMPLES: usize = 10_000;

/// Requests before the subscribers come: the backlog, and the memory that every server needs.
const BACKLOG_BODIES: usize = 4;

/// Requests after the subscribers have come, until they have stalled: they fill the buffers of the system.
const FILL_BODIES: usize = 4;

/// Requests of a load: more samples than the server keeps for its subscribers by default.
const LOAD_BODIES: usize = 32;

const FIRST_BODY: usize = BACKLOG_BODIES + FILL_BODIES;

const CONNECTIONS: usize = 2;

/// A server that uses less CPU time than this in [`IDLE_TIME`] has nothing to do.
const IDLE_CPU_SECONDS: f64 = 0.03;
const IDLE_TIME: Duration = Duration::from_millis(200);

/// The receive buffer of a subscriber: so small that the server soon has to wait for it.
const RECEIVE_BUFFER_BYTES: u32 = 4096;

/// Runs the measurements of all kinds.
pub(crate) async fn stalled(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in &KINDS {
        if bench.args.rounds.wants(kind.name) {
            rows.extend(stalled_kind(bench, kind).await?);
        }
    }
    Ok(rows)
}

async fn stalled_kind(bench: &mut Bench<'_>, kind: &Kind) -> Result<Vec<Row>> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in bench.rounds(kind.name) {
        // The second load of a pair finds warmer caches.
        for has_readers in [round % 2 == 0, round % 2 != 0] {
            let readers = if has_readers { bench.args.readers } else { 0 };
            let load = load(&bench.fresh_database(), kind, bench.args.transport(), readers).await?;
            if has_readers { &mut with } else { &mut without }.push(load);
        }
    }
    let of = |loads: &[Load], field: fn(&Load) -> f64| median(loads.iter().map(field));
    let rate = |loads: &[Load]| of(loads, |load| load.samples_per_second);
    let (peak, peak_without) = (of(&with, |load| load.peak_mb), of(&without, |load| load.peak_mb));
    let missed = of(&with, |load| load.missed);
    let mut missed_row = Row::new("    health_feed_missed_total while they sleep", format!("{missed:.0}"));
    if kind.misses {
        missed_row = missed_row.at_least(missed, 1.0, "");
    }
    Ok(vec![
        Row::new(
            format!(
                "{}: samples/s beside {} subscribers, and without",
                kind.name, bench.args.readers
            ),
            format!("{:.0} k, {:.0} k", rate(&with) / 1e3, rate(&without) / 1e3),
        )
        .at_least(rate(&with) / rate(&without), 0.95, ""),
        Row::new(
            "    server's CPU time, and without",
            format!(
                "{:.2}, {:.2} s",
                of(&with, |load| load.cpu_seconds),
                of(&without, |load| load.cpu_seconds)
            ),
        ),
        Row::new(
            "    server's peak memory, and without",
            format!("{peak:.0}, {peak_without:.0} MB"),
        )
        .at_most(peak - peak_without, 64.0, " MB"),
        missed_row,
        Row::new(
            format!(
                "    time until they have stalled, after {FILL_BODIES} requests of {BODY_SAMPLES} samples, and without"
            ),
            format!(
                "{:.1}, {:.1} s",
                of(&with, |load| load.fill_seconds),
                of(&without, |load| load.fill_seconds)
            ),
        ),
    ])
}

/// Posts samples from two connections as fast as possible beside subscribers that do not read.
async fn load(database_url: &str, kind: &Kind, transport: Transport, readers: usize) -> Result<Load> {
    let mut server = ServerProcess::start(database_url).await?;
    let http = server.http();
    let mut hello = String::new();
    BufReader::new(TcpStream::connect(server.feed()).await?)
        .read_line(&mut hello)
        .await?;
    let cursor = hello
        .split("\"cursor\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let cursor = cursor.ok_or("the greeting has no cursor")?;

    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(http).await?);
    }
    for number in 0..BACKLOG_BODIES {
        let body = body_of_users(&USERS, BODY_SAMPLES, number * BODY_SAMPLES);
        connections[number % CONNECTIONS]
            .ingest(NDJSON, body.as_bytes())
            .await?;
    }
    until_idle(&server).await?;
    let fill_start = Instant::now();
    let after = format!("after={cursor}");
    let after = kind.resumes.then_some(after.as_str());
    let options: Vec<_> = kind.options.iter().copied().chain(after).collect();
    let request = transport.request(&options);
    let mut sleeping = Vec::new();
    for _ in 0..readers {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        let mut stream = socket.connect(transport.address(&server)).await?;
        stream.write_all(request.as_bytes()).await?;
        sleeping.push(stream);
    }

    for number in BACKLOG_BODIES..FIRST_BODY {
        let body = body_of_users(&USERS, BODY_SAMPLES, number * BODY_SAMPLES);
        connections[number % CONNECTIONS]
            .ingest(NDJSON, body.as_bytes())
            .await?;
    }
    until_idle(&server).await?;
    let filled = fill_start.elapsed();

    let bodies: Vec<String> = (FIRST_BODY..FIRST_BODY + LOAD_BODIES)
        .map(|number| body_of_users(&USERS, BODY_SAMPLES, number * BODY_SAMPLES))
        .collect();
    let (start, cpu_before) = (Instant::now(), server.cpu_seconds()?);
    let mut clients = Vec::new();
    for (client, mut connection) in connections.into_iter().enumerate() {
        let bodies: Vec<String> = bodies.iter().skip(client).step_by(CONNECTIONS).cloned().collect();
        clients.push(tokio::spawn(async move {
            for body in &bodies {
                connection.ingest(NDJSON, body.as_bytes()).await?;
            }
            Result::Ok(())
        }));
    }
    for client in clients {
        client.await??;
    }
    let load = Load {
        samples_per_second: float(LOAD_BODIES * BODY_SAMPLES) / start.elapsed().as_secs_f64(),
        cpu_seconds: server.cpu_seconds()? - cpu_before,
        peak_mb: server.peak_rss_mib()?,
        missed: missed(http).await?,
        fill_seconds: filled.as_secs_f64(),
    };
    drop(sleeping);
    server.stop().await?;
    Ok(load)
}

/// Waits until the server has nothing to do.
async fn until_idle(server: &ServerProcess) -> Result<()> {
    loop {
        let before = server.cpu_seconds()?;
        sleep(IDLE_TIME).await;
        if server.cpu_seconds()? - before < IDLE_CPU_SECONDS {
            return Ok(());
        }
    }
}

/// Reads how many samples the subscribers have missed so far.
async fn missed(http: std::net::SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(http).await?;
    let request = b"GET /-/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let value = response
        .lines()
        .find_map(|line| line.strip_prefix("health_feed_missed_total "))
        .ok_or("there is no health_feed_missed_total")?;
    Ok(value.trim().parse()?)
}
