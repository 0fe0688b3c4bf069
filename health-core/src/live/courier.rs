//! The task that delivers what became visible, in one order for all.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{
    config::Config,
    error::Error,
    live::hub::Hub,
    store::feed::{Line, stretches},
};

/// Looks at the table whenever there may be something new.
pub(crate) struct Courier {
    config: Config,
    hub: Arc<Hub>,
    /// The writers have ended.
    ending: watch::Receiver<bool>,
    /// When the last look was that was delivered.
    looked: Instant,
    rang: Instant,
}

/// How long a ring that was lost holds up what another server committed, and what a newcomer is rung for.
const TICK: Duration = Duration::from_secs(1);

/// Where nobody listens, looking only keeps the cursor fresh.
const IDLE_PAUSE: Duration = Duration::from_millis(50);

/// Rings for other servers are no closer together: a ring takes a lock of the whole database for a moment.
const RING_EVERY: Duration = Duration::from_millis(5);

/// Commits are merged only once they have been visible for twice as long, see [`upkeep`](crate::live::upkeep).
pub(crate) const SURE_WITHIN: Duration = Duration::from_secs(30);

/// How long PostgreSQL may take for an answer before the connection is taken for dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The pause before a lost connection is made again.
const RECONNECT: Duration = Duration::from_millis(250);

impl Courier {
    pub(crate) fn new(config: Config, hub: Arc<Hub>, ending: watch::Receiver<bool>) -> Self {
        let now = Instant::now();
        Self {
            config,
            hub,
            ending,
            looked: now,
            rang: now,
        }
    }

    /// Delivers until the handle is closed or gone, then ends every subscription.
    pub(crate) async fn run(mut self) {
        let mut told = false;
        while let Err(error) = self.serve(&mut told).await {
            if !told {
                tracing::warn!(
                    error = error.chain(),
                    "the live feed has lost the database, trying again"
                );
                told = true;
            }
            if timeout(RECONNECT, self.ending.wait_for(|ending| *ending)).await.is_ok() {
                break;
            }
        }
        self.hub.close();
    }

    /// Delivers over one connection.
    async fn serve(&mut self, told: &mut bool) -> Result<(), Error> {
        let hub = Arc::clone(&self.hub);
        let mut line = in_time(Line::open(&self.config, move || hub.heard_ring())).await?;
        // Whoever else is there learns that we listen.
        in_time(line.ring()).await?;
        let mut ending = self.ending.clone();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut last = false;
            tokio::select! {
                // A handle that is gone is one that ends.
                () = async { drop(ending.wait_for(|ending| *ending).await) } => last = true,
                () = self.hub.news.notified() => {}
                () = async { self.hub.idle_news.notified().await; sleep_until(self.looked + IDLE_PAUSE).await } => {}
                () = sleep_until(self.rang + RING_EVERY), if self.hub.owes_ring() => {}
                _ = tick.tick() => self.hub.others_listen(in_time(line.others()).await?),
            }
            self.deliver(&mut line).await?;
            if std::mem::take(told) {
                tracing::info!("the live feed has the database again");
            }
            if self.hub.owes_ring() && (last || self.rang.elapsed() >= RING_EVERY) {
                self.hub.rings();
                self.rang = Instant::now();
                in_time(line.ring()).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Delivers what became visible since the last time. Should it fail on the way, the next time takes it up again; rows of
    /// the table may then be delivered twice.
    async fn deliver(&mut self, line: &mut Line) -> Result<(), Error> {
        let now = Instant::now();
        let seen = self.hub.begin_look();
        let thorough = self.looked.elapsed() > SURE_WITHIN;
        let (snapshot, commits) = in_time(line.look(&seen, thorough)).await?;
        let work = self.hub.sort(&commits);
        let apart: HashSet<u64> = work
            .ours
            .iter()
            .map(|commit| commit.xid)
            .chain(work.later.iter().copied())
            .collect();
        let is_new = |xid| snapshot.sees(xid) && !seen.sees(xid) && !apart.contains(&xid);
        let mut ours = work.ours.iter().peekable();
        if self.hub.anyone_listens() {
            for stretch in work.table.iter().flat_map(|span| stretches(*span)) {
                let rows = in_time(line.rows(stretch)).await?;
                let mut samples = Vec::new();
                for row in rows.into_iter().filter(|row| is_new(snapshot.widen(row.xid_low))) {
                    while let Some(commit) = ours.next_if(|commit| commit.span.last < row.id) {
                        self.hub.publish(std::mem::take(&mut samples));
                        self.hub.publish_ours(commit.xid);
                    }
                    samples.push(row.sample);
                }
                self.hub.publish(samples);
            }
        }
        for commit in ours {
            self.hub.publish_ours(commit.xid);
        }
        let complete = work.later.is_empty();
        let delivered = commits
            .iter()
            .map(|commit| commit.xid)
            .filter(|xid| !work.later.contains(xid));
        let last = delivered.max();
        self.hub.settle(snapshot.without(work.later), last);
        self.looked = now;
        if complete {
            self.hub.admit();
        }
        Ok(())
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER_WITHIN, answer)
        .await
        .unwrap_or(Err(Error::TimedOut(ANSWER_WITHIN)))
}
