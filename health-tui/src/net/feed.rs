//! Passes the live feed to the event loop. While the loop is busy, only the newest sample of each user is kept.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use health_core::client::{FeedAddress, FeedClient, FeedOptions, FeedUpdate};
use health_core::{Erasure, Sample};
use tokio::sync::{Notify, mpsc};

use crate::{
    app::{ConnectionEvent, NetworkEvent, ReceivedSamples},
    error::Error,
    net::http::ServerUrl,
    options::Options,
};

/// The dashboard asks for skipped samples at most this often. Otherwise a slow dashboard would only ever see old
/// samples.
const LAG_RESUME_INTERVAL: Duration = Duration::from_secs(10);

/// Returns the feed that the command line names, with every sample.
///
/// # Errors
/// If `--server` is no URL, or the token or the authority cannot be used.
pub(crate) fn feed_options(options: &Options) -> Result<FeedOptions, Error> {
    let server = ServerUrl::parse(&options.server)?;
    let of_server = || FeedAddress::of_server(server.host());
    let feed = options.feed.clone().unwrap_or_else(of_server);
    let address = feed.host_and_port().to_owned();
    let access = options.credentials().access(&address, feed.is_tls(server.is_tls))?;
    Ok(FeedOptions {
        address,
        token: access.token,
        tls: access.tls,
        ..FeedOptions::default()
    })
}

/// The task between the client of the feed and the event loop.
pub(crate) struct FeedTask {
    client: FeedClient,
    to: mpsc::Sender<NetworkEvent>,
    /// The user asks to reconnect now.
    retry: Arc<Notify>,
    /// The samples that the full channel did not take.
    waiting: NewestSamples,
}

/// The newest sample of each user that the event loop could not take yet.
#[derive(Default)]
struct NewestSamples {
    samples: HashMap<i64, Sample>,
    /// Number of samples that a newer one has replaced.
    replaced: u64,
}

impl NewestSamples {
    fn add(&mut self, received: ReceivedSamples) {
        self.replaced += received.replaced;
        for sample in received.samples {
            let id = sample.user_id().get();
            match self.samples.get(&id) {
                Some(known) if known.timestamp() > sample.timestamp() => self.replaced += 1,
                known => {
                    self.replaced += u64::from(known.is_some());
                    self.samples.insert(id, sample);
                }
            }
        }
    }

    fn forget(&mut self, erasure: &Erasure) {
        self.samples.retain(|_, sample| !erasure.covers(sample));
    }

    fn take(&mut self) -> ReceivedSamples {
        ReceivedSamples {
            samples: self.samples.drain().map(|(_, sample)| sample).collect(),
            replaced: std::mem::take(&mut self.replaced),
        }
    }

    fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

impl FeedTask {
    pub(crate) fn new(feed: FeedOptions, to: mpsc::Sender<NetworkEvent>, retry: Arc<Notify>) -> Self {
        let options = FeedOptions {
            lag_resume_interval: LAG_RESUME_INTERVAL,
            ..feed
        };
        Self {
            client: FeedClient::new(options),
            to,
            retry,
            waiting: NewestSamples::default(),
        }
    }

    /// Runs until the dashboard ends.
    pub(crate) async fn run(mut self) {
        let to = self.to.clone();
        loop {
            let sent = tokio::select! {
                update = self.client.next() => self.pass_on(update).await,
                permit = to.reserve(), if !self.waiting.is_empty() => {
                    permit.map(|permit| permit.send(NetworkEvent::Samples(self.waiting.take()))).ok()
                }
                () = self.retry.notified() => {
                    self.client.retry_now();
                    Some(())
                }
                () = to.closed() => None,
            };
            // Without a receiver, the dashboard has ended.
            if sent.is_none() {
                return;
            }
        }
    }

    /// Sends an update to the event loop. Returns `None` if it has ended.
    async fn pass_on(&mut self, update: FeedUpdate) -> Option<()> {
        let event = match update {
            FeedUpdate::Samples(samples) => return self.send_samples(ReceivedSamples { samples, replaced: 0 }),
            FeedUpdate::Erased(erasure) => {
                // Samples that still wait come after this event.
                self.waiting.forget(&erasure);
                return self.to.send(NetworkEvent::Erased(erasure)).await.ok();
            }
            FeedUpdate::Connecting { attempt } => ConnectionEvent::Connecting { attempt },
            FeedUpdate::Connected { resumed, reason } => ConnectionEvent::Connected { resumed, reason },
            FeedUpdate::Disconnected {
                attempt,
                reason,
                retry_in,
            } => ConnectionEvent::Disconnected {
                attempt,
                reason: reason.to_string(),
                retry_in,
            },
            FeedUpdate::Silent { elapsed } => ConnectionEvent::Silent { elapsed },
            FeedUpdate::Recovered => ConnectionEvent::Recovered,
            FeedUpdate::Lagged {
                missed,
                is_requested: false,
            } => ConnectionEvent::Lagged { missed },
            _ => return Some(()),
        };
        // Changes of the connection are rare and never dropped: they wait for the channel.
        self.to.send(NetworkEvent::Connection(event)).await.ok()
    }

    /// Sends samples to the event loop. If the channel is full, keeps the newest sample of each user for later.
    fn send_samples(&mut self, received: ReceivedSamples) -> Option<()> {
        if !self.waiting.is_empty() {
            self.waiting.add(received);
            return Some(());
        }
        match self.to.try_send(NetworkEvent::Samples(received)) {
            Err(mpsc::error::TrySendError::Full(NetworkEvent::Samples(received))) => {
                self.waiting.add(received);
                Some(())
            }
            sent => sent.ok(),
        }
    }
}
