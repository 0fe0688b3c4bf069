//! How far a replay has come.

use std::{collections::HashSet, time::Duration};

use crate::{
    live::ring::Mark,
    sample::UserId,
    store::commit_log::{LogPosition, erasures::Erasures},
};

/// How far a pass has come. A pass is one walk through the commit log up to a mark.
pub(super) struct Pass {
    pub(super) mark: Mark,
    /// All commits up to this position were sent. Of the users who were pulled ahead, more was sent.
    pub(super) sent: LogPosition,
    /// The position after which rows could not be read, and how often.
    unreadable: Option<(LogPosition, u32)>,
    /// What the erasures among the present records erased.
    pub(super) erasures: Erasures,
    /// The index in the ring up to which live samples were sent; `None` if the ring does not hold them any more.
    pub(super) live: Option<u64>,
    /// Users who were pulled ahead.
    pub(super) ahead: HashSet<UserId>,
    /// The number of the last commit whose live samples were sent to the users ahead.
    pub(super) live_until: i64,
    /// Users who were pulled ahead in the pass before this one. Everything of them up to `earlier_until` was sent.
    pub(super) earlier: HashSet<UserId>,
    earlier_until: i64,
    /// How long the pass must go on with its commits before it pulls users ahead again, so that the commits get half of
    /// the time.
    pub(super) owed: Duration,
}

impl Pass {
    pub(super) fn new(mark: Mark, sent: LogPosition) -> Self {
        Self {
            mark,
            sent,
            unreadable: None,
            erasures: Erasures::new(),
            live: Some(mark.index),
            ahead: HashSet::new(),
            live_until: mark.position.number,
            earlier: HashSet::new(),
            earlier_until: 0,
            owed: Duration::ZERO,
        }
    }

    /// The pass after this one, up to a later mark.
    pub(super) fn next(self, mark: Mark) -> Self {
        let mut next = Self::new(mark, self.sent);
        next.earlier = self.ahead;
        next.earlier_until = self.live_until;
        next
    }

    /// Notes that the rows of the commits after [`Self::sent`] could not be read: the log does not say which they are.
    pub(super) fn note_unreadable(&mut self) {
        let before = self.unreadable.filter(|(position, _)| *position == self.sent);
        self.unreadable = Some((self.sent, before.map_or(1, |(_, times)| times + 1)));
    }

    /// Whether these rows could not be read at a second attempt either. At the first one, the log may have changed
    /// since its page was read.
    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable
            .is_some_and(|(position, times)| position == self.sent && times > 1)
    }

    /// Continues at a mark. The commits between are not sent.
    pub(super) fn skip_to(&mut self, mark: Mark) {
        self.earlier.clear();
        self.mark = mark;
        self.sent = mark.position;
        self.live = Some(mark.index);
    }

    /// Whether a user's samples of a commit were sent when the user was pulled ahead.
    pub(super) fn has_sent(&self, number: i64, user: UserId) -> bool {
        self.ahead.contains(&user) || (number <= self.earlier_until && self.earlier.contains(&user))
    }
}
