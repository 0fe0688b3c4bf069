//! The two lanes of a shard: small requests, and large ones.
//!
//! Writers take the requests of a user in the order in which they were added. Three rules keep this order:
//!
//! * A small request is added to the lane of the large ones if a request of one of its users waits there.
//! * A writer takes a large request only if no small request of one of its users waits or is with the spare writer.
//! * The spare writer takes a small request only if the other writer of the shard has no request of its users.

use std::{cell::OnceCell, collections::VecDeque};

use crate::{ingest::request::Request, sample::UserId, store::newest_timestamps::ShardTimestamps};

/// The requests of one shard of users.
#[derive(Debug)]
pub(super) struct Shard {
    small: VecDeque<Request>,
    large: VecDeque<LargeRequest>,
    /// The last turn left large requests waiting.
    took_small_only: bool,
    /// The rows in both lanes.
    rows: usize,
    /// `None` while a writer works on the shard.
    timestamps: Option<ShardTimestamps>,
    /// The users of the large requests that this writer has, each list ordered; `None` if it has none, or if no small
    /// request came lately.
    being_written: Option<Vec<Box<[UserId]>>>,
    /// The users of the requests that the spare writer has, ordered.
    with_spare: Option<Box<[UserId]>>,
    /// All waiting requests have to wait for the spare writer.
    waits_for_spare: bool,
}

/// A request in the lane of large ones.
#[derive(Debug)]
struct LargeRequest {
    request: Request,
    /// Its users, ordered. Made when a small request asks; a load of large requests alone does not pay for it.
    users: OnceCell<Box<[UserId]>>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            small: VecDeque::new(),
            large: VecDeque::new(),
            took_small_only: false,
            rows: 0,
            timestamps: Some(ShardTimestamps::default()),
            being_written: None,
            with_spare: None,
            waits_for_spare: false,
        }
    }

    /// The rows that wait.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns whether no writer works on the shard, apart from the spare one.
    pub(super) fn is_free(&self) -> bool {
        self.timestamps.is_some()
    }

    /// Returns whether a writer may take something.
    pub(super) fn has_work(&self) -> bool {
        self.rows > 0 && self.is_free() && !self.waits_for_spare
    }

    pub(super) fn add(&mut self, request: Request, is_small: bool) {
        self.rows += request.samples.len();
        self.waits_for_spare = false;
        if is_small && !self.large.iter().any(|large| large.shares_user_with(&request)) {
            self.small.push_back(request);
        } else {
            self.large.push_back(LargeRequest::new(request));
        }
    }

    /// Puts back a request that was taken and not written, in front of all others.
    pub(super) fn give_back(&mut self, request: Request) {
        self.rows += request.samples.len();
        self.small.push_front(request);
    }

    /// Takes requests up to a number of rows, and the newest timestamps of the shard; nothing if all must wait for the
    /// spare writer.
    ///
    /// If both lanes have requests, the spare writer gets the small ones. While it is not ready, every other turn takes
    /// small ones only: those do not wait for large ones twice, and large ones do not wait for ever.
    pub(super) fn take(
        &mut self,
        limit: usize,
        is_mixed: bool,
        spare_is_ready: bool,
        taken: &mut Vec<Request>,
    ) -> Option<ShardTimestamps> {
        let both = !self.small.is_empty() && !self.large.is_empty();
        let before = taken.len();
        let mut large = Vec::new();
        let mut rows = 0;
        if both && is_mixed && spare_is_ready {
            rows = self.take_large(limit, &mut large);
        }
        if large.is_empty() {
            self.took_small_only = both && !self.took_small_only;
            let with_spare = self.with_spare.take();
            rows = self.take_small(limit, |user| holds(with_spare.as_deref(), user), taken);
            self.with_spare = with_spare;
            if !self.took_small_only || rows == 0 {
                rows += self.take_large(limit.saturating_sub(rows), &mut large);
            }
        }
        if rows == 0 {
            self.waits_for_spare = true;
            return None;
        }
        self.rows -= rows;
        self.being_written = (is_mixed && !large.is_empty()).then(|| {
            let small = taken[before..].iter().map(users_of);
            small.chain(large.iter().map(|large| large.users().into())).collect()
        });
        taken.extend(large.into_iter().map(|large| large.request));
        self.timestamps.take()
    }

    /// Ends the work of the writer that has the shard.
    pub(super) fn end(&mut self, timestamps: ShardTimestamps) {
        self.timestamps = Some(timestamps);
        self.being_written = None;
    }

    /// Returns whether [`Self::take_spare`] would take something.
    pub(super) fn has_spare_work(&self) -> bool {
        let may_take = |request: &Request| !request.users().any(|user| self.is_being_written(user));
        self.spare_may_take() && self.small.iter().any(may_take)
    }

    /// Takes small requests for the spare writer, up to a number of rows. Returns whether there was one.
    pub(super) fn take_spare(&mut self, limit: usize, taken: &mut Vec<Request>) -> bool {
        if !self.spare_may_take() {
            return false;
        }
        let before = taken.len();
        let being_written = self.being_written.take();
        let is_being_written = |user| being_written.iter().flatten().any(|users| holds(Some(users), user));
        self.rows -= self.take_small(limit, is_being_written, taken);
        self.being_written = being_written;
        if taken.len() == before {
            return false;
        }
        let mut users: Vec<_> = taken[before..].iter().flat_map(Request::users).collect();
        users.sort_unstable();
        self.with_spare = Some(users.into());
        true
    }

    /// Ends the work of the spare writer.
    pub(super) fn end_spare(&mut self) {
        self.with_spare = None;
        self.waits_for_spare = false;
    }

    /// Removes and returns the requests that wait and meet a condition.
    pub(super) fn remove(&mut self, condition: impl Fn(&Request) -> bool) -> Vec<Request> {
        let (mut removed, small): (Vec<_>, _) = self.small.drain(..).partition(&condition);
        self.small = small.into();
        let (removed_large, large): (Vec<_>, Vec<_>) =
            self.large.drain(..).partition(|large| condition(&large.request));
        self.large = large.into();
        removed.extend(removed_large.into_iter().map(|large| large.request));
        self.rows -= removed.iter().map(|request| request.samples.len()).sum::<usize>();
        removed
    }

    /// The spare writer works beside a writer of large requests. Small ones alone are faster in one batch.
    pub(super) fn spare_may_take(&self) -> bool {
        self.being_written.is_some() && self.with_spare.is_none()
    }

    fn is_being_written(&self, user: UserId) -> bool {
        let lists = self.being_written.iter().flatten();
        lists.into_iter().any(|users| holds(Some(users), user))
    }

    /// Takes small requests in their order, up to a number of rows. Leaves those with a user who has to wait, and later
    /// ones of the same users. Returns the number of rows.
    fn take_small(&mut self, limit: usize, has_to_wait: impl Fn(UserId) -> bool, taken: &mut Vec<Request>) -> usize {
        let mut rows = 0;
        let mut left = VecDeque::new();
        let mut left_users: Vec<UserId> = Vec::new();
        while rows < limit
            && let Some(request) = self.small.pop_front()
        {
            if request
                .users()
                .any(|user| has_to_wait(user) || left_users.contains(&user))
            {
                left_users.extend(request.users());
                left.push_back(request);
            } else {
                rows += request.samples.len();
                taken.push(request);
            }
        }
        left.append(&mut self.small);
        self.small = left;
        rows
    }

    /// Takes large requests, up to a number of rows, until one must not pass a small one. Returns the number of rows.
    fn take_large(&mut self, limit: usize, taken: &mut Vec<LargeRequest>) -> usize {
        let mut rows = 0;
        while rows < limit
            && let Some(large) = self.large.front()
        {
            let mut with_spare = self.with_spare.iter().flatten();
            let must_wait = with_spare.any(|user| holds(Some(large.users()), *user))
                || self.small.iter().any(|small| large.shares_user_with(small));
            if must_wait {
                break;
            }
            let Some(large) = self.large.pop_front() else { break };
            rows += large.request.samples.len();
            taken.push(large);
        }
        rows
    }
}

impl LargeRequest {
    fn new(request: Request) -> Self {
        Self {
            request,
            users: OnceCell::new(),
        }
    }

    fn users(&self) -> &[UserId] {
        self.users.get_or_init(|| users_of(&self.request))
    }

    fn shares_user_with(&self, small: &Request) -> bool {
        small.users().any(|user| holds(Some(self.users()), user))
    }
}

/// Returns the users of a request, ordered, each once.
fn users_of(request: &Request) -> Box<[UserId]> {
    let mut users: Vec<_> = request.users().collect();
    users.sort_unstable();
    users.dedup();
    users.into()
}

fn holds(users: Option<&[UserId]>, user: UserId) -> bool {
    users.is_some_and(|users| users.binary_search(&user).is_ok())
}
