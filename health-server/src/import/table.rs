//! The table that closes an import.

use std::{borrow::Cow, fmt::Write};

use health_core::formats::IgnoredCounts;

use super::first_refusals::FirstRefusals;

/// The width of the names of the rows with the gap to the numbers.
const NAME_WIDTH: usize = 12;

/// What became of the entries of all files.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Table {
    /// Entries that were read.
    pub(super) read: u64,
    /// Samples to store, if no server was asked.
    pub(super) to_store: u64,
    /// Samples that were inserted or updated.
    pub(super) stored: u64,
    /// Samples that were stored already.
    pub(super) unchanged: u64,
    /// Refused entries by the kind of their fault.
    refused: IgnoredCounts,
    first_refusals: FirstRefusals,
    /// Ignored entries by kind.
    ignored: IgnoredCounts,
}

impl Table {
    /// Counts an entry that is refused. `sentence` says where it stands and why, for the first one of its kind.
    pub(super) fn refuse_one(&mut self, kind: impl Into<Cow<'static, str>>, sentence: impl FnOnce() -> String) {
        let kind = shown(kind);
        self.first_refusals.note(&kind, || shown(sentence()).into_owned());
        self.refused.add(kind, 1);
    }

    /// Counts entries that are refused.
    pub(super) fn refuse(&mut self, kind: impl Into<Cow<'static, str>>, entries: u64) {
        self.refused.add(shown(kind), entries);
    }

    /// Counts entries that are ignored.
    pub(super) fn ignore(&mut self, kind: impl Into<Cow<'static, str>>, entries: u64) {
        self.ignored.add(shown(kind), entries);
    }

    /// Adds the numbers of another table.
    pub(super) fn merge(&mut self, other: Self) {
        self.read += other.read;
        self.to_store += other.to_store;
        self.stored += other.stored;
        self.unchanged += other.unchanged;
        self.refused.merge(other.refused);
        self.first_refusals.merge(other.first_refusals);
        self.ignored.merge(other.ignored);
    }

    /// Returns the number of refused entries.
    pub(super) fn refused_total(&self) -> u64 {
        self.refused.total()
    }

    /// Returns the number of ignored entries.
    pub(super) fn ignored_total(&self) -> u64 {
        self.ignored.total()
    }

    /// Returns the kinds of ignored entries.
    pub(super) fn ignored_kinds(&self) -> impl Iterator<Item = &str> {
        self.ignored.iter().map(|(kind, _)| kind)
    }

    /// Returns whether no entry is a record, or belongs to one.
    pub(super) fn has_no_records(&self) -> bool {
        self.read == self.refused_total() + self.ignored_total()
    }

    /// Returns a sentence about the first refused entry of each kind.
    pub(super) fn first_refusals(&self) -> Vec<String> {
        self.first_refusals.sentences(&self.refused)
    }

    /// Returns the lines of the table. Indented lines divide the number above them, the most frequent kinds first.
    pub(super) fn text(&self, is_dry_run: bool) -> String {
        let (refused, ignored) = (self.refused.total(), self.ignored.total());
        let mut rows = vec![("read", self.read)];
        if is_dry_run {
            rows.push(("to store", self.to_store));
        } else {
            rows.extend([("stored", self.stored), ("unchanged", self.unchanged)]);
        }
        rows.extend([("refused", refused), ("ignored", ignored)]);
        let width = rows
            .iter()
            .map(|(_, number)| number.to_string().len())
            .max()
            .unwrap_or(1);
        let mut text = String::new();
        for (name, number) in rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:NAME_WIDTH$}{number:>width$}");
            let kinds = match name {
                "refused" => &self.refused,
                "ignored" => &self.ignored,
                _ => continue,
            };
            let mut kinds: Vec<_> = kinds.iter().collect();
            kinds.sort_by_key(|(kind, entries)| (std::cmp::Reverse(*entries), *kind));
            for (kind, entries) in kinds {
                let _ = writeln!(text, "{:NAME_WIDTH$}{entries:>width$}  {kind}", "");
            }
        }
        text
    }
}

/// Returns the name of a file, or a name from a file, without control characters, which could change the terminal.
pub(super) fn shown<'a>(name: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    let name = name.into();
    if name.chars().any(char::is_control) {
        Cow::Owned(name.replace(char::is_control, "?"))
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_form_that_the_guide_shows() {
        let mut table = Table {
            read: 26,
            stored: 19,
            unchanged: 2,
            ..Table::default()
        };
        table.refuse("heart_rate is outside 20 to 250", 1);
        table.ignore("not_worn", 1);
        table.ignore("HKQuantityTypeIdentifierBasalEnergyBurned", 4);
        let expected = "\
read        26
stored      19
unchanged    2
refused      1
             1  heart_rate is outside 20 to 250
ignored      5
             4  HKQuantityTypeIdentifierBasalEnergyBurned
             1  not_worn
";
        assert_eq!(table.text(false), expected);
    }

    #[test]
    fn a_dry_run_says_what_would_be_stored() {
        let mut table = Table {
            read: 1_000_000,
            to_store: 12,
            ..Table::default()
        };
        table.ignore("a\u{1b}[2Jb", 999_990);
        let expected = "\
read        1000000
to store         12
refused           0
ignored      999990
             999990  a?[2Jb
";
        assert_eq!(table.text(true), expected);
    }
}
