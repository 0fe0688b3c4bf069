//! What the header shows about the connection to the feed.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::event::{ConnectionEvent, ReceivedSamples},
    fmt,
};

/// Number of seconds over which the sample rate is averaged.
const RATE_SECONDS: usize = 10;

/// Whether the feed is connected, and what the dashboard waits for if it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    Connecting {
        attempt: u32,
    },
    Connected,
    /// The samples come from a recording. There is no connection.
    Replaying {
        description: String,
    },
    WaitingToRetry {
        attempt: u32,
        reason: String,
        retry_at: DateTime<Utc>,
    },
}

/// The connection to the feed and its sample rate.
#[derive(Clone, Debug)]
pub(crate) struct FeedConnection {
    pub(crate) state: ConnectionState,
    /// Set while a connection is silent that should have a heartbeat every 5 s: the time of the last message.
    pub(crate) silent_since: Option<DateTime<Utc>>,
    /// Whether there ever was a connection. Before the first one, an empty table says "connecting".
    pub(crate) was_connected: bool,
    /// The number of samples that the client missed (`lagged`), or that newer ones replaced while the event loop was
    /// busy.
    pub(crate) skipped: u64,
    /// The smallest lag of the samples of the last second: time of arrival minus timestamp. Negative if the clocks of
    /// all devices are ahead.
    pub(crate) lag: Option<TimeDelta>,
    /// Number of samples in each of the last seconds, newest last. The current second is not included.
    samples_per_second: VecDeque<u64>,
    samples_this_second: u64,
    lag_this_second: Option<TimeDelta>,
    /// When the current second ends. `None` while no samples arrive.
    pub(crate) second_ends_at: Option<DateTime<Utc>>,
}

impl Default for FeedConnection {
    fn default() -> Self {
        Self {
            state: ConnectionState::Connecting { attempt: 1 },
            silent_since: None,
            was_connected: false,
            skipped: 0,
            lag: None,
            samples_per_second: VecDeque::new(),
            samples_this_second: 0,
            lag_this_second: None,
            second_ends_at: None,
        }
    }
}

impl FeedConnection {
    pub(crate) fn apply(&mut self, event: &ConnectionEvent, now: DateTime<Utc>) {
        self.silent_since = match event {
            ConnectionEvent::Silent { elapsed } => Some(now - TimeDelta::from_std(*elapsed).unwrap_or_default()),
            _ => None,
        };
        match event {
            ConnectionEvent::Connecting { attempt } => self.state = ConnectionState::Connecting { attempt: *attempt },
            ConnectionEvent::Connected { .. } => {
                self.state = ConnectionState::Connected;
                self.was_connected = true;
            }
            ConnectionEvent::Disconnected {
                attempt,
                reason,
                retry_in,
            } => {
                self.state = ConnectionState::WaitingToRetry {
                    attempt: *attempt,
                    reason: reason.clone(),
                    retry_at: now + TimeDelta::from_std(*retry_in).unwrap_or(TimeDelta::MAX),
                };
            }
            ConnectionEvent::Replaying { description } => {
                self.state = ConnectionState::Replaying {
                    description: description.clone(),
                };
                self.was_connected = true;
            }
            ConnectionEvent::Lagged { missed } => self.skipped += missed,
            ConnectionEvent::Silent { .. } | ConnectionEvent::Recovered => {}
        }
    }

    /// Adds received samples to the rate and to the lag.
    pub(crate) fn count_samples(&mut self, received: &ReceivedSamples, now: DateTime<Utc>) {
        self.skipped += received.replaced;
        self.samples_this_second += u64::try_from(received.samples.len()).unwrap_or(u64::MAX) + received.replaced;
        let lags = received.samples.iter().map(|sample| now - sample.timestamp());
        // A device whose clock is ahead says nothing about the lag, unless there is no other.
        self.lag_this_second = lags
            .chain(self.lag_this_second)
            .min_by_key(|lag| (fmt::is_ahead(*lag), lag.abs()));
        if self.second_ends_at.is_none() {
            self.second_ends_at = Some(now + TimeDelta::seconds(1));
        }
    }

    /// Ends the seconds that are over. Returns whether the header changed.
    pub(crate) fn end_seconds(&mut self, now: DateTime<Utc>) -> bool {
        let mut changed = false;
        while let Some(end) = self.second_ends_at.filter(|end| *end <= now) {
            changed = true;
            if self.samples_per_second.len() == RATE_SECONDS {
                self.samples_per_second.pop_front();
            }
            self.samples_per_second.push_back(self.samples_this_second);
            if self.samples_this_second > 0 {
                self.lag = self.lag_this_second.take();
            }
            self.samples_this_second = 0;
            self.second_ends_at = Some(end + TimeDelta::seconds(1));
            if self.samples_per_second.iter().all(|count| *count == 0) {
                self.samples_per_second.clear();
                self.lag = None;
                self.second_ends_at = None;
            }
        }
        changed
    }

    /// Returns the average number of samples per second. `None` while no samples arrive.
    pub(crate) fn rate(&self) -> Option<f64> {
        if self.samples_per_second.is_empty() {
            return None;
        }
        let samples: u64 = self.samples_per_second.iter().sum();
        let seconds = u32::try_from(self.samples_per_second.len()).unwrap_or(1);
        Some(f64::from(u32::try_from(samples).unwrap_or(u32::MAX)) / f64::from(seconds))
    }

    /// Returns when the header must show one more second of silence.
    pub(crate) fn next_silence_change(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let elapsed_ms = (now - self.silent_since?).num_milliseconds().max(0);
        Some(now + TimeDelta::milliseconds(1_000 - elapsed_ms % 1_000))
    }

    /// Returns whether samples can arrive: from a server or from a recording.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(
            self.state,
            ConnectionState::Connected | ConnectionState::Replaying { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_disappears_when_no_samples_arrive() {
        let mut connection = FeedConnection::default();
        let t = |seconds: i64| DateTime::from_timestamp(1_740_938_400 + seconds, 0).unwrap();
        let received = ReceivedSamples {
            samples: Vec::new(),
            replaced: 30,
        };
        connection.count_samples(&received, t(0));
        assert_eq!(connection.rate(), None);
        assert!(connection.end_seconds(t(2)));
        assert_eq!(connection.rate(), Some(15.0));
        assert!(connection.end_seconds(t(30)));
        assert_eq!((connection.rate(), connection.second_ends_at), (None, None));
        assert!(!connection.end_seconds(t(31)));
        assert_eq!(connection.skipped, 30);
    }

    #[test]
    fn a_clock_that_is_ahead_is_no_lag_unless_all_are() {
        let now = DateTime::from_timestamp(1_740_938_400, 0).unwrap();
        let lag = |seconds: &[i64]| {
            let mut connection = FeedConnection::default();
            let samples = seconds
                .iter()
                .map(|lag| crate::fixtures::sample(7, now - TimeDelta::seconds(*lag), 70.0))
                .collect();
            connection.count_samples(&ReceivedSamples { samples, replaced: 0 }, now);
            connection.end_seconds(now + TimeDelta::seconds(1));
            connection.lag.unwrap().num_seconds()
        };
        assert_eq!(lag(&[-240, 3, 90]), 3);
        assert_eq!(lag(&[-1, 20]), -1);
        assert_eq!(lag(&[-240, -300]), -240);
    }
}
