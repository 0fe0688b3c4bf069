//! How the file descriptors of the process are divided: every connection and every file is one.
//!
//! HTTP, the feed and the database each have a share. So clients of one never take the descriptors of another.

use health_core::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::ServerLimits;

/// The part of the descriptors that one listener may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Connections that are served at a time.
    pub(crate) connections: usize,
    /// Further connections at a time that are told why they are refused.
    pub(crate) refusals: usize,
}

/// The shares of both listeners.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) http: Share,
    pub(crate) feed: Share,
}

/// Descriptors for everything else: standard streams, listeners, the runtime, log files, and an embedded PostgreSQL.
const OTHER_FILES: usize = 48;

/// One connection in this many of a share is for refusals.
const REFUSALS_PART: usize = 8;

/// Refusals at a time. Each takes a second at most.
const REFUSALS_MAX: usize = 256;

/// The defaults of the limits follow the limit of open files. Below this number of connections, an operator should
/// know.
const FEW_CONNECTIONS: usize = 1024;

/// The smallest share with which a listener is of use.
const SHARE_MIN: usize = 8;

impl Shares {
    /// Divides the descriptors that the system allows. Logs a warning if they are fewer than the operator asked for, or
    /// few.
    pub(crate) fn of_this_process(limits: &ServerLimits, core: &Limits) -> Self {
        let available = open_files_limit();
        let shares = Self::divide(available, limits, core);
        let (http, feed) = (shares.http.connections, shares.feed.connections);
        let default = ServerLimits::default();
        let is_too_few = |connections: usize, limit: usize, default: usize| {
            connections < limit && (limit != default || connections < FEW_CONNECTIONS)
        };
        if is_too_few(http, limits.max_connections, default.max_connections)
            || is_too_few(feed, limits.max_feed_connections, default.max_feed_connections)
        {
            tracing::warn!(
                available,
                http,
                feed,
                "the limit of open files allows fewer connections than --max-connections and --max-feed-connections. \
                 Raise it with `ulimit -n`, or LimitNOFILE of systemd"
            );
        }
        shares
    }

    fn divide(available: usize, limits: &ServerLimits, core: &Limits) -> Self {
        let free = available.saturating_sub(reserved(core));
        let (http, feed) = (wanted(limits.max_connections), wanted(limits.max_feed_connections));
        // What one listener leaves of its half is for the other.
        let half = (free / 2).max(SHARE_MIN);
        let http_part = http.min(half.max(free.saturating_sub(feed)));
        let feed_part = feed.min(half.max(free.saturating_sub(http)));
        Self {
            http: Share::new(http_part, limits.max_connections),
            feed: Share::new(feed_part, limits.max_feed_connections),
        }
    }
}

impl Share {
    fn new(descriptors: usize, connections_max: usize) -> Self {
        let refusals = refusals(descriptors);
        Self {
            connections: descriptors.saturating_sub(refusals).clamp(1, connections_max.max(1)),
            refusals,
        }
    }
}

/// Returns the descriptors for this many connections with their refusals.
fn wanted(connections: usize) -> usize {
    connections.saturating_add(REFUSALS_MAX)
}

fn refusals(descriptors: usize) -> usize {
    (descriptors / REFUSALS_PART).clamp(1, REFUSALS_MAX)
}

/// Returns the descriptors that the database and the process itself need.
fn reserved(core: &Limits) -> usize {
    let readers = usize::try_from(core.readers).unwrap_or(usize::MAX);
    // One more is the spare writer. A writer that reconnects may still have its old connection.
    let writers = core.writers.saturating_add(1);
    let database = writers.saturating_mul(2).saturating_add(readers);
    database.saturating_add(OTHER_FILES)
}

/// Returns how many files the process may have open.
fn open_files_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Raises the limit of open files to the highest permitted value.
///
/// Many systems start programs with a limit of 1024, and each of thousands of connections is an open file.
pub(crate) fn raise_open_files_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// Returns the limit of open files and the smallest one that works, if the limit is too low to start.
pub(crate) fn shortage(core: &Limits) -> Option<(usize, usize)> {
    let (available, needed) = (open_files_limit(), reserved(core).saturating_add(2 * SHARE_MIN));
    (available < needed).then_some((available, needed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn with_enough_descriptors_both_listeners_get_what_their_limits_say() {
        let (limits, core) = (ServerLimits::default(), Limits::default());
        let shares = Shares::divide(1 << 20, &limits, &core);
        assert_eq!(shares.http.connections, limits.max_connections);
        assert_eq!(shares.feed.connections, limits.max_feed_connections);
        // At least 10 000 connections of each kind with 20 480 descriptors and more.
        let shares = Shares::divide(21_000, &limits, &core);
        assert!(
            shares.http.connections >= 10_000 && shares.feed.connections >= 10_000,
            "{shares:?}"
        );
        let few_feeds = ServerLimits {
            max_feed_connections: 10,
            ..limits
        };
        assert!(Shares::divide(21_000, &few_feeds, &core).http.connections > 15_000);
    }

    proptest! {
        #[test]
        fn the_shares_leave_the_database_its_part(
            available in 0..100_000_usize,
            max_connections in 1..=1_000_000_usize,
            max_feed_connections in 1..=1_000_000_usize,
            readers in 1..=1000_u32,
            writers in 1..=32_usize,
        ) {
            let limits = ServerLimits { max_connections, max_feed_connections, ..ServerLimits::default() };
            let core = Limits { readers, writers, ..Limits::default() };
            let Shares { http, feed } = Shares::divide(available, &limits, &core);
            prop_assert!((1..=max_connections).contains(&http.connections) && http.refusals > 0);
            prop_assert!((1..=max_feed_connections).contains(&feed.connections) && feed.refusals > 0);
            if available >= reserved(&core) + 2 * SHARE_MIN {
                let all = http.connections + http.refusals + feed.connections + feed.refusals;
                prop_assert!(all + reserved(&core) <= available, "{http:?} {feed:?}");
            }
        }
    }
}
