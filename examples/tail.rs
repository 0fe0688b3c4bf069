//! Follows the live feed and prints every sample as a line of JSON: the model of a client that misses nothing.
//!
//! `cargo run --release --example tail -- --feed 127.0.0.1:8001 --users 101,202`
//!
//! What makes a client miss nothing, in the order in which it appears below:
//!
//! 1. It keeps the last cursor it has seen, once what came before it is dealt with (here: printed), and never sooner.
//! 2. However a connection ends, it comes back with that cursor; a line that was cut off counts as not heard.
//! 3. Silence is an end as well: a server that is well says something every five seconds.
//! 4. `lagged` is answered by resuming from the cursor it names; what still comes before that is answered is let go.
//! 5. `resumed: false` is told to a person: there is a gap that nobody can fill.
//!
//! So a sample may be printed twice, and none is left out.

use std::{
    io,
    os::fd::AsFd,
    process::{ExitCode, exit},
    time::Duration,
};

use clap::Parser;
use examples::asked_to_end;
use health_core::{Cursor, FEED_PROTOCOL, FeedEvent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter, Stdout},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Prints what is committed, as it is committed: a line of JSON a sample, which can be posted to /ingest again.
///
/// It comes back by itself when a server ends or cannot be reached, and misses nothing meanwhile. When it ends it says on
/// stderr how to go on: --after CURSOR.
#[derive(Debug, Parser)]
#[command(name = "tail")]
struct Args {
    /// Where the feed is served
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8001", value_parser = host_and_port)]
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

/// A client, over all its connections.
struct Tail {
    args: Args,
    out: BufWriter<Stdout>,
    /// All before it was printed.
    cursor: Option<Cursor>,
    /// Until the next connection.
    pause: Duration,
}

/// One connection.
struct Connection {
    lines: BufReader<TcpStream>,
    /// The answer to SUBSCRIBE is still to come.
    asked: bool,
    /// Where the stream stood when it began.
    greeting: Option<Cursor>,
}

/// A server that is well says something at least every five seconds.
const SILENCE: Duration = Duration::from_secs(15);

/// How long whoever reads what is printed may take for the last of it.
const LAST_LINES: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut tail = Tail {
        cursor: args.after.clone().map(Cursor::new),
        args,
        out: BufWriter::new(tokio::io::stdout()),
        pause: FIRST_PAUSE,
    };
    let stopped = match asked_to_end() {
        Ok(asked) => tokio::select! {
            stop = tail.follow() => Some(stop),
            () = asked => None,
        },
        Err(error) => Some(Stop::Refused(error.to_string())),
    };
    // What is on its way is still printed; should that take too long, it lies behind the cursor.
    let _ = timeout(LAST_LINES, tail.out.flush()).await;
    if let Some(cursor) = tail.cursor {
        note(&format!("to go on from here: --after {cursor}"));
    }
    // Not by returning: that would wait for whoever does not read what is printed.
    match stopped {
        Some(Stop::Refused(reason)) => {
            note(&reason);
            exit(1)
        }
        Some(Stop::Unread) | None => exit(0),
    }
}

impl Tail {
    /// Follows the feed over one connection after the other.
    async fn follow(&mut self) -> Stop {
        loop {
            let reason = match self.connection().await {
                Ok(Ok(())) => "the connection was closed".to_owned(),
                Ok(Err(stop)) => return stop,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => "the server is silent".to_owned(),
                Err(error) => error.to_string(),
            };
            // A little chance keeps a thousand clients from coming back all at once.
            let pause = self.pause.mul_f64(0.5 + fastrand::f64());
            note(&format!("{}: {reason}, trying again in {pause:.1?}", self.args.feed));
            sleep(pause).await;
            self.pause = LONGEST_PAUSE.min(self.pause * 2);
        }
    }

    /// Follows the feed over one connection, to its end.
    async fn connection(&mut self) -> io::Result<Result<(), Stop>> {
        let stream = timeout(SILENCE, TcpStream::connect(&self.args.feed)).await??;
        let mut connection = Connection {
            lines: BufReader::with_capacity(64 << 10, stream),
            asked: false,
            greeting: None,
        };
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = timeout(SILENCE, connection.lines.read_until(b'\n', &mut line)).await;
            // What is cut off by the end was not heard.
            if read?? == 0 || !line.ends_with(b"\n") {
                return Ok(Ok(()));
            }
            match serde_json::from_slice(&line) {
                Ok(event) => {
                    if let Err(stop) = self.take(event, &mut connection).await? {
                        return Ok(Err(stop));
                    }
                }
                Err(error) => note(&format!("the server says what cannot be understood, {error}")),
            }
        }
    }

    async fn take(&mut self, event: FeedEvent, connection: &mut Connection) -> io::Result<Result<(), Stop>> {
        match event {
            FeedEvent::Hello { protocol, .. } if protocol != FEED_PROTOCOL => {
                return Ok(Err(Stop::Refused(format!("this is no {FEED_PROTOCOL} but {protocol}"))));
            }
            FeedEvent::Hello { auth, cursor: at, .. } => {
                // From now on, should the connection end before the first sample.
                self.cursor.get_or_insert_with(|| at.clone());
                connection.greeting = Some(at);
                if auth && let Some(token) = &self.args.token {
                    connection.say(&format!("AUTH {token}\n")).await?;
                }
                self.subscribe(connection).await?;
            }
            FeedEvent::Subscribed { resumed, reason } => {
                connection.asked = false;
                self.pause = FIRST_PAUSE;
                if !resumed {
                    note(&format!("samples may be missing: {}", reason.unwrap_or_default()));
                    // Of what lies before there is no more to be had.
                    self.cursor = connection.greeting.take().or(self.cursor.take());
                }
            }
            FeedEvent::Error { reason } if connection.greeting.is_some() => {
                return Ok(Err(Stop::Refused(reason)));
            }
            // An error before the greeting: there is no room for us yet.
            FeedEvent::Error { reason } | FeedEvent::Bye { reason } => note(&reason),
            // It belongs to a subscription that was given up.
            _ if connection.asked => {}
            FeedEvent::Sample { cursor: at, sample } => {
                let mut text = serde_json::to_vec(&sample)?;
                text.push(b'\n');
                let mut printed = self.out.write_all(&text).await;
                // Flushed when nothing more has arrived, so that a backlog is printed at the pace of the disk.
                if printed.is_ok() && !connection.lines.buffer().contains(&b'\n') {
                    printed = self.out.flush().await;
                }
                if printed.is_err() {
                    return Ok(Err(Stop::Unread));
                }
                if self.out.buffer().is_empty() {
                    self.cursor = Some(at);
                }
            }
            FeedEvent::Heartbeat { cursor: at, .. } => {
                self.cursor = Some(at);
                if is_unread(&io::stdout()) {
                    return Ok(Err(Stop::Unread));
                }
            }
            FeedEvent::Lagged { missed, cursor: at } => {
                note(&format!("{missed} samples came too fast, fetching them"));
                self.cursor = Some(at);
                self.subscribe(connection).await?;
            }
            _ => {}
        }
        Ok(Ok(()))
    }

    async fn subscribe(&self, connection: &mut Connection) -> io::Result<()> {
        let option =
            |name: &str, value: Option<String>| value.map_or(String::new(), |value| format!(" {name}={value}"));
        let users = option("users", self.args.users.clone());
        let every = option("every", self.args.every.map(|millis| millis.to_string()));
        let after = option("after", self.cursor.as_ref().map(ToString::to_string));
        connection.asked = true;
        connection.say(&format!("SUBSCRIBE{users}{every}{after}\n")).await
    }
}

impl Connection {
    async fn say(&mut self, command: &str) -> io::Result<()> {
        self.lines.get_mut().write_all(command.as_bytes()).await
    }
}

/// Refuses at once what no waiting can mend.
fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !host.is_empty() => Ok(text.to_owned()),
        _ => Err("an address is written like 127.0.0.1:8001".to_owned()),
    }
}

/// Whether it leads to a pipe that nobody reads any more, as that of `tail | head -1` soon does: without samples nothing is
/// written that would tell.
fn is_unread(out: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(out, PollFlags::empty())];
    poll(&mut asked, Some(&Timespec::default())).is_ok() && asked[0].revents().contains(PollFlags::ERR)
}

/// Speaks to the person; stdout is for the samples.
fn note(what: &str) {
    use std::io::Write;
    // With stderr gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "tail: {what}");
}
