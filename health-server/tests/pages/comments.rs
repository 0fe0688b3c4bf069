//! Comments are as wide as the code at most, so that two files fit beside each other on a screen.

use crate::{read, root, source_files};

/// `max_width` in `rustfmt.toml`.
const WIDTH_MAX: usize = 120;

/// Returns what begins a line that is a comment, by the ending of the file.
fn markers(path: &str) -> &'static [&'static str] {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("rs" | "js") => &["//", "/*", "* "],
        Some("sh") => &["#"],
        // A migration that was applied is never edited.
        Some("sql") if !path.starts_with("migrations/") => &["--"],
        None if path == "fuzz/run" || path.starts_with("script/") || path.starts_with(".ci/") => &["#"],
        _ => &[],
    }
}

#[test]
fn no_comment_is_wider_than_the_code() {
    assert!(read("rustfmt.toml").contains(&format!("max_width = {WIDTH_MAX}\n")));
    let mut comments = 0;
    let mut wide = Vec::new();
    for path in source_files(&root()) {
        let markers = markers(&path);
        if markers.is_empty() {
            continue;
        }
        for (number, line) in (1..).zip(read(&path).lines()) {
            let text = line.trim_start();
            // A row of a table has one line.
            let is_row = text.trim_start_matches(['/', '!']).starts_with(" |");
            if !markers.iter().any(|marker| text.starts_with(marker)) || is_row {
                continue;
            }
            comments += 1;
            if line.chars().count() > WIDTH_MAX {
                wide.push(format!("{path}:{number}"));
            }
        }
    }
    assert!(comments > 5_000, "{comments} lines");
    assert!(wide.is_empty(), "comments of more than {WIDTH_MAX} columns: {wide:#?}");
}
