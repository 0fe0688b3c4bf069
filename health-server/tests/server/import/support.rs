//! Runs of `import`, and the files that tests give it.

use std::{
    io::{Cursor, Write},
    net::SocketAddr,
    path::Path,
    process::Output,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use test_support::{
    FitFile,
    FitValue::{U8, U16, U32},
};
use tokio::time::timeout;
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::program::health_server;

/// Longer than any import here takes on a busy machine, so that a test that waits in vain fails.
pub(super) const TIMEOUT: Duration = Duration::from_mins(3);

pub(super) const CSV: &str = "user_id,timestamp,end,heart_rate,steps,source\n\
    5,2025-03-03T08:00:00Z,,61,,watch\n,2025-03-03T09:00:00Z,2025-03-03T09:40:00Z,,100,phone\n5,yesterday,,70,,\n";

pub(super) const NDJSON: &str = "{\"user_id\":50,\"timestamp\":\"2025-03-03T08:00:00Z\",\"heart_rate\":61,\"source\":\"watch\"}\n\
    \n{\"timestamp\":\"2025-03-03T09:00:00Z\",\"end\":\"2025-03-03T09:40:00Z\",\"steps\":100,\"source\":\"phone\"}\nnot json\n";

pub(super) const APPLE: &str = "<?xml version=\"1.0\"?><HealthData><ExportDate value=\"2025-03-04\"/>\
    <Record type=\"HKQuantityTypeIdentifierHeartRate\" sourceName=\"watch\" unit=\"count/min\" \
    startDate=\"2025-03-03 09:00:00 +0100\" endDate=\"2025-03-03 09:00:00 +0100\" value=\"61\"/>\
    <Record type=\"HKQuantityTypeIdentifierStepCount\" sourceName=\"phone\" unit=\"count\" \
    startDate=\"2025-03-03 10:00:00 +0100\" endDate=\"2025-03-03 10:40:00 +0100\" value=\"100\"/>\
    <Record type=\"HKQuantityTypeIdentifierHeartRate\" unit=\"count/min\" startDate=\"2025-03-03 09:00:00 +0100\" value=\"300\"/>\
    <Workout/></HealthData>";

pub(super) const TCX: &str = "<TrainingCenterDatabase><Activities><Activity><Lap StartTime=\"2025-03-03T09:00:00Z\">\
    <TotalTimeSeconds>2400</TotalTimeSeconds><Calories>9</Calories><Track><Trackpoint><Time>2025-03-03T08:00:00Z</Time>\
    <HeartRateBpm><Value>61</Value></HeartRateBpm></Trackpoint></Track></Lap></Activity></Activities></TrainingCenterDatabase>";

pub(super) const FITBIT_STEPS: &str = "[{\"dateTime\":\"03/03/25 09:00:00\",\"value\":\"12\"}]";

pub(super) const HEALTH_AUTO_EXPORT: &str = "{\"data\":{\"metrics\":[{\"name\":\"step_count\",\"units\":\"count\",\"data\":[\
    {\"date\":\"2025-03-03 09:00:00 +0000\",\"qty\":7}]},{\"name\":\"sleep_analysis\",\"data\":[{}]}]}}";

/// A run of `import` with the contact to a server.
pub(super) async fn run(server: SocketAddr, arguments: &[&str]) -> Output {
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
pub(super) fn file(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

pub(super) fn gzipped(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.add_directory("folder/", SimpleFileOptions::default()).unwrap();
    for (name, content) in entries {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A walk: one heart rate, and a session of 40 minutes.
pub(super) fn fit() -> Vec<u8> {
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

pub(super) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(super) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Returns the table of an import without kinds: read, stored, unchanged, refused, ignored.
pub(super) fn numbers(output: &Output) -> Vec<u64> {
    let table = stdout(output);
    let rows = table.lines().filter(|line| !line.starts_with(' '));
    rows.map(|row| row.split_whitespace().next_back().unwrap().parse().unwrap())
        .collect()
}
