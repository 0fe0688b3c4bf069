//! Small files of each device that the pages import.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::Path,
};

use test_support::{
    FitFile,
    FitValue::{U8, U16, U32},
};
use zip::{ZipWriter, write::SimpleFileOptions};

const APPLE: &str = "<?xml version=\"1.0\"?><HealthData><Record type=\"HKQuantityTypeIdentifierHeartRate\" sourceName=\"watch\" \
    unit=\"count/min\" startDate=\"2025-03-03 09:00:00 +0100\" endDate=\"2025-03-03 09:00:00 +0100\" value=\"61\"/></HealthData>";

const TCX: &str = "<TrainingCenterDatabase><Activities><Activity><Lap StartTime=\"2025-03-03T09:00:00Z\">\
    <TotalTimeSeconds>2400</TotalTimeSeconds><Calories>9</Calories></Lap></Activity></Activities></TrainingCenterDatabase>";

const HEALTH_AUTO_EXPORT: &str = "{\"data\":{\"metrics\":[{\"name\":\"step_count\",\"units\":\"count\",\"data\":[\
    {\"date\":\"2025-03-03 09:00:00 +0000\",\"qty\":7}]}]}}";

const FITBIT_STEPS: &str = "[{\"dateTime\":\"01/01/24 09:00:00\",\"value\":\"12\"}]";

const FITBIT_HEART_RATES: &str = "[{\"dateTime\":\"01/01/24 09:00:00\",\"value\":{\"bpm\":61,\"confidence\":3}}]";

/// Writes the files under the names that README.md and docs/import.md give.
pub(crate) fn write(home: &Path) {
    let fit = FitFile::default()
        .message(0, &[(1, U16(1)), (2, U16(2697))])
        .message(20, &[(253, U32(1_109_926_800)), (3, U8(61))])
        .finish();
    let takeout = zipped(&[
        ("Fitbit/Global Export Data/steps-2024-01-01.json", FITBIT_STEPS),
        (
            "Fitbit/Global Export Data/heart_rate-2024-01-01.json",
            FITBIT_HEART_RATES,
        ),
    ]);
    fs::create_dir_all(home.join("GARMIN/Activity")).unwrap();
    fs::create_dir_all(home.join("GARMIN/Monitor")).unwrap();
    for (name, content) in [
        ("activity.fit", fit.as_slice()),
        ("GARMIN/Activity/1.fit", &fit),
        ("GARMIN/Monitor/M1.FIT", &fit),
        ("export.zip", &zipped(&[("apple_health_export/export.xml", APPLE)])),
        ("activity.tcx", TCX.as_bytes()),
        ("HealthAutoExport.json", HEALTH_AUTO_EXPORT.as_bytes()),
        ("takeout.zip", &takeout),
        ("heart_rate-2024-01-01.json", FITBIT_HEART_RATES.as_bytes()),
        ("steps-2024-01-01.json", FITBIT_STEPS.as_bytes()),
    ] {
        fs::write(home.join(name), content).unwrap();
    }
}

fn zipped(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
