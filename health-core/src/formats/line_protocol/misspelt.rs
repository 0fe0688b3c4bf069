//! Names in points that look like ours and are not: `hr`, `Heart_Rate`, or a field among the tags.
//!
//! A point may have any fields and tags, because Telegraf sends all it has. So a misspelt name cannot be refused. It is
//! counted, so that an operator can find the device.

use std::collections::BTreeMap;

/// The misspelt names of a body: how many there are of each, and which name was meant.
///
/// A sender chooses the names, so their number is bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MisspeltNames(BTreeMap<(&'static str, String), u64>);

/// The names of fields and tags, and what a point writes after its fields. After each stand, in small letters and
/// without other characters, the texts that are taken for it.
const KNOWN: [(&str, &[&str]); 6] = [
    ("heart_rate", &["heartrate", "hr", "bpm", "pulse", "heartbeat"]),
    ("steps", &["steps", "step", "stepcount"]),
    ("calories", &["calories", "kcal", "activecalories", "activeenergy"]),
    ("user_id", &["userid"]),
    ("source", &["source"]),
    ("timestamp", &["timestamp"]),
];

/// The longest text that is compared. Longer ones are none of ours.
const COMPARED_BYTES_MAX: usize = 16;

/// Shorter texts are compared exactly: `hr` is one letter from too many others.
const INEXACT_BYTES_MIN: usize = 5;

/// Different names that are kept of a body. Others of the same meaning are counted under [`OTHERS`].
const NAMES_MAX: usize = 32;

/// The name for everything beyond [`NAMES_MAX`].
const OTHERS: &str = "others";

/// Returns which of our names is meant by a name that is none of ours, or that is not at its place.
pub(super) fn meant_by(name: &str) -> Option<&'static str> {
    let mut buffer = [0; COMPARED_BYTES_MAX];
    let mut length = 0;
    for byte in name.bytes().filter(|byte| !b"_- .".contains(byte)) {
        *buffer.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    let text = &buffer[..length];
    let meant = KNOWN.iter().find(|(_, texts)| {
        let is_misspelt = |first: &&str| {
            let is_long = first.len() >= INEXACT_BYTES_MIN && text.len() >= INEXACT_BYTES_MIN;
            is_long && is_one_edit_apart(first.as_bytes(), text)
        };
        texts.iter().any(|known| known.as_bytes() == text) || texts.first().is_some_and(is_misspelt)
    });
    meant.map(|(meant, _)| *meant)
}

/// Returns whether a name is that of a reading. The others matter only in points that have a reading.
pub(super) fn is_reading(name: &str) -> bool {
    ["heart_rate", "steps", "calories"].contains(&name)
}

/// Returns whether one character is left out, too many or another, or two neighbours are exchanged.
fn is_one_edit_apart(one: &[u8], other: &[u8]) -> bool {
    let begin = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[begin..], &other[begin..]);
    let end = one
        .iter()
        .rev()
        .zip(other.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    match (&one[..one.len() - end], &other[..other.len() - end]) {
        ([] | [_], [] | [_]) => true,
        ([a, b], [c, d]) => a == d && b == c,
        _ => false,
    }
}

impl MisspeltNames {
    pub(super) fn add(&mut self, meant: &'static str, name: &str) {
        let mut key = (meant, name.to_owned());
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(&key) {
            OTHERS.clone_into(&mut key.1);
        }
        *self.0.entry(key).or_default() += 1;
    }

    /// Returns the names that can be meant.
    pub fn known() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(name, _)| *name)
    }

    /// Returns which name was meant, the name as it was written, and how many there are.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str, u64)> {
        self.0
            .iter()
            .map(|((meant, name), count)| (*meant, name.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_ours_are_recognised_and_those_of_telegraf_are_not() {
        for (name, meant) in [
            ("hr", "heart_rate"),
            ("Heart_Rate", "heart_rate"),
            ("heartRate", "heart_rate"),
            ("heart-rate", "heart_rate"),
            ("hart_rate", "heart_rate"),
            ("hearth_rate", "heart_rate"),
            ("haert_rate", "heart_rate"),
            ("BPM", "heart_rate"),
            ("heart_rate", "heart_rate"),
            ("step", "steps"),
            ("Steps", "steps"),
            ("stpes", "steps"),
            ("step_count", "steps"),
            ("calorie", "calories"),
            ("kcal", "calories"),
            ("User_id", "user_id"),
            ("userId", "user_id"),
            ("user_id", "user_id"),
            ("Source", "source"),
            ("timestamp", "timestamp"),
        ] {
            assert_eq!(meant_by(name), Some(meant), "{name}");
        }
        for name in [
            "",
            "h",
            "Hr2",
            "user",
            "uid",
            "host",
            "cpu",
            "usage_idle",
            "usage_user",
            "load1",
            "n_cpus",
            "message",
            "battery",
            "worn",
            "used_percent",
            "temperature",
            "rate",
            "resource",
            "state",
            "status",
            "stops_total",
            "time",
            "heart",
            "ça",
            "日",
            "heart_rate_of_somebody_else",
        ] {
            assert_eq!(meant_by(name), None, "{name}");
        }
        let readings: Vec<_> = MisspeltNames::known().filter(|name| is_reading(name)).collect();
        assert_eq!(readings, ["heart_rate", "steps", "calories"]);
    }

    #[test]
    fn the_number_of_names_is_bounded_and_none_goes_uncounted() {
        let mut names = MisspeltNames::default();
        for name in 0..3 * NAMES_MAX {
            names.add("steps", &format!("{name}"));
        }
        names.add("steps", "0");
        assert_eq!(names.iter().count(), NAMES_MAX + 1);
        let total: u64 = names.iter().map(|(_, _, count)| count).sum();
        assert_eq!(total, 3 * 32 + 1);
    }
}
