//! How hard a user worked, as shares of the maximal heart rate.

use health_core::PercentilesResponse;

/// The names of the zones, from the lowest heart rate. The American College of Sports Medicine divides the range
/// above half of the maximal heart rate into five zones of a tenth each.
const NAMES: [&str; 6] = ["rest", "very light", "light", "moderate", "hard", "maximal"];

/// The share of a window's heart rates in each zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HeartRateZones {
    shares: [f64; 6],
}

impl HeartRateZones {
    /// Counts how many percentiles lie in each zone. With the percentiles 1 to 100, a percentile is one hundredth of
    /// the readings, so the shares are exact to 1 %. Returns `None` if there are no readings.
    pub(crate) fn from_percentiles(response: &PercentilesResponse, heart_rate_max: f64) -> Option<Self> {
        let mut counts = [0u32; 6];
        for bpm in response.percentiles.values().flatten() {
            let zone = (1u8..6)
                .rev()
                .find(|zone| *bpm >= heart_rate_max * (0.4 + 0.1 * f64::from(*zone)))
                .unwrap_or(0);
            counts[usize::from(zone)] += 1;
        }
        let total: u32 = counts.iter().sum();
        (total > 0).then(|| Self {
            shares: counts.map(|count| f64::from(count) / f64::from(total)),
        })
    }

    /// Returns each zone's name and share (0 to 1), from the lowest heart rate.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&'static str, f64)> {
        NAMES.into_iter().zip(self.shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_percentile_is_a_hundredth_of_the_readings() {
        // With a maximum of 200, the zones begin at 100, 120, 140, 160 and 180.
        let percentiles = (1..=100)
            .map(|percent| {
                let bpm = match percent {
                    1..=40 => 99.0,
                    41..=90 => 100.0,
                    _ => 185.0,
                };
                (percent.to_string(), Some(bpm))
            })
            .collect();
        let response = PercentilesResponse {
            percentiles,
            samples: 5_000,
        };
        let zones = HeartRateZones::from_percentiles(&response, 200.0).unwrap();
        let shares: Vec<String> = zones.iter().map(|(name, share)| format!("{name} {share}")).collect();
        assert_eq!(
            shares,
            [
                "rest 0.4",
                "very light 0.5",
                "light 0",
                "moderate 0",
                "hard 0",
                "maximal 0.1"
            ]
        );
    }

    #[test]
    fn a_window_without_readings_has_no_zones() {
        let response = PercentilesResponse {
            percentiles: [("50".to_owned(), None)].into(),
            samples: 0,
        };
        assert_eq!(HeartRateZones::from_percentiles(&response, 200.0), None);
    }
}
