//! The first refused entry of each kind, as a sentence: the table only counts them.

use health_core::formats::IgnoredCounts;

/// The kinds that get a sentence. The files of one app have a few; all others are in the table.
const KINDS_MAX: usize = 10;

/// The first refused entry of each kind.
#[derive(Debug, Default, PartialEq)]
pub(super) struct FirstRefusals(Vec<FirstRefusal>);

#[derive(Debug, PartialEq)]
struct FirstRefusal {
    kind: String,
    /// Where it stands and why it is refused, with its value and the remedy.
    sentence: String,
}

impl FirstRefusals {
    /// Keeps the sentence of an entry if it is the first one of its kind.
    pub(super) fn note(&mut self, kind: &str, sentence: impl FnOnce() -> String) {
        if self.0.len() < KINDS_MAX && self.0.iter().all(|first| first.kind != kind) {
            self.0.push(FirstRefusal {
                kind: kind.to_owned(),
                sentence: sentence(),
            });
        }
    }

    /// Adds the entries of another table, which come after these.
    pub(super) fn merge(&mut self, other: Self) {
        for first in other.0 {
            self.note(&first.kind, || first.sentence);
        }
    }

    /// Returns the sentences, with the number of the other entries of each kind.
    pub(super) fn sentences(&self, refused: &IgnoredCounts) -> Vec<String> {
        let of_kind = |kind: &str| refused.iter().find(|(other, _)| *other == kind);
        let mut sentences: Vec<_> = self
            .0
            .iter()
            .map(|FirstRefusal { kind, sentence }| {
                let sentence = sentence.trim_end_matches('.');
                match of_kind(kind).map_or(1, |(_, entries)| entries) {
                    0 | 1 => format!("{sentence}."),
                    2 => format!("{sentence}. One more is refused for the same reason."),
                    entries => format!("{sentence}. {} more are refused for the same reason.", entries - 1),
                }
            })
            .collect();
        let kinds = refused.iter().filter(|(_, entries)| *entries > 0).count();
        if kinds > self.0.len() {
            sentences.push("Entries are refused for further reasons: the table lists all reasons.".to_owned());
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_of_each_kind_is_kept_and_the_number_of_kinds_is_bounded() {
        let (mut first, mut refused) = (FirstRefusals::default(), IgnoredCounts::default());
        for entry in 0..1000 {
            let kind = format!("kind {}", entry % (KINDS_MAX + 5));
            first.note(&kind, || format!("a.csv: line {entry} is refused: x"));
            refused.add(kind, 1);
        }
        let mut all = FirstRefusals::default();
        all.note("kind 1", || "b.csv: line 7 is refused: y.".to_owned());
        refused.add("kind 1", 1);
        all.merge(first);
        let sentences = all.sentences(&refused);
        assert_eq!(sentences.len(), KINDS_MAX + 1);
        assert_eq!(
            sentences[..2],
            [
                "b.csv: line 7 is refused: y. 67 more are refused for the same reason.",
                "a.csv: line 0 is refused: x. 66 more are refused for the same reason."
            ]
        );
        assert!(sentences[KINDS_MAX].contains("further reasons"), "{sentences:?}");
    }
}
