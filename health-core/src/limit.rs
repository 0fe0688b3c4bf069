//! The range of a limit.

use std::{fmt, ops::RangeInclusive};

/// A limit is outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit {name} is {value}; it must be from {min} to {max}{reason}")]
pub struct LimitOutOfRange {
    name: &'static str,
    value: String,
    min: String,
    max: String,
    /// Empty, or ends the sentence.
    reason: String,
}

impl LimitOutOfRange {
    /// Adds why the range is as it is.
    #[must_use]
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.reason = format!(", because {reason}");
        self
    }

    /// Checks one limit.
    ///
    /// # Errors
    /// The limit, if the range does not contain its value.
    pub fn check<T: PartialOrd + fmt::Debug>(
        name: &'static str,
        value: &T,
        range: &RangeInclusive<T>,
    ) -> Result<(), Self> {
        if range.contains(value) {
            return Ok(());
        }
        Err(Self {
            name,
            value: format!("{value:?}"),
            min: format!("{:?}", range.start()),
            max: format!("{:?}", range.end()),
            reason: String::new(),
        })
    }
}
