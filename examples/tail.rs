//! Follows the live feed and prints every sample as a line of JSON: the model of a client that misses nothing.
//!
//! `cargo run --release --example tail -- --feed 127.0.0.1:8001 --users 101,202`
//!
//! It remembers the last cursor it saw and comes back with it, however the connection ended; so a sample may be printed
//! twice, and none is left out. `--after` goes on where an earlier run has stopped: it prints its last cursor on stderr.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::Parser;
use health_core::{Cursor, FeedEvent};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Prints what is committed, as it is committed.
#[derive(Debug, Parser)]
struct Args {
    /// Where the feed is served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8001")]
    feed: String,
    /// Only these users, such as 101,202
    #[arg(long, value_name = "IDS")]
    users: Option<String>,
    /// At most one sample a user, the newest, in so many milliseconds
    #[arg(long, value_name = "MS")]
    every: Option<u64>,
    /// The last cursor of an earlier run
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// The token, where tokens are in force
    #[arg(long, env = "HEALTH_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Why following cannot go on. Everything else is worth another try.
#[derive(Debug)]
enum Stop {
    /// The server does not like what it was told.
    Refused(String),
    /// Nobody reads what is printed.
    Unread,
}

/// A server that is well says something at least every five seconds.
const SILENCE: Duration = Duration::from_secs(15);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut cursor = args.after.clone().map(Cursor::new);
    let mut pause = FIRST_PAUSE;
    let stop = loop {
        let before = cursor.clone();
        let ended = tokio::select! {
            ended = follow(&args, &mut cursor) => ended,
            _ = tokio::signal::ctrl_c() => break None,
        };
        match ended {
            Err(stop) => break Some(stop),
            Ok(reason) => note(&format!("{reason}: coming back in {pause:?}")),
        }
        // Whoever got somewhere starts over with a short pause; a little chance keeps clients from coming back all at once.
        let next = if cursor == before {
            LONGEST_PAUSE.min(pause * 2)
        } else {
            FIRST_PAUSE
        };
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = next;
    };
    if let Some(cursor) = cursor {
        note(&format!("--after {cursor}"));
    }
    match stop {
        Some(Stop::Refused(reason)) => {
            note(&reason);
            ExitCode::FAILURE
        }
        Some(Stop::Unread) | None => ExitCode::SUCCESS,
    }
}

/// Follows the feed over one connection, and says how that ended.
async fn follow(args: &Args, cursor: &mut Option<Cursor>) -> Result<String, Stop> {
    match connected(args, cursor).await {
        Ok(ended) => ended.map(|()| "the server has closed the connection".to_owned()),
        Err(error) => Ok(error.to_string()),
    }
}

async fn connected(args: &Args, cursor: &mut Option<Cursor>) -> std::io::Result<Result<(), Stop>> {
    let mut lines = BufReader::new(timeout(SILENCE, TcpStream::connect(&args.feed)).await??);
    lines
        .get_mut()
        .write_all(commands(args, cursor.as_ref()).as_bytes())
        .await?;
    let mut line = String::new();
    let mut greeted = false;
    while timeout(SILENCE, lines.read_line(&mut line)).await?? > 0 {
        let event = serde_json::from_str(&line)?;
        line.clear();
        match event {
            FeedEvent::Sample { cursor: at, sample } => {
                if writeln!(std::io::stdout(), "{}", serde_json::to_string(&sample)?).is_err() {
                    return Ok(Err(Stop::Unread));
                }
                // Only now: had printing failed, the sample would have to come again.
                *cursor = Some(at);
            }
            FeedEvent::Heartbeat { cursor: at, .. } => *cursor = Some(at),
            // From now on, should the connection end before the first sample.
            FeedEvent::Hello { cursor: at, .. } => {
                greeted = true;
                cursor.get_or_insert(at);
            }
            FeedEvent::Lagged { missed, cursor: at } => {
                note(&format!("{missed} samples came too fast, fetching them"));
                *cursor = Some(at);
                return Ok(Ok(()));
            }
            FeedEvent::Subscribed { resumed: false, reason } => {
                note(&format!("samples may be missing: {}", reason.unwrap_or_default()));
                *cursor = None;
            }
            FeedEvent::Error { reason } if greeted => return Ok(Err(Stop::Refused(reason))),
            // An error before the greeting: there is no room for us yet.
            FeedEvent::Error { reason } | FeedEvent::Bye { reason } => note(&reason),
            _ => {}
        }
    }
    Ok(Ok(()))
}

/// What the server is told.
fn commands(args: &Args, cursor: Option<&Cursor>) -> String {
    let auth = args.token.as_ref().map(|token| format!("AUTH {token}\n"));
    let users = args.users.as_ref().map(|users| format!(" users={users}"));
    let every = args.every.map(|millis| format!(" every={millis}"));
    let after = cursor.map(|cursor| format!(" after={cursor}"));
    let part = Option::unwrap_or_default;
    format!("{}SUBSCRIBE{}{}{}\n", part(auth), part(users), part(every), part(after))
}

/// Speaks to the person; stdout is for the samples.
fn note(what: &str) {
    // With stderr gone there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "tail: {what}");
}
