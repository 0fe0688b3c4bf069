//! The demo as a new user starts it, but without the dashboard.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use test_support::{TestProcess, test_directory};
use tokio::process::Command;

#[tokio::test]
async fn a_later_start_finds_the_samples_of_earlier_ones_even_after_a_kill() {
    let directory = test_directory();
    let data_dir = directory.path().join("data");
    let first = run(&data_dir).await;
    let stored = number_before(&first, " samples stored");
    assert!(first.starts_with("listening http=http://127.0.0.1:"), "{first}");
    assert!(first.contains("2 users, "), "{first}");
    // Half an hour has 450 samples of two people, minus those while a watch was not worn.
    assert!(stored > 100, "{first}");

    let mut command = demo(&data_dir);
    command.arg("--headless");
    let mut killed = TestProcess::start(command);
    killed.line_after(" samples of earlier runs").await;
    killed.kill().await;

    let third = run(&data_dir).await;
    assert!(
        number_before(&third, " samples of earlier runs") >= stored,
        "{first}{third}"
    );
}

#[tokio::test]
async fn without_a_terminal_it_names_the_flag_to_use() {
    let directory = test_directory();
    let data_dir = directory.path().join("data");
    let output = demo(&data_dir).stdin(Stdio::null()).output().await.unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--headless"), "{stderr}");
    assert!(!data_dir.exists(), "a demo that cannot run starts no PostgreSQL");
}

#[tokio::test]
async fn an_empty_variable_is_named_in_the_error() {
    let data_dir = test_directory();
    for (program, variable) in [
        ("demo", "DATABASE_URL"),
        ("simulate", "HEALTH_TOKEN_FILE"),
        ("tail", "HEALTH_CA"),
        ("embed", "DATABASE_URL"),
    ] {
        let mut command = Command::new(example(program));
        // A program that does not refuse the variable must not write into the directory of this machine.
        command.env("XDG_DATA_HOME", data_dir.path()).env(variable, "");
        let output = command.kill_on_drop(true).output().await.unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        let expected = format!("the environment variable {variable} is empty. Unset it, or write ");
        assert!(
            !output.status.success() && message.contains(&expected),
            "{program}: {message}"
        );
    }
}

/// Runs the demo for a second without the dashboard. Returns what it printed.
async fn run(data_dir: &Path) -> String {
    let output = demo(data_dir)
        .args(["--headless", "--for", "1s"])
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the path of an example, which `cargo test` builds next to the tests.
fn example(name: &str) -> PathBuf {
    let this_test = env::current_exe().unwrap();
    this_test.ancestors().nth(2).unwrap().join("examples").join(name)
}

/// Returns a command for the demo.
fn demo(data_dir: &Path) -> Command {
    let mut command = Command::new(example("demo"));
    command
        .env_remove("DATABASE_URL")
        .env_remove("HEALTH_DATA_DIR")
        .args(["--users", "2", "--interval", "8s", "--backfill", "30m", "--data-dir"])
        .arg(data_dir)
        .kill_on_drop(true);
    command
}

/// Returns the number before some words in a text.
fn number_before(text: &str, words: &str) -> u64 {
    let before = text.split(words).next().unwrap();
    let number = before.rsplit(' ').next().unwrap();
    number.parse().unwrap_or_else(|_| panic!("{words:?} in {text}"))
}
