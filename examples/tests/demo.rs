//! The demo as a new user starts it, but without the dashboard.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chrono::Utc;
use examples::Client;
use health_core::{Sample, UserId, client::Credentials};
use test_support::{Signal, TestProcess, test_directory};
use tokio::{process::Command, time::timeout};

/// Longer than any step of a test takes.
const TIMEOUT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_later_start_finds_the_samples_of_earlier_ones_even_after_a_kill() {
    let directory = test_directory();
    let data_dir = directory.path().join("data");
    let first = run_until_something_is_stored(&data_dir).await;
    let stored = number_before(&first, " samples stored");
    assert!(stored > 0 && first.contains("2 users, "), "{first}");

    let mut killed = start(&data_dir);
    killed.line_after(" samples of earlier runs").await;
    killed.kill().await;

    let third = run_for_a_second(&data_dir).await;
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

/// Starts the demo without the dashboard.
fn start(data_dir: &Path) -> TestProcess {
    let mut command = demo(data_dir);
    command.arg("--headless");
    TestProcess::start(command)
}

/// Runs the demo without the dashboard until it has stored samples of the past. Returns what it printed.
async fn run_until_something_is_stored(data_dir: &Path) -> String {
    let mut demo = start(data_dir);
    let server = format!("http://{}", demo.listening().await.http).parse().unwrap();
    let client = Client::new(server, &Credentials::default()).unwrap();
    // One of the two people may not wear a watch at the moment.
    let users = [101, 202].map(|id| UserId::new(id).unwrap());
    let stored = async {
        for user in users.iter().cycle() {
            let answer = client.metrics(*user, Sample::EARLIEST, Utc::now()).await.unwrap();
            if answer.stats.samples > 0 {
                break;
            }
        }
    };
    timeout(TIMEOUT, stored).await.expect("the demo stores samples");
    demo.signal(Signal::TERM);
    let output = demo.rest_of_output().await;
    assert!(demo.wait().await.success(), "{output}");
    output
}

/// Runs the demo for a second without the dashboard. Returns what it printed.
async fn run_for_a_second(data_dir: &Path) -> String {
    let output = timeout(TIMEOUT, demo(data_dir).args(["--headless", "--for", "1s"]).output());
    let output = output.await.expect("the demo ends").unwrap();
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
