//! The task that delivers what became visible, in one order for all.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{
    config::Config,
    error::Error,
    live::{
        hub::{Hub, Work},
        snapshot::Snapshot,
    },
    store::feed::{Commit, Line, MERGED, Sight, Span, stretches},
};

/// Looks at the table whenever there may be something new.
pub(crate) struct Courier {
    config: Config,
    hub: Arc<Hub>,
    /// The writers have ended.
    ending: watch::Receiver<bool>,
    /// When the last look was that was delivered.
    looked: Instant,
    /// A look that was not delivered to its end.
    unfinished: Option<Look>,
    rang: Instant,
}

/// What became visible between two snapshots, and how far it was delivered.
struct Look {
    at: Instant,
    seen: Snapshot,
    snapshot: Snapshot,
    /// Our own that are not delivered yet; they are in memory.
    ours: VecDeque<Commit>,
    /// Of the table, what is not read yet, at most some thousand rows each.
    stretches: VecDeque<Span>,
    /// Committed by a writer of ours that has not handed it over yet, and what came behind it: not now.
    later: Vec<u64>,
    /// Rows of these are not for the table to tell.
    apart: HashSet<u64>,
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
            unfinished: None,
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

    /// Delivers what became visible since the last time, each once: should it fail on the way, the next time takes it up
    /// where it was.
    async fn deliver(&mut self, line: &mut Line) -> Result<(), Error> {
        let mut look = match self.unfinished.take() {
            Some(look) => look,
            None => match self.look(line).await? {
                Some(look) => look,
                None => return Ok(()),
            },
        };
        if let Err(error) = self.publish(line, &mut look).await {
            self.unfinished = Some(look);
            return Err(error);
        }
        let complete = look.later.is_empty();
        self.hub.settle(look.snapshot.without(look.later));
        self.looked = look.at;
        if complete {
            self.hub.admit();
        }
        Ok(())
    }

    /// Looks; none where it has to be done again in a moment, when a writer of ours has handed over what it committed.
    async fn look(&self, line: &mut Line) -> Result<Option<Look>, Error> {
        let at = Instant::now();
        let seen = self.hub.begin_look();
        let age = self.looked.elapsed();
        // Looks a moment apart see each other's transactions end, however short the window.
        let out_of_window = age >= self.hub.past.window.max(5 * TICK);
        let looking = line.look(&seen, age > SURE_WITHIN, out_of_window);
        let Sight {
            snapshot,
            commits,
            hole,
        } = in_time(looking).await?;
        if let Some(why) = hole {
            tracing::warn!("samples may be missing in the live feed: {why}");
            self.hub.tell_of_hole(why);
        }
        let Work { ours, table, later } = self.hub.sort(&commits);
        // What stands for many commits cannot be put off by its name.
        let merged = commits.iter().filter(|commit| commit.author == MERGED);
        if merged.map(|commit| commit.xid).any(|xid| later.contains(&xid)) {
            return Ok(None);
        }
        let ours_xids = ours.iter().map(|commit| commit.xid);
        Ok(Some(Look {
            at,
            seen,
            snapshot,
            apart: ours_xids.chain(later.iter().copied()).collect(),
            ours: ours.into(),
            stretches: table.into_iter().flat_map(stretches).collect(),
            later,
        }))
    }

    async fn publish(&self, line: &mut Line, look: &mut Look) -> Result<(), Error> {
        while let Some(stretch) = look.stretches.front().copied().filter(|_| self.hub.anyone_listens()) {
            let mut rows = in_time(line.rows(stretch)).await?;
            rows.retain(|row| look.brings(row.xid_low));
            let mut samples = Vec::new();
            for row in rows {
                while look.ours.front().is_some_and(|commit| commit.span.last < row.id) {
                    self.hub.publish(std::mem::take(&mut samples));
                    look.ours
                        .pop_front()
                        .inspect(|commit| self.hub.publish_ours(commit.xid));
                }
                samples.push(row.sample);
            }
            self.hub.publish(samples);
            look.stretches.pop_front();
        }
        for commit in look.ours.drain(..) {
            self.hub.publish_ours(commit.xid);
        }
        Ok(())
    }
}

impl Look {
    /// Whether a row became visible with it, and is not delivered from memory.
    fn brings(&self, xid_low: u32) -> bool {
        let xid = self.snapshot.widen(xid_low);
        self.snapshot.sees(xid) && !self.seen.sees(xid) && !self.apart.contains(&xid)
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER_WITHIN, answer)
        .await
        .unwrap_or(Err(Error::TimedOut(ANSWER_WITHIN)))
}
