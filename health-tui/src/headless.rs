//! The feed without a dashboard: for `--plain` and `record`. It reports the connection on stderr.

use std::{
    io::{self, Write},
    sync::Arc,
};

use health_core::{Sample, counted};
use tokio::sync::{Notify, mpsc};

use crate::{
    app::{ConnectionEvent, NetworkEvent},
    error::Error,
    net::{FeedClient, FeedOptions},
    options::Options,
    signals,
};

/// The capacity of the channel from the feed client. While it is full, the client does not read, and the server
/// reports the samples that it skips.
const CHUNKS_MAX: usize = 16;

/// Passes all samples to `write`, in the order of the feed, until `write` fails or a signal ends the program.
///
/// After a failure the client reconnects and resumes after the last sample. The server may then repeat samples.
pub(crate) async fn run(options: &Options, mut write: impl FnMut(&[Sample]) -> Result<(), Error>) -> Result<(), Error> {
    let (to, mut from) = mpsc::channel(CHUNKS_MAX);
    let feed = FeedOptions {
        addr: options.feed.clone(),
        token: options.token.clone(),
        lossless: true,
    };
    let stop = signals::stop().map_err(Error::Terminal)?;
    tokio::pin!(stop);
    let client = tokio::spawn(FeedClient::new(feed, to, Arc::new(Notify::new())).run());
    let result = loop {
        let event = tokio::select! {
            // The end must not wait for a flood of samples.
            biased;
            () = &mut stop => break Ok(()),
            event = from.recv() => event,
        };
        let written = match event {
            Some(NetworkEvent::Samples(chunk)) => write(&chunk.samples),
            Some(NetworkEvent::Connection(event)) => {
                report(&event);
                Ok(())
            }
            Some(NetworkEvent::Response { .. }) => Ok(()),
            None => break Ok(()),
        };
        if written.is_err() {
            break written;
        }
    };
    client.abort();
    result
}

/// Writes a change of the connection to stderr.
fn report(event: &ConnectionEvent) {
    let text = match event {
        ConnectionEvent::Connecting { .. } | ConnectionEvent::Silent { .. } | ConnectionEvent::Recovered => return,
        ConnectionEvent::Connected {
            resumed: Some(false), ..
        } => "connected; samples may be missing".to_owned(),
        ConnectionEvent::Connected { .. } => "connected".to_owned(),
        ConnectionEvent::Disconnected {
            attempt,
            reason,
            retry_in,
        } => {
            format!(
                "not connected (attempt {attempt}: {reason}); retry in {:.1} s",
                retry_in.as_secs_f64()
            )
        }
        ConnectionEvent::Lagged { missed } => format!("the server skipped {}", counted(*missed, "sample")),
        ConnectionEvent::CommandRefused { reason } => format!("the feed refused a command: {reason}"),
        ConnectionEvent::Replaying { description } => description.clone(),
    };
    // If stderr is closed, there is no reader for this line.
    _ = writeln!(io::stderr(), "{text}");
}
