//! The delays between attempts to connect.

use std::time::Duration;

/// The delay after the first failure. Short, because most restarts of a server take less than a second.
const DELAY_MIN: Duration = Duration::from_millis(250);
/// The longest delay, and the delay after a refusal that somebody must remedy.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(10);

/// Returns the delay after the failed attempt with the number `attempt`. The first attempt is 1.
///
/// Each failure doubles the delay. `random` (0 to 1) picks a value from its upper half, so that many clients do
/// not reconnect at the same moment.
pub(super) fn delay(attempt: u32, random: f64) -> Duration {
    let doubled = DELAY_MIN.saturating_mul(1u32 << attempt.saturating_sub(1).min(10));
    doubled
        .min(DELAY_MAX)
        .mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
        .max(DELAY_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_from_a_quarter_of_a_second_to_ten_seconds() {
        assert_eq!(delay(1, 0.0), Duration::from_millis(250));
        assert_eq!(delay(3, 1.0), Duration::from_secs(1));
        assert_eq!(delay(3, 0.0), Duration::from_millis(500));
        assert_eq!(delay(40, 1.0), DELAY_MAX);
        assert_eq!(delay(u32::MAX, 0.0), DELAY_MAX / 2);
    }
}
