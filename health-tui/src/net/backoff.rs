//! How long to wait before the next try.

use std::time::Duration;

/// The wait behind the first failure.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);

/// The wait behind failure number `attempt` (from 1): doubled each time, and somewhere in the upper half of that, so that
/// a thousand dashboards do not come back in the same instant.
pub(crate) fn delay(attempt: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1u32 << attempt.saturating_sub(1).min(10));
    doubled
        .min(LONGEST)
        .mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
        .max(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_a_quarter_of_a_second_and_ten() {
        assert_eq!(delay(1, 0.0), Duration::from_millis(250));
        assert_eq!(delay(3, 1.0), Duration::from_secs(1));
        assert_eq!(delay(3, 0.0), Duration::from_millis(500));
        assert_eq!(delay(40, 1.0), LONGEST);
        assert_eq!(delay(u32::MAX, 0.0), LONGEST / 2);
    }
}
