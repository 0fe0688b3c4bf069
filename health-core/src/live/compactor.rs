//! Keeps the list of commits short: forgets what is older than the replay window, and makes one row of many.
//!
//! Every writing transaction leaves a row, a thousand a second where many write little. Minutes later only resuming asks for
//! them, and one row for a whole minute says enough then: it repeats a little too much and loses nothing. A row is touched
//! only if it was visible for [`PAUSE`] at least, so that couriers, which look every second, have seen it by itself.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    error::Error,
    live::{poller::POLL_AGE_MAX, hub::Hub},
    store::feed,
};

/// How often rows are merged, and so how long they stand by themselves.
const PAUSE: Duration = POLL_AGE_MAX.saturating_mul(2);

/// How often they are polled_at at, where the replay window is very short.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Tidies until the handle is closed or gone. Every server runs one; two at once do no harm.
pub(crate) async fn run(hub: Arc<Hub>, mut closing: watch::Receiver<bool>) {
    let pause = (hub.replay_source.window / 4).clamp(SHORTEST_PAUSE, PAUSE);
    let mut visible = VisibleSince::default();
    // A closed channel is a handle that is gone.
    while timeout(pause, closing.wait_for(|closing| *closing)).await.is_err() {
        if let Err(error) = visible.compact(&hub, Instant::now()).await {
            tracing::warn!(
                error = error.chain(),
                "the list of commits could not be tidied, trying again"
            );
        }
    }
}

/// What is known to be visible for how long.
#[derive(Debug, Default)]
struct VisibleSince {
    /// Everything below has ended by the last time.
    lately: Option<u64>,
    /// The same for a time that is [`PAUSE`] ago.
    long: Option<(Instant, u64)>,
}

impl VisibleSince {
    async fn compact(&mut self, hub: &Hub, now: Instant) -> Result<(), Error> {
        let xmin = hub.seen().xmin();
        let lately = self.lately.replace(xmin);
        let merge_below = match self.long {
            Some((since, xid)) if now - since >= PAUSE => Some(xid),
            _ => None,
        };
        if let Some(lately) = lately {
            feed::prune_and_merge(&hub.replay_source.readers, lately, hub.replay_source.window, merge_below).await?;
        }
        if merge_below.is_some() || self.long.is_none() {
            self.long = Some((now, xmin));
        }
        Ok(())
    }
}
