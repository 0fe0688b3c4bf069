//! The systemd units: valid, hardened, and of one text where they agree.

use std::{fs, process::Command};

use tempfile::TempDir;

use crate::read;

const UNITS: [&str; 2] = ["health-server.service", "health-server-external.service"];

/// The highest exposure that is accepted, on a scale from 0 (best) to 10.
const EXPOSURE_MAX: f64 = 2.0;

/// Writes a unit whose program exists on this machine.
fn unit_with_program(directory: &TempDir, unit: &str) -> std::path::PathBuf {
    let text = read(&format!("ops/systemd/{unit}"));
    assert!(text.contains("ExecStart=/usr/bin/health-server "), "{unit}");
    let path = directory.path().join(unit);
    let program = env!("CARGO_BIN_EXE_health-server");
    fs::write(&path, text.replace("/usr/bin/health-server", program)).unwrap();
    path
}

#[test]
fn systemd_accepts_the_units_and_finds_them_hardened() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let path = unit_with_program(&directory, unit);
        let analyze = |arguments: &[&str]| {
            let output = Command::new("systemd-analyze")
                .args(arguments)
                .arg(&path)
                .output()
                .unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8(text).unwrap())
        };
        let (is_valid, complaints) = analyze(&["verify", "--man=no"]);
        let of_this_unit: Vec<_> = complaints.lines().filter(|line| line.contains(unit)).collect();
        assert!(is_valid && of_this_unit.is_empty(), "{unit}: {complaints}");
        let (_, report) = analyze(&["security", "--offline=true", "--no-pager"]);
        let level = report
            .split_once("Overall exposure level for ")
            .and_then(|(_, rest)| rest.split_once(": "))
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok());
        let level = level.unwrap_or_else(|| panic!("{unit}: no exposure level in {report}"));
        assert!(level <= EXPOSURE_MAX, "{unit} has the exposure {level}");
    }
}

/// What a unit must not lose, whoever edits it.
#[test]
fn the_units_report_readiness_and_are_watched() {
    for unit in UNITS {
        let text = read(&format!("ops/systemd/{unit}"));
        for line in [
            "Type=notify",
            "WatchdogSec=30s",
            "Restart=on-failure",
            "UMask=0077",
            "KillMode=mixed",
        ] {
            assert!(text.lines().any(|present| present == line), "{unit} lacks {line}");
        }
    }
}
