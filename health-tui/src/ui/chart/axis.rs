//! What charts are made of: the axis of time, and the readings on it.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::theme::Ink;

/// A stretch of time from the left edge to the right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) tz: Tz,
}

/// One reading, or a bucket of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) at: DateTime<Utc>,
    pub(crate) low: f64,
    pub(crate) mean: f64,
    pub(crate) high: f64,
}

/// Marks in the order of time, and the colours of their line.
pub(crate) struct Series<'a> {
    pub(crate) marks: &'a [Mark],
    pub(crate) ink: Ink,
}

impl Axis {
    /// 0 at the left edge, 1 at the right.
    pub(crate) fn share(&self, at: DateTime<Utc>) -> f64 {
        let span = (self.end - self.start).as_seconds_f64();
        if span <= 0.0 {
            0.0
        } else {
            (at - self.start).as_seconds_f64() / span
        }
    }

    /// The column of a plot `width` wide, where it is on it.
    pub(crate) fn column(&self, at: DateTime<Utc>, width: u16) -> Option<u16> {
        let share = self.share(at);
        (0.0..1.0)
            .contains(&share)
            .then(|| cell(share * f64::from(width)).min(width.saturating_sub(1)))
    }
}

/// The whole cells in a length; negative ones are none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what a place beyond the edge needs"
)]
pub(super) fn cell(v: f64) -> u16 {
    v as u16
}
