//! A limit of the rate of requests with each token.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// A token bucket for each API token that was used in the last moments. It holds the requests of one second.
#[derive(Debug)]
pub(crate) struct TokenRates {
    /// The time that one request takes from a bucket.
    cost: Duration,
    /// When the bucket of each token will be full again. A full one has no entry, or one in the past.
    full_at: Mutex<HashMap<i64, Instant>>,
}

/// The capacity of a bucket, as the time in which it fills.
const CAPACITY: Duration = Duration::from_secs(1);

/// Tokens that are remembered. Each takes about 40 bytes. If more are in use, all buckets are full again.
const TOKENS_MAX: usize = 16_384;

impl TokenRates {
    /// Creates buckets for `requests` a second and token.
    pub(crate) fn new(requests: usize) -> Self {
        let requests = u32::try_from(requests.max(1)).unwrap_or(u32::MAX);
        Self {
            cost: CAPACITY / requests,
            full_at: Mutex::default(),
        }
    }

    /// Counts a request. Returns how long the client has to wait if its token has used up its rate.
    pub(crate) fn take(&self, token_id: i64) -> Result<(), Duration> {
        self.take_at(token_id, Instant::now())
    }

    fn take_at(&self, token_id: i64, now: Instant) -> Result<(), Duration> {
        let mut full_at = self.full_at.lock();
        if full_at.len() >= TOKENS_MAX {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= TOKENS_MAX {
                full_at.clear();
            }
        }
        let at = full_at.entry(token_id).or_insert(now);
        let after = (*at).max(now) + self.cost;
        let excess = after.saturating_duration_since(now + CAPACITY);
        if !excess.is_zero() {
            return Err(excess);
        }
        *at = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_has_the_requests_of_a_second_at_once_and_then_its_rate() {
        let rates = TokenRates::new(10);
        let now = Instant::now();
        for _ in 0..10 {
            assert_eq!(rates.take_at(1, now), Ok(()));
        }
        let wait = rates.take_at(1, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(rates.take_at(2, now), Ok(()), "each token has a bucket of its own");
        assert!(rates.take_at(1, now + wait / 2).is_err());
        assert_eq!(rates.take_at(1, now + wait), Ok(()));
        assert!(rates.take_at(1, now + wait).is_err(), "refused requests cost nothing");
        let later = now + Duration::from_mins(1);
        let taken = (0..100).filter(|_| rates.take_at(1, later).is_ok()).count();
        assert_eq!(taken, 10, "a bucket holds no more than one second");
    }

    #[test]
    fn the_highest_rate_is_not_rounded_to_none() {
        let rates = TokenRates::new(1_000_000);
        let now = Instant::now();
        let taken = (0..1_000_010).filter(|_| rates.take_at(1, now).is_ok()).count();
        assert_eq!(taken, 1_000_000);
    }

    #[test]
    fn the_number_of_remembered_tokens_is_bounded() {
        let rates = TokenRates::new(1);
        let now = Instant::now();
        for token in 0..=40_000 {
            assert_eq!(rates.take_at(token, now), Ok(()));
        }
        assert!(rates.full_at.lock().len() <= TOKENS_MAX);
    }
}
