//! Files of each format: what is stored, and what the table counts.

use test_support::test_directory;

use super::support::{
    APPLE, CSV, FITBIT_STEPS, HEALTH_AUTO_EXPORT, NDJSON, TCX, file, fit, gzipped, numbers, run, stderr, stdout, zipped,
};
use crate::support::Server;

#[tokio::test]
async fn files_of_each_format_are_stored_once_however_often_they_are_imported() {
    let server = Server::start().await;
    let directory = test_directory();
    let steps_in_gzip = gzipped(FITBIT_STEPS.as_bytes());
    let archive = zipped(&[
        ("a/Exportieren.xml", APPLE.as_bytes()),
        ("a/export_cda.xml", b"<ClinicalDocument/>"),
        ("a/photo.jpg", b"\xff\xd8\xff"),
    ]);
    for (user, name, content, first, second) in [
        (1, "own.csv", CSV.as_bytes(), [3, 4, 0, 1, 0], [3, 0, 4, 1, 0]),
        (2, "own.ndjson", NDJSON.as_bytes(), [3, 4, 0, 1, 0], [3, 0, 4, 1, 0]),
        (3, "export.xml", APPLE.as_bytes(), [4, 4, 0, 1, 1], [4, 0, 4, 1, 1]),
        (4, "walk.fit", &fit(), [2, 4, 0, 0, 0], [2, 0, 4, 0, 0]),
        (5, "lap.tcx", TCX.as_bytes(), [2, 4, 0, 0, 0], [2, 0, 4, 0, 0]),
        (
            6,
            "steps-2025-03-03.json",
            FITBIT_STEPS.as_bytes(),
            [1, 1, 0, 0, 0],
            [1, 0, 1, 0, 0],
        ),
        (
            7,
            "steps-2025-03-03.json.gz",
            &steps_in_gzip,
            [1, 1, 0, 0, 0],
            [1, 0, 1, 0, 0],
        ),
        (
            9,
            "HealthAutoExport.json",
            HEALTH_AUTO_EXPORT.as_bytes(),
            [2, 1, 0, 0, 1],
            [2, 0, 1, 0, 1],
        ),
        (8, "export.zip", &archive, [6, 4, 0, 1, 3], [6, 0, 4, 1, 3]),
    ] {
        let path = file(directory.path(), name, content);
        let user = user.to_string();
        let output = run(server.http, &["--user", &user, &path]).await;
        let sentences = u64::try_from(stderr(&output).lines().count()).unwrap();
        assert_eq!(
            (output.status.code(), sentences),
            (Some(0), first[3]),
            "{name}: {}",
            stderr(&output)
        );
        assert_eq!(numbers(&output), first, "{name}: {}", stdout(&output));
        let output = run(server.http, &["--user", &user, &path]).await;
        assert_eq!(numbers(&output), second, "{name}: {}", stdout(&output));
    }
}

#[tokio::test]
async fn the_totals_of_a_format_are_those_of_its_file() {
    let server = Server::start().await;
    let directory = test_directory();
    let walk = file(directory.path(), "walk.fit", fit());
    let output = run(server.http, &["--user", "7", "--source", "my watch", &walk]).await;
    assert_eq!(output.status.code(), Some(0));
    let path = "/metrics?user_id=7&start=2025-03-03T09:00:00Z&end=2025-03-03T10:00:00Z";
    let stats = server.get(path).await.json();
    assert_eq!(stats["total_steps"], 100);
    assert_eq!(stats["total_calories"], 9.0);
    assert_eq!(stats["average_heart_rate"], 61.0);
    assert_eq!(stats["sources"][0]["source"], "my watch");
}

#[tokio::test]
async fn the_table_counts_refused_entries_by_reason_and_ignored_ones_by_kind() {
    let directory = test_directory();
    let (csv, export) = (
        file(directory.path(), "a.csv", CSV),
        file(directory.path(), "b.xml", APPLE),
    );
    // No server listens there, and none is needed.
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let output = run(nowhere, &["--dry-run", "--user", "5", &csv, &export]).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stderr(&output),
        format!(
            "health-server import: {csv}: line 4 is refused: timestamp \"yesterday\" is not a time of RFC 3339: write it like \
             2025-03-02T18:00:00Z or 2025-03-02T19:00:00.5+01:00.\n\
             health-server import: {export}: Record number 3 is refused: value 300 is not between 20 and 250 beats per minute.\n"
        )
    );
    let expected = "\
read        7
to store    8
refused     2
            1  timestamp is not a time with an offset
            1  value is outside 20 to 250
ignored     1
            1  Workout
";
    assert_eq!(stdout(&output), expected);
}
