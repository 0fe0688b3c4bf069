//! The figures of the preview: they describe the samples that the live table remembers.

use chrono::TimeDelta;

use crate::{
    app::chart_point::{ChartPoint, Reading},
    store::User,
};

/// The newest samples of a user, at most as many as a sparkline shows.
///
/// These figures are not statistics of a time range: the server may have more samples of the same time.
#[derive(Clone, Debug)]
pub(crate) struct RecentFigures {
    pub(crate) points: Vec<ChartPoint>,
    /// The time from the oldest to the newest sample.
    pub(crate) length: TimeDelta,
    /// Lowest, mean and highest heart rate, in beats per minute.
    pub(crate) heart_rate: Option<(f64, f64, f64)>,
    /// The total without the steps that a second device counted too.
    pub(crate) steps: Option<f64>,
    /// Kilocalories.
    pub(crate) calories: Option<f64>,
}

impl RecentFigures {
    pub(crate) fn new(user: &User) -> Self {
        let points = ChartPoint::from_readings(&Reading::remembered(user));
        let length = match (points.first(), points.last()) {
            (Some(first), Some(last)) => last.at - first.at,
            _ => TimeDelta::zero(),
        };
        Self {
            length,
            heart_rate: heart_rate(&points),
            steps: total(points.iter().filter_map(|point| point.steps)),
            calories: total(points.iter().filter_map(|point| point.calories)),
            points,
        }
    }
}

fn heart_rate(points: &[ChartPoint]) -> Option<(f64, f64, f64)> {
    let rates = || {
        points
            .iter()
            .filter_map(|point| point.heart_rate)
            .map(|(_, bpm, _)| bpm)
    };
    let count = u32::try_from(rates().count()).ok().filter(|count| *count > 0)?;
    let mean = rates().sum::<f64>() / f64::from(count);
    Some((rates().fold(mean, f64::min), mean, rates().fold(mean, f64::max)))
}

/// Returns the sum, or `None` if there is no value: absent is not zero.
fn total(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.fold(None, |total, value| Some(total.unwrap_or(0.0) + value))
}
