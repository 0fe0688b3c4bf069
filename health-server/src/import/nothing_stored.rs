//! Files that were read to their end, but of which nothing can be stored: without a sentence, nobody would notice.

use super::table::Table;

/// The sentences. A folder of a takeout has hundreds of such files, of a few kinds.
const SENTENCES_MAX: usize = 10;

/// The names of ignored kinds in one sentence.
const KINDS_SHOWN_MAX: usize = 3;

/// The files of which nothing can be stored, those with the same reason together.
#[derive(Debug, Default)]
pub(super) struct NothingStored {
    reasons: Vec<Reason>,
    /// Files with reasons beyond [`SENTENCES_MAX`].
    others: u64,
}

#[derive(Debug)]
struct Reason {
    kinds: String,
    /// The sentence about the first file.
    sentence: String,
    more_files: u64,
}

impl NothingStored {
    /// Keeps a file. `table` counts its entries, of which none is a record, and `remedy` is a sentence.
    pub(super) fn note(&mut self, name: &str, table: &Table, remedy: Option<&'static str>) {
        let kinds = kinds(table);
        if let Some(reason) = self.reasons.iter_mut().find(|reason| reason.kinds == kinds) {
            reason.more_files += 1;
        } else if self.reasons.len() < SENTENCES_MAX {
            let remedy = remedy.map(|remedy| format!(" {remedy}")).unwrap_or_default();
            self.reasons.push(Reason {
                sentence: format!(
                    "{name}: nothing in it can be stored, because {}.{remedy}",
                    why(table, &kinds)
                ),
                kinds,
                more_files: 0,
            });
        } else {
            self.others += 1;
        }
    }

    /// Returns the sentences.
    pub(super) fn sentences(&self) -> Vec<String> {
        let reasons = self.reasons.iter().map(|reason| match reason.more_files {
            0 => reason.sentence.clone(),
            1 => format!("{} The same holds for one more file.", reason.sentence),
            files => format!("{} The same holds for {files} more files.", reason.sentence),
        });
        let others = (self.others > 0).then(|| format!("Nothing can be stored of {} other files.", self.others));
        reasons.chain(others).collect()
    }
}

/// Returns the ignored kinds, or what else is the reason.
fn kinds(table: &Table) -> String {
    if table.ignored_total() == 0 {
        return if table.read == 0 { "no entries" } else { "refused" }.to_owned();
    }
    let mut ignored = table.ignored_kinds();
    let shown: Vec<_> = ignored.by_ref().take(KINDS_SHOWN_MAX).collect();
    let rest = if ignored.next().is_some() { " and others" } else { "" };
    shown.join(", ") + rest
}

fn why(table: &Table, kinds: &str) -> String {
    match (table.read, table.refused_total(), table.ignored_total()) {
        (0, ..) => "it has no entries".to_owned(),
        (read, _, 0) => format!("all of its entries ({read}) are refused"),
        (read, 0, _) => format!("all of its entries ({read}) are of kinds that are not kept: {kinds}"),
        (_, refused, ignored) => {
            format!("of its entries {refused} are refused, and {ignored} are of kinds that are not kept: {kinds}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(kinds: &[&'static str]) -> Table {
        let mut table = Table::default();
        for kind in kinds {
            table.read += 60;
            table.ignore(*kind, 60);
        }
        table
    }

    #[test]
    fn files_with_the_same_reason_share_a_sentence() {
        let mut files = NothingStored::default();
        files.note("calories-1.json", &ignored(&["calories"]), None);
        files.note("walk.json", &ignored(&["walk"]), Some("Rename it."));
        files.note("calories-2.json", &ignored(&["calories"]), None);
        files.note("a.xml", &ignored(&["a", "b", "c", "d"]), None);
        files.note("empty.csv", &Table::default(), None);
        let mut refused = Table::default();
        refused.read = 2;
        refused.refuse("Time is not a time", 2);
        files.note("walk.tcx", &refused, None);
        assert_eq!(
            files.sentences(),
            [
                "calories-1.json: nothing in it can be stored, because all of its entries (60) are of kinds that are not kept: \
                 calories. The same holds for one more file.",
                "walk.json: nothing in it can be stored, because all of its entries (60) are of kinds that are not kept: walk. \
                 Rename it.",
                "a.xml: nothing in it can be stored, because all of its entries (240) are of kinds that are not kept: a, b, c \
                 and others.",
                "empty.csv: nothing in it can be stored, because it has no entries.",
                "walk.tcx: nothing in it can be stored, because all of its entries (2) are refused.",
            ]
        );
    }

    #[test]
    fn the_number_of_sentences_is_bounded() {
        const KINDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let mut files = NothingStored::default();
        for kind in KINDS {
            files.note("x", &ignored(&[kind]), None);
        }
        let sentences = files.sentences();
        assert_eq!(sentences.len(), SENTENCES_MAX + 1);
        assert_eq!(sentences[SENTENCES_MAX], "Nothing can be stored of 2 other files.");
    }
}
