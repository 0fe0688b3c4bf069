//! A client of the live feed that misses no sample: it prints every sample as a line of JSON.
//!
//! ```text
//! cargo run --release --example tail -- --feed 127.0.0.1:8001 --users 101,202
//! ```
//!
//! Copy this program if you write a client. Five rules make it complete, in the order of the code below:
//!
//! 1. **Keep the cursor of the last sample that is processed**, which here means printed. A cursor that is kept earlier
//!    loses samples in a crash.
//! 2. **Reconnect with that cursor**, however the connection ended. Ignore a last line without its line end.
//! 3. **Treat silence as a lost connection.** The server sends an event at least every five seconds.
//! 4. **Resume after `lagged`** from the cursor it names. Ignore what arrives before the server has confirmed that.
//! 5. **Report `"resumed": false`.** It means that samples may be missing and that the server cannot send them any more.
//!
//! The client may print a sample twice, for example after a reconnect, but it never leaves one out.

use std::{
    io,
    os::fd::AsFd,
    process::{ExitCode, exit},
    time::Duration,
};

use clap::Parser;
use examples::shutdown_signal;
use health_core::{Cursor, FEED_PROTOCOL, FeedEvent, Sample, counted};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter, Stdout},
    net::TcpStream,
    time::{error::Elapsed, sleep, timeout},
};

/// Prints every sample that the server stores, as a line of JSON that can be posted to /ingest.
///
/// It reconnects by itself and misses nothing in between. When it ends, it prints to stderr how to continue from there:
/// --after CURSOR.
#[derive(Debug, Parser)]
#[command(name = "tail", max_term_width = 100)]
struct Args {
    /// The address of the server's feed
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8001", value_parser = host_and_port)]
    feed: String,
    /// Print only samples of these users, for example 101,202
    #[arg(long, value_name = "IDS")]
    users: Option<String>,
    /// Print at most one sample per user in this many milliseconds: the newest
    #[arg(long, value_name = "MS")]
    every: Option<u64>,
    /// Continue after this cursor, which an earlier run has printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// The API token, if the server requires one
    #[arg(long, env = "HEALTH_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// The client, over all of its connections.
struct Tail {
    args: Args,
    out: BufWriter<Stdout>,
    /// Every sample before this point is printed.
    cursor: Option<Cursor>,
    /// The pause before the next attempt to connect.
    retry_pause: Duration,
}

/// One connection to the feed.
struct Connection {
    stream: BufReader<TcpStream>,
    greeted: bool,
    /// The position of the stream at the beginning of the connection, until it is needed.
    hello_cursor: Option<Cursor>,
    /// A SUBSCRIBE was sent that the server has not confirmed yet.
    subscribing: bool,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Disconnect {
    #[error("the server closed the connection")]
    Closed,
    #[error("the server sent nothing for {MAX_SILENCE:?}")]
    Silent(#[from] Elapsed),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server refuses what the user asked for, so another attempt cannot succeed.
    #[error("{0}")]
    Refused(String),
    /// The program at the other end of the output pipe has ended.
    #[error("nothing reads the output any more")]
    OutputClosed,
}

/// Three times the interval of heartbeats, so that a delayed one does no harm.
const MAX_SILENCE: Duration = Duration::from_secs(15);

/// How long the program waits at its end for the output to accept the last lines.
const LAST_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause before the first reconnect. It doubles with each failed attempt.
const MIN_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause, so that a server that is back is noticed soon.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut tail = Tail {
        cursor: args.after.clone().map(Cursor::new),
        args,
        out: BufWriter::new(tokio::io::stdout()),
        retry_pause: MIN_RETRY_PAUSE,
    };
    let end = match shutdown_signal() {
        Ok(signal) => tokio::select! {
            end = tail.run() => Some(end),
            () = signal => None,
        },
        Err(error) => Some(Disconnect::Io(error)),
    };
    // If this fails, the cursor still lies before the lines that were not printed.
    let _ = timeout(LAST_FLUSH_TIMEOUT, tail.out.flush()).await;
    if let Some(cursor) = tail.cursor {
        log(&format!("continue from here with --after {cursor}"));
    }
    // `exit`, because a return would wait for a write to an output that is not read.
    match end {
        None | Some(Disconnect::OutputClosed) => exit(0),
        Some(error) => {
            log(&error.to_string());
            exit(1)
        }
    }
}

impl Tail {
    /// Follows the feed over one connection after the other. Returns only if another attempt cannot succeed.
    async fn run(&mut self) -> Disconnect {
        loop {
            let reason = match self.follow_once().await {
                Err(reason @ (Disconnect::Refused(_) | Disconnect::OutputClosed)) => return reason,
                Err(reason) => reason,
                Ok(never) => match never {},
            };
            // The random part keeps a thousand clients from reconnecting at the same moment.
            let pause = self.retry_pause.mul_f64(0.5 + fastrand::f64());
            log(&format!("{}: {reason}; reconnecting in {pause:.1?}", self.args.feed));
            sleep(pause).await;
            self.retry_pause = MAX_RETRY_PAUSE.min(self.retry_pause * 2);
        }
    }

    /// Follows the feed over one connection, to the end of the connection.
    async fn follow_once(&mut self) -> Result<std::convert::Infallible, Disconnect> {
        let mut connection = Connection::open(&self.args.feed).await?;
        let mut line = Vec::new();
        loop {
            connection.read_line(&mut line).await?;
            match serde_json::from_slice(&line) {
                Ok(event) => self.handle(event, &mut connection).await?,
                Err(error) => log(&format!("ignoring a line that is no event of {FEED_PROTOCOL}: {error}")),
            }
        }
    }

    async fn handle(&mut self, event: FeedEvent, connection: &mut Connection) -> Result<(), Disconnect> {
        match event {
            FeedEvent::Hello { protocol, .. } if protocol != FEED_PROTOCOL => {
                let reason = format!("the server speaks {protocol}, and this client {FEED_PROTOCOL}");
                return Err(Disconnect::Refused(reason));
            }
            FeedEvent::Hello { auth, cursor, .. } => {
                connection.greeted = true;
                // If the connection ends before the first sample, the next one resumes here.
                self.cursor.get_or_insert_with(|| cursor.clone());
                connection.hello_cursor = Some(cursor);
                if auth && let Some(token) = &self.args.token {
                    connection.send(&format!("AUTH {token}\n")).await?;
                }
                self.subscribe(connection).await?;
            }
            FeedEvent::Subscribed { resumed, reason } => {
                connection.subscribing = false;
                self.retry_pause = MIN_RETRY_PAUSE;
                if !resumed {
                    log(&format!("samples may be missing: {}", reason.unwrap_or_default()));
                    // The old cursor is of no use any more.
                    self.cursor = connection.hello_cursor.take().or(self.cursor.take());
                }
            }
            // The server does not accept a command.
            FeedEvent::Error { reason } if connection.greeted => return Err(Disconnect::Refused(reason)),
            // The server has no free connection, which may change.
            FeedEvent::Error { reason } | FeedEvent::Bye { reason } => log(&reason),
            // The event belongs to the subscription that a new SUBSCRIBE has replaced.
            _ if connection.subscribing => {}
            FeedEvent::Sample { cursor, sample } => {
                let is_last = !connection.has_another_line();
                self.print(&sample, cursor, is_last).await?;
            }
            FeedEvent::Heartbeat { cursor, .. } => {
                self.cursor = Some(cursor);
                if is_closed(&io::stdout()) {
                    return Err(Disconnect::OutputClosed);
                }
            }
            FeedEvent::Lagged { missed, cursor } => {
                log(&format!(
                    "this client is too slow: it missed {}, which it requests again",
                    counted(missed, "sample")
                ));
                self.cursor = Some(cursor);
                self.subscribe(connection).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends SUBSCRIBE with the user's options and the current cursor.
    async fn subscribe(&self, connection: &mut Connection) -> io::Result<()> {
        let options = [
            self.args.users.as_ref().map(|users| format!(" users={users}")),
            self.args.every.map(|milliseconds| format!(" every={milliseconds}")),
            self.cursor.as_ref().map(|cursor| format!(" after={cursor}")),
        ];
        let options: String = options.into_iter().flatten().collect();
        connection.subscribing = true;
        connection.send(&format!("SUBSCRIBE{options}\n")).await
    }

    /// Prints a sample. Flushes the output if no other sample has arrived, so that a backlog is written in large blocks.
    async fn print(&mut self, sample: &Sample, cursor: Cursor, flush: bool) -> Result<(), Disconnect> {
        let mut line = serde_json::to_vec(sample).map_err(io::Error::from)?;
        line.push(b'\n');
        let mut written = self.out.write_all(&line).await;
        if written.is_ok() && flush {
            written = self.out.flush().await;
        }
        written.map_err(|_| Disconnect::OutputClosed)?;
        if self.out.buffer().is_empty() {
            self.cursor = Some(cursor);
        }
        Ok(())
    }
}

impl Connection {
    async fn open(address: &str) -> Result<Self, Disconnect> {
        let stream = timeout(MAX_SILENCE, TcpStream::connect(address)).await??;
        Ok(Self {
            stream: BufReader::with_capacity(64 << 10, stream),
            greeted: false,
            hello_cursor: None,
            subscribing: false,
        })
    }

    /// Reads the next line in place of the last one. A line without its end is part of a lost connection.
    async fn read_line(&mut self, line: &mut Vec<u8>) -> Result<(), Disconnect> {
        line.clear();
        timeout(MAX_SILENCE, self.stream.read_until(b'\n', line)).await??;
        if line.ends_with(b"\n") {
            Ok(())
        } else {
            Err(Disconnect::Closed)
        }
    }

    /// Returns whether another line has already arrived.
    fn has_another_line(&self) -> bool {
        self.stream.buffer().contains(&b'\n')
    }

    async fn send(&mut self, command: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(command.as_bytes()).await
    }
}

/// Checks the form of an address, because a typing error should not lead to endless attempts to connect.
fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !host.is_empty() => Ok(text.to_owned()),
        _ => Err("write an address like 127.0.0.1:8001".to_owned()),
    }
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
