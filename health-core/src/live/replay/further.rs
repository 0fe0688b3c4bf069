//! The next page of the commit log, or what to do if there is none.

use crate::{
    live::{
        cursor::to_cursor,
        event::LiveEvent,
        replay::{
            link::{Gone, Link},
            pass::Pass,
        },
    },
    store::commit_log::{CommitRecord, LogPage, LogPosition},
};

pub(super) const TOO_OLD: &str = "the cursor is too old: some commits after it are older than the replay window";

pub(super) const OTHER_HISTORY: &str = "the cursor does not belong to this database, or to a state of it that was lost: \
     it was restored from a backup, or another server took its place";

pub(super) const UNREADABLE: &str =
    "the commit log does not say which samples were stored by some commits after the cursor";

/// The records after [`Pass::sent`]. If the log does not hold the position any more, or does not say which rows follow,
/// the subscriber gets `resumed: false`, and the pass goes on at its mark.
pub(super) async fn further(link: &Link, pass: &mut Pass) -> Result<Vec<CommitRecord>, Gone> {
    let reason = match link.page(pass.sent).await? {
        LogPage::Records { .. } if pass.is_unreadable() => UNREADABLE,
        LogPage::Records { records, erasures, .. } => {
            pass.erasures = erasures;
            return Ok(records);
        }
        LogPage::Pruned => TOO_OLD,
        LogPage::OtherHistory => OTHER_HISTORY,
    };
    let mark = link.ring.mark();
    link.send(subscribed(Some(reason), mark.position)).await?;
    pass.skip_to(mark);
    Ok(Vec::new())
}

/// The event that says whether the subscription continues without a gap, and after which position.
pub(super) fn subscribed(refusal: Option<&str>, after: LogPosition) -> LiveEvent {
    LiveEvent::Subscribed {
        resumed: refusal.is_none(),
        reason: refusal.map(str::to_owned),
        cursor: to_cursor(after),
    }
}
