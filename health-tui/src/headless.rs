//! The feed without a dashboard: for `--plain` and `record`. It reports the connection on stderr.
//!
//! A thread of its own writes, because the output may stop: a stopped terminal, or a pipe without a reader. The program
//! obeys signals meanwhile.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use health_core::client::{FeedClient, FeedUpdate};
use health_core::{Erasure, Sample, counted};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{error::Error, net, options::Options, signals};

/// The capacity of the channel to the thread that writes. While it is full, the client does not read. The server then
/// reports the samples that it skips, and the client asks for them again.
const JOBS_MAX: usize = 16;

/// How long the program waits at its end for the output to accept what is left.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the samples go.
pub(crate) trait SampleOutput: Send + 'static {
    fn write(&mut self, samples: &[Sample]) -> Result<(), Error>;

    /// Notes that samples were erased.
    fn write_erased(&mut self, erasure: &Erasure) -> Result<(), Error>;

    /// Fails if the output has no reader any more. It is called every few seconds, also while no samples arrive.
    fn check(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

enum Job {
    Write(Vec<Sample>),
    WriteErased(Erasure),
    Report(String),
    Check,
}

/// Passes all samples to `output`, in the order of the feed, until it fails or a signal ends the program.
///
/// After a failure of the connection the client reconnects and resumes after the last sample. The server may then
/// repeat samples.
pub(crate) async fn run(options: &Options, output: impl SampleOutput) -> Result<(), Error> {
    let stop = signals::stop().map_err(Error::Terminal)?;
    tokio::pin!(stop);
    let mut client = FeedClient::new(net::feed_options(options)?);
    let (jobs, ended) = start(output);
    let forwarded = tokio::select! {
        // The end must not wait for a flood of samples.
        biased;
        () = &mut stop => Ok(()),
        forwarded = forward(&mut client, &jobs) => forwarded,
    };
    drop(jobs);
    // If the output does not accept the rest in time, the rest is given up: it is still in the database.
    let written = timeout(LAST_WRITE_TIMEOUT, ended).await.unwrap_or(Ok(Ok(())));
    written.unwrap_or(Ok(()))?;
    forwarded?;
    // Without a connection, there is no resume point.
    client.cursor().map(|_| ()).ok_or(Error::NeverConnected)
}

/// Sends what happens on the feed to the thread that writes, until that has ended or the feed refuses a connection for
/// good.
async fn forward(client: &mut FeedClient, jobs: &mpsc::Sender<Job>) -> Result<(), Error> {
    loop {
        let job = match client.next().await {
            FeedUpdate::Samples(samples) => Job::Write(samples),
            FeedUpdate::Erased(erasure) => Job::WriteErased(erasure),
            FeedUpdate::Heartbeat => Job::Check,
            FeedUpdate::Disconnected { reason, .. }
                if reason.is_final() || (client.cursor().is_none() && reason.is_final_at_first()) =>
            {
                return Err(Error::Feed(reason));
            }
            update => match report(&update) {
                Some(text) => Job::Report(text),
                None => continue,
            },
        };
        if jobs.send(job).await.is_err() {
            return Ok(());
        }
    }
}

/// Starts the thread that writes. It ends when the channel is closed, or with the first error.
fn start(mut output: impl SampleOutput) -> (mpsc::Sender<Job>, oneshot::Receiver<Result<(), Error>>) {
    let (jobs, mut from) = mpsc::channel(JOBS_MAX);
    let (end, ended) = oneshot::channel();
    thread::spawn(move || {
        let mut result = Ok(());
        while result.is_ok()
            && let Some(job) = from.blocking_recv()
        {
            result = match job {
                Job::Write(samples) => output.write(&samples),
                Job::WriteErased(erasure) => output.write_erased(&erasure),
                Job::Check => output.check(),
                Job::Report(text) => {
                    // If stderr is closed, there is no reader for this line.
                    _ = writeln!(io::stderr(), "{text}");
                    Ok(())
                }
            };
        }
        // If the program has given up the rest, there is no receiver.
        _ = end.send(result);
    });
    (jobs, ended)
}

/// Returns the line for a change of the connection.
fn report(update: &FeedUpdate) -> Option<String> {
    Some(match update {
        FeedUpdate::Connected {
            resumed: Some(false),
            reason,
        } => match reason {
            Some(reason) => format!("connected; samples may be missing: {reason}"),
            None => "connected; samples may be missing".to_owned(),
        },
        FeedUpdate::Connected { .. } => "connected".to_owned(),
        FeedUpdate::Disconnected {
            attempt,
            reason,
            retry_in,
        } => {
            format!(
                "not connected (attempt {attempt}: {reason}); retry in {:.1} s",
                retry_in.as_secs_f64()
            )
        }
        FeedUpdate::Lagged { missed, .. } => format!(
            "too slow: missed {}, which it requests again",
            counted(*missed, "sample")
        ),
        _ => return None,
    })
}
