//! The command `import`: files of each format, archives, damaged files, and servers that answer badly.

use std::{
    io::{Cursor, Write},
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use health_core::{Config, access::TokenAdmin, token::NewToken};
use test_support::{
    FitFile,
    FitValue::{U8, U16, U32},
    Signal, TestProcess, test_directory,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::{program::health_server, support::Server};

/// Longer than any import here takes, so that a test that waits in vain fails.
const TIMEOUT: Duration = Duration::from_mins(1);

const CSV: &str = "user_id,timestamp,end,heart_rate,steps,source\n\
    5,2025-03-03T08:00:00Z,,61,,watch\n,2025-03-03T09:00:00Z,2025-03-03T09:40:00Z,,100,phone\n5,yesterday,,70,,\n";

const NDJSON: &str = "{\"user_id\":50,\"timestamp\":\"2025-03-03T08:00:00Z\",\"heart_rate\":61,\"source\":\"watch\"}\n\
    \n{\"timestamp\":\"2025-03-03T09:00:00Z\",\"end\":\"2025-03-03T09:40:00Z\",\"steps\":100,\"source\":\"phone\"}\nnot json\n";

const APPLE: &str = "<?xml version=\"1.0\"?><HealthData><ExportDate value=\"2025-03-04\"/>\
    <Record type=\"HKQuantityTypeIdentifierHeartRate\" sourceName=\"watch\" unit=\"count/min\" \
    startDate=\"2025-03-03 09:00:00 +0100\" endDate=\"2025-03-03 09:00:00 +0100\" value=\"61\"/>\
    <Record type=\"HKQuantityTypeIdentifierStepCount\" sourceName=\"phone\" unit=\"count\" \
    startDate=\"2025-03-03 10:00:00 +0100\" endDate=\"2025-03-03 10:40:00 +0100\" value=\"100\"/>\
    <Record type=\"HKQuantityTypeIdentifierHeartRate\" unit=\"count/min\" startDate=\"2025-03-03 09:00:00 +0100\" value=\"300\"/>\
    <Workout/></HealthData>";

const TCX: &str = "<TrainingCenterDatabase><Activities><Activity><Lap StartTime=\"2025-03-03T09:00:00Z\">\
    <TotalTimeSeconds>2400</TotalTimeSeconds><Calories>9</Calories><Track><Trackpoint><Time>2025-03-03T08:00:00Z</Time>\
    <HeartRateBpm><Value>61</Value></HeartRateBpm></Trackpoint></Track></Lap></Activity></Activities></TrainingCenterDatabase>";

const FITBIT_STEPS: &str = "[{\"dateTime\":\"03/03/25 09:00:00\",\"value\":\"12\"}]";

const HEALTH_AUTO_EXPORT: &str = "{\"data\":{\"metrics\":[{\"name\":\"step_count\",\"units\":\"count\",\"data\":[\
    {\"date\":\"2025-03-03 09:00:00 +0000\",\"qty\":7}]},{\"name\":\"sleep_analysis\",\"data\":[{}]}]}}";

/// A run of `import` with the contact to a server.
async fn run(server: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = health_server(&["import"]);
    command.args(arguments).env_remove("HEALTH_TOKEN");
    if !arguments.contains(&"--server") {
        command.arg("--server").arg(format!("http://{server}"));
    }
    timeout(TIMEOUT, command.output())
        .await
        .expect("an end in time")
        .unwrap()
}

/// Writes a file. Returns its path.
fn file(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn gzipped(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.add_directory("folder/", SimpleFileOptions::default()).unwrap();
    for (name, content) in entries {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Marks the last entry of an archive as one that needs a password.
fn with_password(mut archive: Vec<u8>) -> Vec<u8> {
    for (header, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let last = archive.windows(4).rposition(|bytes| bytes == header).unwrap();
        archive[last + flags] |= 1;
    }
    archive
}

/// A walk: one heart rate, and a session of 40 minutes.
fn fit() -> Vec<u8> {
    const START: u32 = 1_109_926_800; // 2025-03-03T09:00:00Z
    FitFile::default()
        .message(0, &[(1, U16(1)), (2, U16(2697))])
        .message(20, &[(253, U32(START)), (3, U8(61))])
        .message(
            18,
            &[
                (2, U32(START)),
                (7, U32(2_400_000)),
                (5, U8(11)),
                (10, U32(50)),
                (11, U16(9)),
            ],
        )
        .finish()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Returns the table of an import without kinds: read, stored, unchanged, refused, ignored.
fn numbers(output: &Output) -> Vec<u64> {
    let table = stdout(output);
    let rows = table.lines().filter(|line| !line.starts_with(' '));
    rows.map(|row| row.split_whitespace().next_back().unwrap().parse().unwrap())
        .collect()
}

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
async fn wrong_usage_ends_with_status_2_before_anything_is_read() {
    let directory = test_directory();
    let (walk, own) = (
        file(directory.path(), "walk.fit", fit()),
        file(directory.path(), "own.csv", CSV),
    );
    let (walk, own) = (walk.as_str(), own.as_str());
    let nobody = file(
        directory.path(),
        "nobody.csv",
        "timestamp,steps\n2025-03-03T08:00:00Z,4\n",
    );
    let nobody = nobody.as_str();
    let nowhere = "127.0.0.1:1".parse().unwrap();
    for (arguments, expected) in [
        (&[][..], "Usage: health-server import [OPTIONS] <FILE>..."),
        (&[walk], "walk.fit names no user: add --user N"),
        (&[nobody], "nobody.csv names no user: add --user N"),
        (&["--user", "0", walk], "write the number of a user"),
        (&["--user", "5", "--tz", "Berlin", walk], "Europe/Berlin"),
        (
            &["--user", "5", "--server", "localhost", walk],
            "is not the URL of a server",
        ),
        (
            &[
                "--user",
                "5",
                "--server",
                "http://health.example",
                "--token",
                "hlt_x",
                walk,
            ],
            "plain text",
        ),
        (&["--ca", "/nonexistent", "--server", "https://localhost", own], "--ca"),
        (
            &["--server", "http://127.0.0.1:1/ingest", own],
            "write --server http://127.0.0.1:1.",
        ),
    ] {
        let output = run(nowhere, arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty() && !stderr(&output).contains("hlt_x"));
    }
    // A file whose records name their users needs none.
    let output = run(nowhere, &["--dry-run", own]).await;
    assert_eq!(numbers(&output), [3, 1, 2, 0], "{}", stdout(&output));
}

#[tokio::test]
async fn a_server_that_requires_a_token_gets_it_and_says_what_is_missing() {
    let server = Server::start().await;
    let directory = test_directory();
    let path = file(directory.path(), "own.csv", CSV);
    let mut admin = TokenAdmin::connect(&Config::from_url(server.database.url()).unwrap())
        .await
        .unwrap();
    let token = NewToken {
        name: "import".parse().unwrap(),
        scopes: "ingest".parse().unwrap(),
        users: Some([health_core::UserId::new(5).unwrap()].into()),
        valid_for: None,
    };
    let secret = admin.create(&token).await.unwrap();
    // A running server notices the first token a little later.
    let output = loop {
        let output = run(server.http, &["--user", "6", &path]).await;
        if !output.status.success() {
            break output;
        }
    };
    assert_eq!(output.status.code(), Some(1));
    let creates = "On the server's machine, `health-server token create --name import-5 --scope ingest --users 5,6` prints one; \
        pass it on in the variable HEALTH_TOKEN, or use --token-file. Nothing was stored.\n";
    let text = stderr(&output);
    assert!(
        text.contains(" needs an API token. ") && text.ends_with(creates),
        "{text}"
    );
    assert!(!text.contains("Bearer"), "{text}");
    let wrong = format!("{}x", secret.as_str());
    let output = run(server.http, &["--user", "6", "--token", &wrong, &path]).await;
    let text = stderr(&output);
    assert!(
        text.contains(" does not accept the API token: it is mistyped") && text.ends_with(creates),
        "{text}"
    );
    assert!(output.status.code() == Some(1) && !text.contains("Bearer"), "{text}");
    let other = file(
        directory.path(),
        "other.csv",
        "timestamp,steps\n2025-03-03T08:00:00Z,4\n",
    );
    let output = run(server.http, &["--user", "6", "--token", secret.as_str(), &other]).await;
    let text = stderr(&output);
    assert!(
        output.status.code() == Some(1)
            && text.contains("does not let this API token store records of user 6: ")
            && text.contains("`health-server token create --name import-6 --scope ingest --users 6`"),
        "{text}"
    );
    let output = run(server.http, &["--user", "6", "--token", secret.as_str(), &path]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // The record of user 6 is one that the token may not write.
    assert!(
        stdout(&output).contains("1  user_id is not allowed"),
        "{}",
        stdout(&output)
    );
    let text = stderr(&output);
    assert!(
        text.contains("own.csv: line 3 is refused by the server: user_id is not allowed")
            && text.contains("Use a token that may write user 6. On the server's machine, `health-server token create"),
        "{text}"
    );
}

/// An answer of a scripted server: status, further headers, and body. `None` closes the connection.
type ScriptedAnswer = Option<(u16, &'static str, &'static str)>;

/// Starts a server that gives these answers, one for each connection. Returns its address and the bodies that it gets.
async fn scripted_server(answers: Vec<ScriptedAnswer>) -> (SocketAddr, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bodies = tokio::spawn(async move {
        let mut bodies = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            bodies.push(read_request(&mut stream).await);
            if let Some((status, headers, body)) = answer {
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
                );
                stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
            }
        }
        bodies
    });
    (address, bodies)
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> String {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn overload_and_lost_connections_are_retried_and_what_was_stored_meanwhile_is_counted() {
    // The second attempt fails after three of the five samples were stored.
    let away = r#"{"type":"about:blank","title":"t","status":503,"detail":"The database is away.",
        "accepted":3,"inserted":2,"updated":1,"unchanged":0}"#;
    let (address, bodies) = scripted_server(vec![
        None,
        Some((503, "retry-after: 0\r\n", away)),
        Some((429, "", "")),
        Some((200, "", r#"{"accepted":5,"inserted":1,"updated":0,"unchanged":4}"#)),
    ])
    .await;
    let directory = test_directory();
    let path = file(directory.path(), "own.csv", CSV);
    let output = run(address, &["--user", "5", &path]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(numbers(&output), [3, 4, 1, 1, 0], "{}", stdout(&output));
    assert_eq!(
        stderr(&output).matches("Waiting up to").count(),
        1,
        "one sentence for one outage: {}",
        stderr(&output)
    );
    let bodies = bodies.await.unwrap();
    assert!(
        bodies
            .iter()
            .all(|body| *body == bodies[0] && body.lines().count() == 2),
        "{bodies:?}"
    );
}

#[tokio::test]
async fn something_else_than_a_server_of_ours_ends_the_import_with_status_1() {
    let directory = test_directory();
    let path = file(directory.path(), "own.csv", CSV);
    for status in [404, 200] {
        let (address, _) = scripted_server(vec![Some((status, "", "hello"))]).await;
        let output = run(address, &["--user", "5", &path]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("Check --server"), "{}", stderr(&output));
        assert_eq!(numbers(&output), [3, 0, 0, 1, 0]);
    }
    // Below a path, the URL may be that of an endpoint.
    let (address, _) = scripted_server(vec![Some((404, "", "hello"))]).await;
    let output = run(
        address,
        &["--user", "5", "--server", &format!("http://{address}/health"), &path],
    )
    .await;
    let expected = format!("unless a proxy adds a path, write http://{address} alone");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[tokio::test]
async fn the_port_of_the_feed_and_one_without_tls_end_the_import_at_once_with_the_url_to_write() {
    let server = Server::start().await;
    let directory = test_directory();
    let path = file(directory.path(), "own.csv", CSV);
    let output = run(
        server.http,
        &["--user", "5", "--server", &format!("http://{}", server.feed), &path],
    )
    .await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!("{} does not speak HTTP", server.feed))
            && text.contains("(port 8000 by default)")
            && text.ends_with(". Nothing was stored.\n")
            && !text.contains("Waiting"),
        "{text}"
    );
    let (http, feed) = (server.http, "--feed");
    let output = run(http, &["--user", "5", "--server", &format!("https://{http}"), &path]).await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!("http://{http} in --server. Nothing was stored.\n")) && !text.contains(feed),
        "{text}"
    );
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

/// Starts an import of its standard input that has sent this much, whose sender has the contact to a server.
fn import_of_stdin(server: SocketAddr) -> TestProcess {
    let mut command = health_server(&["import", "--user", "5", "/dev/stdin"]);
    command
        .arg("--server")
        .arg(format!("http://{server}"))
        .env_remove("HEALTH_TOKEN")
        .stderr(Stdio::piped());
    TestProcess::start(command)
}

#[tokio::test]
async fn an_interrupt_prints_the_table_and_what_to_do_next_with_status_1() {
    // Nobody accepts, so the import waits until it is interrupted.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut import = import_of_stdin(listener.local_addr().unwrap());
    // More than a batch, so that a request is on its way.
    let row = "5,2025-03-03T08:00:00Z,70\n";
    let rows = row.repeat((3 << 20) / row.len());
    let stdin = import.child().stdin.as_mut().unwrap();
    stdin.write_all(b"user_id,timestamp,heart_rate\n").await.unwrap();
    stdin.write_all(rows.as_bytes()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    import.signal(Signal::INT);
    let mut lines = BufReader::new(import.child().stderr.take().unwrap()).lines();
    let line = timeout(TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(
        line.ends_with("Waiting for the server's last answer; Ctrl-C again ends without it."),
        "{line}"
    );
    import.signal(Signal::INT);
    let line = timeout(TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(
        line.contains("it may have stored more than the table says. Run the same command again"),
        "{line}"
    );
    let table = import.rest_of_output().await;
    assert!(
        table.contains("\nstored") && !table.starts_with("read        0\n"),
        "{table}"
    );
    assert_eq!(import.wait().await.code(), Some(1));
    drop(stream);
}

#[tokio::test]
async fn an_interrupt_waits_for_the_answer_of_the_server_and_counts_it() {
    let server = Server::start().await;
    let mut import = import_of_stdin(server.http);
    let row = |second: usize| {
        format!(
            "5,2025-03-03T{:02}:{:02}:{:02}Z,70\n",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    };
    let rows: String = (0..60_000).map(row).collect();
    let stdin = import.child().stdin.as_mut().unwrap();
    stdin.write_all(b"user_id,timestamp,heart_rate\n").await.unwrap();
    stdin.write_all(rows.as_bytes()).await.unwrap();
    while server.samples(5).await == 0 {
        tokio::task::yield_now().await;
    }
    import.signal(Signal::INT);
    // Its standard input stays open, so only the interrupt ends it.
    let table = import.rest_of_output().await;
    assert_eq!(import.wait().await.code(), Some(1));
    let stored = table.lines().find_map(|line| line.strip_prefix("stored")).unwrap();
    assert_eq!(stored.trim().parse(), Ok(server.samples(5).await), "{table}");
}
