//! The command `import`: reads files of devices and apps, and posts their records to a server.
//!
//! A thread reads the files and makes batches of records; the task beside it posts one batch after the other. At most a
//! few batches are in memory. The server merges records by their identity. So an import that is interrupted, or whose
//! server was killed, is repeated from its start, and nothing is stored twice.

mod archive;
mod batch;
mod client;
mod files;
mod first_refusals;
mod input;
mod nothing_stored;
mod patience;
mod progress;
mod reading;
mod recognise;
mod remedy;
mod sender;
mod server_url;
mod stop;
mod table;
mod token_remedy;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use health_core::{ReceiveClock, client::CredentialsError, formats::FileOptions};
use tokio::{
    select,
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use self::{
    batch::Batches,
    client::Client,
    files::{FileReader, file_without_user},
    progress::Progress,
    reading::SharedReading,
    sender::{SendFailed, send_all},
    server_url::ServerUrl,
    stop::Stop,
    table::Table,
};
use crate::args::import::ImportArgs;

/// How far ahead of this machine's clock a time may be, as by default for the server (`--max-future`).
const MAX_FUTURE: TimeDelta = TimeDelta::minutes(5);

/// Batches that wait for the server. While it stores one, the next ones are read.
const WAITING_BATCHES: usize = 2;

/// How long the thread that reads files may take to end after an interrupt. If it waits for a pipe, nothing ends it.
const READER_PATIENCE: Duration = Duration::from_secs(1);

/// The exit status of a command line that cannot work, as for unknown options.
const WRONG_USAGE: u8 = 2;

/// Reads and posts the files, prints the table, and returns the exit status.
pub(crate) async fn execute(args: ImportArgs) -> ExitCode {
    let client = if args.dry_run {
        Ok(None)
    } else {
        connect(&args).map(Some)
    };
    let client = match client {
        Ok(client) => client,
        Err(reason) => return wrong_usage(&reason),
    };
    let options = FileOptions {
        clock: ReceiveClock {
            received_at: Utc::now(),
            max_future: MAX_FUTURE,
        },
        user: args.user,
        source: args.source,
        zone: args.tz,
    };
    if options.user.is_none()
        && let Some(file) = file_without_user(&args.files)
    {
        let reason = format!(
            "{} names no user: add --user N with the number of the person.",
            file.display()
        );
        return wrong_usage(&reason);
    }
    let stop = match Stop::on_signals() {
        Ok(stop) => stop,
        Err(error) => return failed(&format!("cannot wait for signals: {error}.")),
    };
    let progress = Progress::new(&args.files);
    let reading = Arc::new(SharedReading::default());
    let (batches, received) = mpsc::channel(WAITING_BATCHES);
    let reader = FileReader {
        options,
        batches: Batches::new(batches, args.dry_run, stop.token()),
        progress: Arc::clone(&progress),
        reading: Arc::clone(&reading),
    };
    let thread = spawn_blocking(move || reader.read_all(&args.files));
    let sent = match client {
        Some(client) => send_all(client, received, &progress, &stop).await,
        None => Ok(Table::default()),
    };
    if sent.is_err() {
        stop.stop_reading();
    }
    end_of(thread, &stop).await;
    progress.finish();
    report(&reading, sent, args.dry_run)
}

/// Waits for the end of the thread that reads.
async fn end_of(mut thread: JoinHandle<()>, stop: &Stop) {
    let joined = select! {
        biased;
        joined = &mut thread => Some(joined),
        () = stop.wanted() => timeout(READER_PATIENCE, &mut thread).await.ok(),
    };
    if let Some(Err(panic)) = joined {
        std::panic::resume_unwind(panic.into_panic());
    }
}

/// Prints the sentences and the table, and returns the exit status.
fn report(reading: &SharedReading, sent: Result<Table, SendFailed>, is_dry_run: bool) -> ExitCode {
    let mut reading = reading.take();
    let failure = match sent {
        Ok(sent) => {
            reading.table().merge(sent);
            (!reading.is_ended()).then(|| "Interrupted. The table counts what was read before.".to_owned())
        }
        Err(failed) => {
            reading.table().merge(failed.sent);
            Some(failed.reason)
        }
    };
    let mut sentences = reading.table().first_refusals();
    sentences.extend(reading.nothing_stored.sentences());
    let status = u8::from(failure.is_some() || !reading.is_whole());
    sentences.extend(failure);
    for sentence in sentences {
        say(&sentence);
    }
    let table = reading.table().text(is_dry_run);
    let is_printed = io::stdout().write_all(table.as_bytes()).is_ok();
    ExitCode::from(status.max(u8::from(!is_printed)))
}

fn connect(args: &ImportArgs) -> Result<Client, String> {
    let url: ServerUrl = args.server.parse()?;
    let access = args.credentials().access(&url.address(), url.is_tls);
    let access = access.map_err(|error| match error {
        CredentialsError::PlainToken(address) => format!(
            "the API token would travel to {address} in plain text. Write https:// in --server if the server has a \
             certificate, or add --allow-plain-token if no other machine can listen there."
        ),
        error => error.to_string(),
    })?;
    Client::new(url, access)
}

fn wrong_usage(reason: &str) -> ExitCode {
    say(reason);
    ExitCode::from(WRONG_USAGE)
}

fn failed(reason: &str) -> ExitCode {
    say(reason);
    ExitCode::FAILURE
}

fn say(sentence: &str) {
    // If stderr is closed, the exit status remains.
    let _ = writeln!(io::stderr(), "health-server import: {sentence}");
}
