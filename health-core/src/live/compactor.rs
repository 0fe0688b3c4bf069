//! Keeps the commit log short.
//!
//! Every writing transaction adds a commit record, up to a thousand a second. Two jobs bound their number:
//!
//! * Records older than the replay window are deleted.
//! * Records of the last minutes are merged into one. After a minute only replays read them, and one record for
//!   the whole minute is enough: a replay may repeat a few samples but loses none.
//!
//! A record is merged only after it has been visible for at least [`PAUSE`]. Pollers poll at least once a
//! second, so every poller has seen the record on its own by then.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    error::Error,
    live::{hub::Hub, poller::POLL_AGE_MAX},
    store::feed,
};

/// The interval between two merges.
const PAUSE: Duration = POLL_AGE_MAX.saturating_mul(2);

/// The shortest interval between two runs, for very short replay windows.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Compacts the commit log until the handle is closed or dropped. Every server runs this task; two at once do no
/// harm.
pub(crate) async fn run(hub: Arc<Hub>, mut closing: watch::Receiver<bool>) {
    let pause = (hub.replay_source.window / 4).clamp(SHORTEST_PAUSE, PAUSE);
    let mut visible = VisibleSince::default();
    // The channel is closed if the handle was dropped.
    while timeout(pause, closing.wait_for(|closing| *closing)).await.is_err() {
        if let Err(error) = visible.compact(&hub, Instant::now()).await {
            tracing::warn!(error = error.chain(), "cannot compact the commit log, trying again");
        }
    }
}

/// Transactions that are known to have been visible for some time.
#[derive(Debug, Default)]
struct VisibleSince {
    /// All transactions below this id had ended at the last run.
    lately: Option<u64>,
    /// All transactions below this id had ended at this moment, which is up to [`PAUSE`] ago.
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
            feed::prune_and_merge(
                &hub.replay_source.readers,
                lately,
                hub.replay_source.window,
                merge_below,
            )
            .await?;
        }
        if merge_below.is_some() || self.long.is_none() {
            self.long = Some((now, xmin));
        }
        Ok(())
    }
}
