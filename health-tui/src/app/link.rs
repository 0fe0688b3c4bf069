//! What the header says of the connection: never more than is known.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use crate::app::action::{Batch, FeedNews};

/// Seconds over which the rate of samples is averaged.
const RATE_SECONDS: usize = 10;

/// The state of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Connecting {
        attempt: u32,
    },
    Connected,
    /// A recording; there is no connection.
    Replay {
        what: String,
    },
    Waiting {
        attempt: u32,
        why: String,
        retry_at: DateTime<Utc>,
    },
}

/// The connection and what came over it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    /// Since when nothing has come over a connection that should have a heartbeat every 5 s.
    pub(crate) quiet_since: Option<DateTime<Utc>>,
    /// Whether there ever was a connection: before that an empty table means something else.
    pub(crate) ever: bool,
    /// Samples the server skipped or the dashboard coalesced.
    pub(crate) skipped: u64,
    /// The freshest of the last second's samples: how long it took from the wrist to here.
    pub(crate) lag: Option<TimeDelta>,
    /// Samples of each of the last seconds, the newest last; the second in progress is not among them.
    seconds: VecDeque<u64>,
    current: u64,
    current_lag: Option<TimeDelta>,
    /// When the second in progress ends; none while nothing comes.
    pub(crate) second_ends: Option<DateTime<Utc>>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            state: LinkState::Connecting { attempt: 1 },
            quiet_since: None,
            ever: false,
            skipped: 0,
            lag: None,
            seconds: VecDeque::new(),
            current: 0,
            current_lag: None,
            second_ends: None,
        }
    }
}

impl Link {
    pub(crate) fn hear(&mut self, news: &FeedNews, now: DateTime<Utc>) {
        self.quiet_since = match news {
            FeedNews::Quiet { since } => Some(now - TimeDelta::from_std(*since).unwrap_or_default()),
            _ => None,
        };
        match news {
            FeedNews::Connecting { attempt } => self.state = LinkState::Connecting { attempt: *attempt },
            FeedNews::Connected { .. } => {
                self.state = LinkState::Connected;
                self.ever = true;
            }
            FeedNews::Waiting { attempt, why, delay } => {
                self.state = LinkState::Waiting {
                    attempt: *attempt,
                    why: why.clone(),
                    retry_at: now + TimeDelta::from_std(*delay).unwrap_or(TimeDelta::MAX),
                };
            }
            FeedNews::Replaying { what } => {
                self.state = LinkState::Replay { what: what.clone() };
                self.ever = true;
            }
            FeedNews::Lagged { missed } => self.skipped += missed,
            FeedNews::Quiet { .. } | FeedNews::Heard | FeedNews::Refused { .. } => {}
        }
    }

    pub(crate) fn count(&mut self, batch: &Batch, now: DateTime<Utc>) {
        self.skipped += batch.coalesced;
        self.current += u64::try_from(batch.samples.len()).unwrap_or(u64::MAX) + batch.coalesced;
        let freshest = batch.samples.iter().map(|s| now - s.timestamp()).min();
        self.current_lag = [self.current_lag, freshest].into_iter().flatten().min();
        if self.second_ends.is_none() {
            self.second_ends = Some(now + TimeDelta::seconds(1));
        }
    }

    /// Ends the seconds that are over. True where the header reads differently now.
    pub(crate) fn tick(&mut self, now: DateTime<Utc>) -> bool {
        let mut changed = false;
        while let Some(ends) = self.second_ends.filter(|ends| *ends <= now) {
            changed = true;
            if self.seconds.len() == RATE_SECONDS {
                self.seconds.pop_front();
            }
            self.seconds.push_back(self.current);
            if self.current > 0 {
                self.lag = self.current_lag.take().map(|l| l.max(TimeDelta::zero()));
            }
            self.current = 0;
            self.second_ends = Some(ends + TimeDelta::seconds(1));
            if self.seconds.iter().all(|n| *n == 0) {
                self.seconds.clear();
                self.lag = None;
                self.second_ends = None;
            }
        }
        changed
    }

    /// Samples a second over the last seconds; none while nothing comes.
    pub(crate) fn rate(&self) -> Option<f64> {
        if self.seconds.is_empty() {
            return None;
        }
        let sum: u64 = self.seconds.iter().sum();
        let n = u32::try_from(self.seconds.len()).unwrap_or(1);
        Some(f64::from(u32::try_from(sum).unwrap_or(u32::MAX)) / f64::from(n))
    }

    /// When the seconds of silence in the header read differently.
    pub(crate) fn silence_changes(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let passed = (now - self.quiet_since?).num_milliseconds().max(0);
        Some(now + TimeDelta::milliseconds(1_000 - passed % 1_000))
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.state, LinkState::Connected | LinkState::Replay { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_silent_when_nothing_comes() {
        let mut link = Link::default();
        let t = |s: i64| DateTime::from_timestamp(1_740_938_400 + s, 0).unwrap();
        link.count(
            &Batch {
                samples: Vec::new(),
                coalesced: 30,
            },
            t(0),
        );
        assert_eq!(link.rate(), None);
        assert!(link.tick(t(2)));
        assert_eq!(link.rate(), Some(15.0));
        assert!(link.tick(t(30)));
        assert_eq!((link.rate(), link.second_ends), (None, None));
        assert!(!link.tick(t(31)));
        assert_eq!(link.skipped, 30);
    }
}
