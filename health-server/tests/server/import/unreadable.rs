//! Files that are damaged, of no known format, or without anything to store: each gets a sentence.

use test_support::test_directory;

use super::support::{APPLE, CSV, FITBIT_STEPS, TCX, file, fit, numbers, run, stderr, stdout, zipped};
use crate::support::Server;

/// Marks the last entry of an archive as one that needs a password.
fn with_password(mut archive: Vec<u8>) -> Vec<u8> {
    for (header, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let last = archive.windows(4).rposition(|bytes| bytes == header).unwrap();
        archive[last + flags] |= 1;
    }
    archive
}

#[tokio::test]
async fn a_file_that_is_damaged_or_unknown_is_named_and_the_others_are_stored() {
    let server = Server::start().await;
    let directory = test_directory();
    let path = |name: &str, content: &[u8]| file(directory.path(), name, content);
    let fit = fit();
    let cut = path("cut.fit", &fit[..fit.len() - 12]);
    let half = &APPLE.as_bytes()[..APPLE.find("<Workout").unwrap()];
    let damaged = path(
        "damaged.zip",
        &zipped(&[("half.xml", half), ("folder/own.csv", CSV.as_bytes())]),
    );
    let text = path("notes\u{1b}.txt", b"hello");
    let columns = path(
        "columns.csv",
        b"user_id,timestamp,hart_rate\n5,2025-03-03T08:00:00Z,70\n",
    );
    let empty = path("empty", b"");
    let wide: Vec<u8> = "\u{feff}user_id,steps\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let wide = path("wide.csv", &wide);
    let semicolons = path("semicolons.csv", b"user_id;timestamp;steps\n");
    let none = path("none.zip", &zipped(&[]));
    let locked = path("locked.zip", &with_password(zipped(&[("own.csv", CSV.as_bytes())])));
    let whole = path("whole.csv", CSV.as_bytes());
    let missing = directory.path().join("missing.fit");
    let missing = missing.to_str().unwrap();
    let folder = directory.path().to_str().unwrap();
    let files: [&str; 12] = [
        &cut,
        &damaged,
        &text,
        &columns,
        &empty,
        &wide,
        &semicolons,
        &none,
        &locked,
        missing,
        folder,
        &whole,
    ];
    let output = run(server.http, &[&["--user", "9"][..], &files].concat()).await;
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<_> = stderr(&output).lines().map(str::to_owned).collect();
    for (line, expected) in lines.iter().zip([
        "cut.fit breaks off",
        "damaged.zip: half.xml breaks off",
        "notes?.txt is of no format",
        "columns.csv has the column \"hart_rate\"",
        "empty is empty. Export it again",
        "wide.csv is UTF-16 text. Save it as UTF-8",
        "semicolons.csv has columns that are separated by semicolons",
        "none.zip is empty",
        "locked.zip: own.csv cannot be read: Password required",
        "missing.fit does not exist. Check the name",
        "is a directory. Name the files in it",
        "half.xml: Record number 3 is refused: value 300",
        "folder/own.csv: line 4 is refused: timestamp \"yesterday\"",
    ]) {
        assert!(
            line.starts_with("health-server import: ") && line.contains(expected),
            "{line}"
        );
    }
    assert_eq!(lines.len(), 13, "{lines:#?}");
    // 1 of cut.fit and 4 of half.xml are new. Of the tables, only the record of user 5 is.
    assert_eq!(numbers(&output), [10, 6, 7, 3, 0], "{}", stdout(&output));
    assert_eq!((server.samples(9).await, server.samples(5).await), (5, 1));
}

#[tokio::test]
async fn a_file_of_which_nothing_can_be_stored_gets_a_sentence_with_the_reason_and_the_remedy() {
    let directory = test_directory();
    let path = |name: &str, content: &[u8]| file(directory.path(), name, content);
    let fitbit = FITBIT_STEPS.as_bytes();
    let files = [
        path("calories-2025-03-03.json", fitbit),
        path("calories-2025-03-04.json", fitbit),
        path("walk.json", fitbit),
        path("empty.csv", b"user_id,timestamp,steps\n"),
        path("local.tcx", TCX.replace('Z', "").as_bytes()),
    ];
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let mut arguments = vec!["--dry-run", "--user", "5"];
    arguments.extend(files.iter().map(String::as_str));
    let output = run(nowhere, &arguments).await;
    assert_eq!(output.status.code(), Some(0));
    let text = stderr(&output);
    let expected = [
        "local.tcx: Trackpoint number 1 is refused: Time \"2025-03-03T08:00:00\" has no offset: name its zone with --tz, such as \
         --tz Europe/Berlin.",
        "local.tcx: Lap number 1 is refused: StartTime \"2025-03-03T09:00:00\" has no offset",
        "calories-2025-03-03.json: nothing in it can be stored, because all of its entries (1) are of kinds that are not kept: \
         calories. The same holds for one more file.",
        "walk.json: nothing in it can be stored, because all of its entries (1) are of kinds that are not kept: walk. Only the \
         name tells the kind of a Fitbit file: if this one has steps, rename it to steps-DATE.json.",
        "empty.csv: nothing in it can be stored, because it has no entries.",
        "local.tcx: nothing in it can be stored, because all of its entries (2) are refused.",
    ];
    assert_eq!(text.lines().count(), expected.len(), "{text}");
    for (line, expected) in text.lines().zip(expected) {
        assert!(line.contains(expected), "{line}");
    }
}

#[tokio::test]
async fn an_archive_in_an_archive_is_named_and_one_with_nothing_else_is_a_file_that_was_not_read() {
    let directory = test_directory();
    let inner = zipped(&[("own.csv", CSV.as_bytes())]);
    let nested = file(
        directory.path(),
        "nested.zip",
        zipped(&[("inner.zip", &inner), ("a.jpg", b"\xff\xd8")]),
    );
    let mixed = zipped(&[("inner.zip", &inner), ("own.csv", CSV.as_bytes())]);
    let mixed = file(directory.path(), "mixed.zip", mixed);
    let photos = file(directory.path(), "photos.zip", zipped(&[("a.jpg", b"\xff\xd8")]));
    let cut = file(directory.path(), "cut.zip", &inner[..inner.len() - 30]);
    let nowhere = "127.0.0.1:1".parse().unwrap();
    for (path, status, expected) in [
        (
            &nested,
            1,
            "nested.zip has nothing that import reads: its 2 files are of other formats. inner.zip is an archive in the \
             archive: unpack the outer one, and import the inner one.",
        ),
        (
            &photos,
            1,
            "photos.zip has nothing that import reads: its only file is of other formats. docs/import.md says",
        ),
        (
            &mixed,
            0,
            "mixed.zip: inner.zip is an archive in the archive, which was not read. Unpack the outer one",
        ),
        (
            &cut,
            1,
            "cut.zip is no whole ZIP archive: its list of files is missing or damaged. Download",
        ),
    ] {
        let output = run(nowhere, &["--dry-run", "--user", "5", path]).await;
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
