//! The command `import`: reads files of devices and apps, and posts their records to a server.
//!
//! A thread reads the files and makes batches of records; the task beside it posts one batch after the other. At most a few
//! batches are in memory. The server merges records by their identity. So an import that is interrupted, or whose server was
//! killed, is repeated from its start, and nothing is stored twice.

mod archive;
mod batch;
mod client;
mod files;
mod input;
mod progress;
mod recognise;
mod sender;
mod server_url;
mod table;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use chrono::{TimeDelta, Utc};
use health_core::{ReceiveClock, formats::FileOptions};
use tokio::{sync::mpsc, task::spawn_blocking};

use self::{
    batch::Batches,
    client::Client,
    files::{FileReader, file_without_user},
    progress::Progress,
    sender::send_all,
    server_url::ServerUrl,
    table::Table,
};
use crate::args::import::ImportArgs;

/// How far ahead of this machine's clock a time may be, as by default for the server (`--max-future`).
const MAX_FUTURE: TimeDelta = TimeDelta::minutes(5);

/// Batches that wait for the server. While it stores one, the next ones are read.
const WAITING_BATCHES: usize = 2;

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
    let progress = Progress::new(&args.files);
    let (batches, received) = mpsc::channel(WAITING_BATCHES);
    let reader = FileReader {
        options,
        batches: Batches::new(batches, args.dry_run),
        progress: Arc::clone(&progress),
    };
    let reading = spawn_blocking(move || reader.read_all(&args.files));
    let sent = match client {
        Some(client) => send_all(client, received, &progress).await,
        None => Ok(Table::default()),
    };
    let (mut table, is_whole) = reading
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    progress.finish();
    let is_sent = match sent {
        Ok(sent) => {
            table.merge(sent);
            true
        }
        Err(failed) => {
            table.merge(failed.sent);
            progress.say(&failed.reason);
            false
        }
    };
    let is_printed = io::stdout().write_all(table.text(args.dry_run).as_bytes()).is_ok();
    ExitCode::from(u8::from(!(is_whole && is_sent && is_printed)))
}

fn connect(args: &ImportArgs) -> Result<Client, String> {
    let url: ServerUrl = args.server.parse()?;
    let access = args.credentials().access(&url.address(), url.is_tls);
    Client::new(url, access.map_err(|error| error.to_string())?)
}

fn wrong_usage(reason: &str) -> ExitCode {
    // If stderr is closed, the exit status remains.
    let _ = writeln!(io::stderr(), "health-server import: {reason}");
    ExitCode::from(WRONG_USAGE)
}
