//! Slows down addresses that send wrong tokens. A right token is never slowed down.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::addresses::network;

/// The wrong tokens of each address in the last [`MEMORY`].
///
/// A token of 256 random bits cannot be guessed. The delay keeps a program that tries, or one with an old token, from
/// costing much and from filling the log.
#[derive(Debug, Default)]
pub(crate) struct WrongTokens {
    by_address: Mutex<HashMap<IpAddr, WrongTokensOfAddress>>,
}

#[derive(Debug, Clone, Copy)]
struct WrongTokensOfAddress {
    count: u32,
    last: Instant,
}

/// Wrong tokens before the first delay: a person may mistype, and a device may not know its new token yet.
const FREE_ATTEMPTS: u32 = 3;

/// The first delay. Each further wrong token doubles it.
const DELAY_MIN: Duration = Duration::from_millis(100);

/// The longest delay. A client that waits for its answer can try once in this time and connection.
const DELAY_MAX: Duration = Duration::from_secs(2);

/// How long an address without a further wrong token is remembered.
const MEMORY: Duration = Duration::from_mins(1);

/// Addresses that are remembered. Each takes about 50 bytes.
const ADDRESSES_MAX: usize = 16_384;

impl WrongTokens {
    /// Counts a wrong token and returns how long to wait before the response.
    pub(crate) fn add(&self, address: IpAddr) -> Duration {
        self.add_at(address, Instant::now())
    }

    fn add_at(&self, address: IpAddr, now: Instant) -> Duration {
        let mut by_address = self.by_address.lock();
        if by_address.len() >= ADDRESSES_MAX {
            by_address.retain(|_, wrong| now - wrong.last < MEMORY);
        }
        if by_address.len() >= ADDRESSES_MAX {
            // So many addresses at once are one attack. It gets the longest delay.
            return DELAY_MAX;
        }
        let wrong = by_address
            .entry(network(address))
            .or_insert(WrongTokensOfAddress { count: 0, last: now });
        if now - wrong.last >= MEMORY {
            wrong.count = 0;
        }
        wrong.count = wrong.count.saturating_add(1);
        wrong.last = now;
        delay(wrong.count)
    }
}

/// Returns the delay of the n-th wrong token in a row.
fn delay(count: u32) -> Duration {
    match count.checked_sub(FREE_ATTEMPTS + 1) {
        None => Duration::ZERO,
        Some(doublings) => DELAY_MIN.saturating_mul(2_u32.saturating_pow(doublings)).min(DELAY_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_limit() {
        let delays = [1, 3, 4, 5, 6, 9, 10, u32::MAX].map(|count| delay(count).as_millis());
        assert_eq!(delays, [0, 0, 100, 200, 400, 2000, 2000, 2000]);
    }

    #[test]
    fn an_address_is_forgotten_after_a_minute_without_a_wrong_token() {
        let wrong_tokens = WrongTokens::default();
        let now = Instant::now();
        let address = "192.0.2.1".parse().unwrap();
        let other = "192.0.2.2".parse().unwrap();
        for _ in 0..FREE_ATTEMPTS {
            assert_eq!(wrong_tokens.add_at(address, now), Duration::ZERO);
        }
        assert_eq!(wrong_tokens.add_at(address, now), DELAY_MIN);
        assert_eq!(wrong_tokens.add_at(other, now), Duration::ZERO);
        assert_eq!(wrong_tokens.add_at(address, now + MEMORY), Duration::ZERO);
    }

    #[test]
    fn the_number_of_remembered_addresses_is_bounded() {
        let wrong_tokens = WrongTokens::default();
        let now = Instant::now();
        let address = |n: usize| IpAddr::V4(u32::try_from(n).unwrap().into());
        for n in 0..ADDRESSES_MAX {
            wrong_tokens.add_at(address(n), now);
        }
        assert_eq!(wrong_tokens.add_at(address(ADDRESSES_MAX), now), DELAY_MAX);
        assert_eq!(
            wrong_tokens.add_at(address(ADDRESSES_MAX), now + MEMORY),
            Duration::ZERO
        );
        assert_eq!(wrong_tokens.by_address.lock().len(), 1);
    }
}
