//! A client of the live feed that misses no sample: it prints every sample as a line of JSON.
//!
//! ```text
//! cargo run --release --example tail -- --feed 127.0.0.1:8001 --users 101,202
//! ```
//!
//! `health_core::client::FeedClient` keeps the connection. Its documentation lists the rules that make a client
//! complete, for clients in other languages. What is left for its caller is to process the samples, which here means to
//! print them, before it asks for more: only then the resume point moves, so a crash loses nothing.
//!
//! The client may print a sample twice, for example after a reconnect, but it never leaves one out.

use std::{
    io,
    os::fd::AsFd,
    process::{ExitCode, exit},
    time::Duration,
};

use clap::Parser;
use examples::{CredentialArgs, shutdown_signal};
use health_core::client::{Credentials, FeedAddress, FeedClient, FeedError, FeedOptions, FeedUpdate};
use health_core::{Cursor, Erasure, RecordedEvent, Sample, counted, flags::parse_command_line};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::{AsyncWriteExt, BufWriter, Stdout},
    time::timeout,
};

/// Prints every sample that the server stores, as a line of JSON that can be posted to /ingest. If samples are erased,
/// it prints an `erased` event among them, as JSON: drop what you hold of them.
///
/// It reconnects by itself and misses nothing in between. When it ends, it prints to stderr how to continue from there:
/// --after CURSOR.
#[derive(Debug, Parser)]
#[command(name = "tail", max_term_width = 100)]
struct Args {
    /// The address of the server's feed, with tls:// before it if the server has a certificate
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8001")]
    feed: FeedAddress,
    /// Print only samples of these users, for example 101,202
    #[arg(long, value_name = "IDS")]
    users: Option<String>,
    /// Print at most one sample per user in this many milliseconds: the newest
    #[arg(long, value_name = "MS")]
    every: Option<u64>,
    /// Continue after this cursor, which an earlier run has printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    #[command(flatten)]
    credentials: CredentialArgs,
}

/// Why the program ends by itself.
#[derive(Debug, thiserror::Error)]
enum End {
    /// The server refuses what the user asked for, so another attempt cannot succeed.
    #[error(transparent)]
    Refused(FeedError),
    /// The program at the other end of the output pipe has ended.
    #[error("nothing reads the output any more")]
    OutputClosed,
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

/// How long the program waits at its end for the output to accept the last lines.
const LAST_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = parse_command_line::<Args>();
    let address = args.feed.host_and_port().to_owned();
    let credentials = Credentials::from(args.credentials);
    let access = match credentials.access(&address, args.feed.is_tls(false)) {
        Ok(access) => access,
        Err(error) => {
            log(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let mut client = FeedClient::new(FeedOptions {
        address: address.clone(),
        token: access.token,
        tls: access.tls,
        users: args.users,
        every_milliseconds: args.every,
        after: args.after.map(Cursor::new),
        ..FeedOptions::default()
    });
    let mut out = BufWriter::new(tokio::io::stdout());
    let end = match shutdown_signal() {
        Ok(signal) => tokio::select! {
            end = follow(&mut client, &mut out, &address) => Some(end),
            () = signal => None,
        },
        Err(error) => Some(End::Signals(error)),
    };
    // If this fails, the cursor still lies before the lines that were not printed.
    let _ = timeout(LAST_FLUSH_TIMEOUT, out.flush()).await;
    if let Some(cursor) = client.cursor() {
        log(&format!("continue from here with --after {cursor}"));
    }
    // `exit`, because a return would wait for a write to an output that is not read.
    match end {
        None if client.cursor().is_none() => {
            log(&format!("nothing was received: {} could not be reached", args.feed));
            exit(1)
        }
        None | Some(End::OutputClosed) => exit(0),
        Some(error) => {
            log(&error.to_string());
            exit(1)
        }
    }
}

/// Prints the samples of the feed. Returns only if another attempt to connect cannot succeed.
async fn follow(client: &mut FeedClient, out: &mut BufWriter<Stdout>, address: &str) -> End {
    loop {
        match client.next().await {
            FeedUpdate::Samples(samples) if print(out, &samples).await.is_err() => return End::OutputClosed,
            FeedUpdate::Erased(erasure) if print_erased(out, erasure.clone()).await.is_err() => {
                return End::OutputClosed;
            }
            FeedUpdate::Heartbeat if is_closed(&io::stdout()) => return End::OutputClosed,
            FeedUpdate::Connected {
                resumed: Some(false),
                reason,
            } => log(&format!("samples may be missing: {}", reason.unwrap_or_default())),
            FeedUpdate::Connected { .. } => log(&format!("{address}: connected")),
            FeedUpdate::Lagged { missed, .. } => log(&format!(
                "this client is too slow: it missed {}, which it requests again",
                counted(missed, "sample")
            )),
            FeedUpdate::Disconnected { reason, .. }
                if reason.is_final() || (client.cursor().is_none() && reason.is_final_at_first()) =>
            {
                return End::Refused(reason);
            }
            FeedUpdate::Disconnected { reason, retry_in, .. } => {
                log(&format!("{address}: {reason}; reconnecting in {retry_in:.1?}"));
            }
            _ => {}
        }
    }
}

/// Prints samples, and returns when the reader of the output has them or the pipe holds them.
async fn print(out: &mut BufWriter<Stdout>, samples: &[Sample]) -> io::Result<()> {
    for sample in samples {
        let mut line = serde_json::to_vec(sample)?;
        line.push(b'\n');
        out.write_all(&line).await?;
    }
    out.flush().await
}

/// Prints an erasure as an event of the feed without its cursor.
async fn print_erased(out: &mut BufWriter<Stdout>, erasure: Erasure) -> io::Result<()> {
    let mut line = serde_json::to_vec(&RecordedEvent::Erased(erasure))?;
    line.push(b'\n');
    out.write_all(&line).await?;
    out.flush().await
}

/// Returns whether `out` is a pipe whose reader has ended, as in `tail | head -1`.
///
/// A write would report that too, but none happens while no samples arrive.
fn is_closed(out: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(out, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().contains(PollFlags::ERR)
}

/// Prints a message for the user to stderr, because stdout is only for samples.
fn log(message: &str) {
    use std::io::Write;
    // If stderr is closed, there is no other way to tell the user.
    let _ = writeln!(io::stderr(), "tail: {message}");
}
