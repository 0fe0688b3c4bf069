//! The demonstration as a newcomer starts it, without the dashboard.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A directory that is gone with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("health-{name}-{}", std::process::id())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_second_start_finds_what_the_first_stored_also_after_a_kill() {
    let place = Place::new("demo-test");
    let first = run(&place.0, "1s");
    let stored = number_before(&first, " samples stored");
    assert!(first.starts_with("listening http=http://127.0.0.1:"), "{first}");
    assert!(first.contains("2 users, "), "{first}");
    // Half an hour, less what was not worn.
    assert!(stored > 100, "{first}");

    let mut killed = demo(&place.0).arg("--headless").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(" samples of earlier runs")));
    killed.kill().unwrap();
    killed.wait().unwrap();

    let third = run(&place.0, "1s");
    assert!(
        number_before(&third, " samples of earlier runs") >= stored,
        "{first}{third}"
    );
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let place = Place::new("demo-no-terminal");
    let output = demo(&place.0).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("--headless"), "{told}");
    assert!(!place.0.exists(), "nothing is started for nothing");
}

fn run(place: &Path, lasting: &str) -> String {
    let output = demo(place).args(["--headless", "--for", lasting]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The example, which `cargo test` builds beside the tests.
fn demo(place: &Path) -> Command {
    let tests = env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/demo");
    let mut command = Command::new(program);
    command
        .env_remove("DATABASE_URL")
        .env_remove("HEALTH_DATA_DIR")
        .args(["--users", "2", "--interval", "8s", "--backfill", "30m", "--data-dir"])
        .arg(place);
    command
}

/// The number a text has before some words.
fn number_before(text: &str, words: &str) -> u64 {
    let before = text.split(words).next().unwrap();
    before
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("{words:?} in {text}"))
}
