//! When a heart rate is an alert, and when a user counts as silent: one rule for the dashboard and the page.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// The thresholds of the alerts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertThresholds {
    /// A heart rate is high from this many beats per minute.
    pub high: f64,
    /// A heart rate is low below this many beats per minute.
    pub low: f64,
    /// A user is stale if the newest sample is older than this many seconds.
    pub stale_s: u32,
}

/// Why a heart rate is an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alert {
    /// It is below [`AlertThresholds::low`].
    Low,
    /// It is at least [`AlertThresholds::high`].
    High,
}

impl Default for AlertThresholds {
    /// Most adults do not reach 150 by walking, and few resting rates are below 40. Both values draw attention. They
    /// are no diagnosis.
    fn default() -> Self {
        Self {
            high: 150.0,
            low: 40.0,
            stale_s: 120,
        }
    }
}

impl AlertThresholds {
    /// Returns the alert of a heart rate in beats per minute.
    ///
    /// ```
    /// use health_core::{Alert, AlertThresholds};
    ///
    /// let thresholds = AlertThresholds::default();
    /// assert_eq!(thresholds.alert(150.0), Some(Alert::High));
    /// assert_eq!(thresholds.alert(40.0), None);
    /// assert_eq!(thresholds.alert(39.9), Some(Alert::Low));
    /// ```
    pub fn alert(&self, bpm: f64) -> Option<Alert> {
        if bpm >= self.high {
            Some(Alert::High)
        } else if bpm < self.low {
            Some(Alert::Low)
        } else {
            None
        }
    }

    /// Returns the age from which a sample says nothing about now.
    pub fn stale_after(&self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.stale_s))
    }
}
