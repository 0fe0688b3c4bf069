//! Replays: the commits after a cursor, read from the table, for a subscription that resumes.
//!
//! A replay takes a [mark](super::ring::Mark): a position up to which the ring has delivered everything, and the index
//! in the ring from which the rest can be read. It sends the [commits] after the cursor up to that position, by the
//! commit log. Then the subscription joins the ring at that index. If the ring does not hold the index any more, the
//! replay goes on in another [pass], up to a later mark.
//!
//! # Live samples during a replay
//!
//! A live sample waits only for the backlog of its own user: the samples of that user that the replay has yet to send.
//! After each group of commits the replay looks at the samples that the ring has delivered since the mark, see
//! [`live_samples`]. Users with live samples are *pulled ahead*: the replay sends the rest of [their
//! backlog](backlog_of_users) at once, then the live samples, and leaves the users out of the rest of the pass. Pulling
//! ahead takes at most half of the time of a replay.
//!
//! # Memory and fairness
//!
//! Rows are read in [portions](portion). All replays share a [budget] of rows. A replay keeps its rows while its
//! subscriber takes them fast. Otherwise it gives them up as soon as another replay needs them, and goes on at the
//! first row that was not taken once the subscriber has taken everything before it. So subscribers that have stopped
//! delay no other, however many they are.

mod backlog_of_users;
mod budget;
mod commits;
mod further;
pub(crate) mod link;
mod live_samples;
mod newest_samples;
mod pass;
mod portion;
pub(crate) mod source;

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    live::{
        cursor::from_cursor,
        filter::Filter,
        replay::{
            further::{OTHER_HISTORY, TOO_OLD, further, subscribed},
            link::{Gone, Link, Replayed},
            pass::Pass,
            source::ReplaySource,
        },
        ring::{Listener, Ring},
    },
    store::commit_log::LogPage,
    wire::Cursor,
};

/// One replay.
pub(crate) struct Replay {
    link: Link,
    filter: Filter,
    /// The interval of a subscription that wants the newest sample of each user only.
    every: Option<Duration>,
    /// Keeps what the ring delivers after a mark.
    _listener: Listener,
}

impl Replay {
    pub(crate) fn new(
        ring: Arc<Ring>,
        source: Arc<ReplaySource>,
        filter: Filter,
        every: Option<Duration>,
    ) -> (Self, mpsc::Receiver<Replayed>) {
        let listener = ring.listen(every.is_some());
        let (link, replayed) = Link::new(ring, source, &filter);
        let replay = Self {
            link,
            filter,
            every,
            _listener: listener,
        };
        (replay, replayed)
    }

    /// Replays what was committed after a cursor, then hands the subscription a membership of the ring.
    pub(crate) async fn run(self, cursor: Cursor) {
        // On an error the subscription is gone.
        let _ = self.replay(cursor).await;
    }

    async fn replay(&self, cursor: Cursor) -> Result<(), Gone> {
        let link = &self.link;
        let from = match from_cursor(&cursor) {
            Ok(position) => position,
            Err(error) => return self.refuse(&error.to_string()).await,
        };
        let mark = link.ring.mark();
        let page = link.page(from).await?;
        let (mut records, erasures) = match page {
            LogPage::Records { is_too_old: true, .. } | LogPage::Pruned => return self.refuse(TOO_OLD).await,
            LogPage::OtherHistory => return self.refuse(OTHER_HISTORY).await,
            LogPage::Records { records, erasures, .. } => (records, erasures),
        };
        link.send(subscribed(None, from)).await?;
        let mut pass = Pass::new(mark, from);
        pass.erasures = erasures;
        loop {
            match self.every {
                None => commits::send_all(link, &mut pass, records).await?,
                Some(every) => newest_samples::send_all(link, &mut pass, records, every).await?,
            }
            let mut mark = pass.mark;
            mark.index = pass.live.unwrap_or(mark.index);
            if let Some(membership) = link.ring.join(&self.filter, mark, self.every.is_some()) {
                return link.send_membership(membership).await;
            }
            pass = pass.next(link.ring.mark());
            records = further(link, &mut pass).await?;
        }
    }

    /// Tells the subscriber why it cannot resume, and lets it continue from now.
    async fn refuse(&self, reason: &str) -> Result<(), Gone> {
        let ring = &self.link.ring;
        let (membership, position) = loop {
            let mark = ring.mark();
            if let Some(membership) = ring.join(&self.filter, mark, self.every.is_some()) {
                break (membership, mark.position);
            }
        };
        self.link.send(subscribed(Some(reason), position)).await?;
        self.link.send_membership(membership).await
    }
}
