//! Notices that the clock has jumped ahead, so that a wrong clock does not erase everything.

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// A jump that is no correction of a clock that runs a little slow.
const JUMP_MIN: TimeDelta = TimeDelta::days(1);

/// What the clock said at the last run.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    last: Option<(DateTime<Utc>, Instant)>,
}

impl Clock {
    /// Returns how far the clock has jumped ahead since the last call, if that is much. The next call takes the new
    /// time as right: by then somebody could correct a wrong one.
    pub(super) fn jump(&mut self, now: DateTime<Utc>, at: Instant) -> Option<TimeDelta> {
        let (last, last_at) = self.last.replace((now, at))?;
        let elapsed = TimeDelta::from_std(at.duration_since(last_at)).unwrap_or_default();
        let ahead = now - last - elapsed;
        (ahead > JUMP_MIN).then_some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_jump_ahead_is_reported_and_only_once() {
        const HOUR: Duration = Duration::from_hours(1);
        let (start, begin) = (DateTime::from_timestamp(1_800_000_000, 0).unwrap(), Instant::now());
        let mut clock = Clock::default();
        let year = TimeDelta::days(365);
        for (hours, wall, jumped) in [
            (0, start, None),
            (24, start + TimeDelta::hours(25), None),
            (25, start + TimeDelta::hours(26) + year, Some(year)),
            (26, start + TimeDelta::hours(27) + year, None),
            (27, start, None),
            (28, start + TimeDelta::hours(1), None),
        ] {
            assert_eq!(clock.jump(wall, begin + HOUR * hours), jumped, "after {hours} h");
        }
    }
}
