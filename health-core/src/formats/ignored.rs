//! The numbers of ignored entries by name.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;

/// How many entries are ignored, by the sender's name of their kind.
///
/// A sender chooses the names, so their number and length are bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct IgnoredCounts(BTreeMap<Cow<'static, str>, u64>);

/// Health Auto Export has about 150 names, Apple Health about 200.
const NAMES_MAX: usize = 1_000;

/// The longest name of Apple Health has about 60 bytes.
const NAME_BYTES_MAX: usize = 128;

/// The name for everything beyond [`NAMES_MAX`].
const OTHERS: &str = "others";

impl IgnoredCounts {
    /// Adds entries of a kind.
    pub fn add(&mut self, name: impl Into<Cow<'static, str>>, entries: u64) {
        let mut name = name.into();
        if name.len() > NAME_BYTES_MAX {
            let cut = name.floor_char_boundary(NAME_BYTES_MAX);
            name.to_mut().truncate(cut);
        }
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(&name) {
            name = OTHERS.into();
        }
        *self.0.entry(name).or_default() += entries;
    }

    /// Adds the counts of another file.
    pub fn merge(&mut self, other: Self) {
        for (name, entries) in other.0 {
            self.add(name, entries);
        }
    }

    /// Returns the sum over all kinds.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the kinds and their numbers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, entries)| (name.as_ref(), *entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_by_name_and_the_names_are_bounded() {
        let mut counts = IgnoredCounts::default();
        for name in 0..2 * NAMES_MAX {
            counts.add(format!("{name}"), 2);
        }
        counts.add("é".repeat(NAME_BYTES_MAX), 1);
        counts.add("0", 1);
        assert_eq!(counts.iter().count(), NAMES_MAX + 1);
        assert_eq!(counts.total(), 4 * 1_000 + 2);
        let others = counts.iter().find(|(name, _)| *name == OTHERS);
        assert_eq!(others, Some((OTHERS, 2 * 1_000 + 1)));
        let mut twice = counts.clone();
        twice.merge(counts.clone());
        assert_eq!(twice.total(), 2 * counts.total());
    }
}
