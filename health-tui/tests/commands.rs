//! The commands of the binary that need no dashboard.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

mod support;

use std::{
    process::{Output, Stdio},
    time::Instant,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{
    TIMEOUT,
    process::{Running, health_tui, next_line},
    server::FakeServer,
    terminal::Terminal,
    tui,
};
use test_support::{Signal, TestProcess, test_directory};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    task::yield_now,
    time::timeout,
};

/// Runs the binary to its end.
fn output_of(args: &[&str]) -> Output {
    let mut command = health_tui(args).into_std();
    command.stdin(Stdio::null()).output().unwrap()
}

/// Starts the binary. Its standard error is a pipe.
fn start(args: &[&str]) -> TestProcess {
    let mut command = health_tui(args);
    command.stderr(Stdio::piped());
    TestProcess::start(command)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_dashboard_refuses_to_start_without_a_terminal() {
    let output = output_of(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "health-tui: Standard input or output is not a terminal. Run health-tui in a terminal, or use --plain for one line per sample.\n"
    );
}

#[test]
fn settings_completions_and_the_manual_are_printed() {
    assert!(stdout(&output_of(&["--print-config"])).contains("[keys]"));
    assert!(stdout(&output_of(&["completions", "bash"])).contains("complete -F"));
    assert!(stdout(&output_of(&["man"])).contains(".TH health-tui"));
    insta::assert_snapshot!("help", stdout(&output_of(&["--help"])));
}

#[test]
fn an_empty_variable_is_named_in_the_error() {
    for variable in ["HEALTH_SERVER", "HEALTH_FEED", "HEALTH_TOKEN_FILE", "HEALTH_CA"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_health-tui"));
        command.arg("--print-config").env(variable, "");
        let output = command.output().unwrap();
        let message = stderr(&output);
        let start = format!("error: the environment variable {variable} is empty. Unset it, or write ");
        assert!(
            output.status.code() == Some(2) && message.starts_with(&start),
            "{message}"
        );
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_health-tui"));
    // A token may be empty: then there is none.
    command.arg("--print-config").env("HEALTH_TOKEN", "");
    assert!(command.output().unwrap().status.success());
}

#[tokio::test]
async fn plain_prints_one_line_per_sample_and_resumes_after_the_last_one() {
    let server = FakeServer::start();
    let mut plain = start(&["--plain", "--feed", &server.feed.to_string(), "--tz", "UTC"]);
    server.wait_for_command("SUBSCRIBE");
    server.send_sample("c7", 101, 72);
    let end = plain.line_after(" user 101: ").await;
    assert_eq!(end, "72 bpm, 7 steps, 0.5 kcal, watch");
    let server = FakeServer::start_on(server.kill());
    assert_eq!(server.wait_for_command("SUBSCRIBE"), "SUBSCRIBE after=c7");
    server.send_sample("c8", 202, 80);
    assert!(plain.line_after(" user 202: ").await.starts_with("80 bpm"));
    assert!(plain.stop().await.success());
}

/// As in `health-tui --plain | head -1`.
#[tokio::test]
async fn plain_ends_successfully_when_its_reader_closes_the_pipe() {
    let server = FakeServer::start();
    let mut command = health_tui(&["--plain", "--feed", &server.feed.to_string()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut plain = command.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(plain.stdout.take().unwrap()).lines();
    server.wait_for_command("SUBSCRIBE");
    server.send_sample("c1", 101, 72);
    let line = next_line(&mut lines).await.unwrap();
    assert!(line.contains("72 bpm"), "{line}");
    drop(lines);
    // More than once: a program that another test is starting may have the pipe for an instant.
    let ended = async {
        loop {
            server.send_sample("c2", 101, 73);
            tokio::select! {
                status = plain.wait() => break status.unwrap(),
                () = yield_now() => {}
            }
        }
    };
    assert!(timeout(TIMEOUT, ended).await.expect("the program ends").success());
    let mut messages = String::new();
    let mut stderr = plain.stderr.take().unwrap();
    stderr.read_to_string(&mut messages).await.unwrap();
    assert_eq!(messages, "connected\n");
}

/// As in `health-tui --plain | less`, while the user reads the first page.
#[tokio::test]
async fn plain_obeys_signals_while_nobody_reads_its_output() {
    let server = FakeServer::start();
    let (_reader, output) = std::io::pipe().unwrap();
    let mut command = health_tui(&["--plain", "--feed", &server.feed.to_string()]);
    let of_program = output.try_clone().unwrap();
    command.stdin(Stdio::null()).stdout(of_program).stderr(Stdio::null());
    let mut plain = Running::start(command);
    server.wait_for_command("SUBSCRIBE");
    // More than a pipe holds.
    for i in 0..3_000 {
        server.send_sample(&format!("c{i}"), 101, 72);
    }
    wait_until_full(&output);
    plain.signal(Signal::TERM);
    assert!(plain.wait().await.success());
}

/// Waits until a pipe takes no more. How many bytes that are depends on the sizes of the writes.
fn wait_until_full(pipe: &std::io::PipeWriter) {
    let end = Instant::now() + TIMEOUT;
    let takes_more = || poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&Timespec::default())).unwrap() > 0;
    while takes_more() {
        assert!(Instant::now() < end, "the pipe never fills");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_feed_that_was_never_reached_is_a_failure() {
    let server = FakeServer::start();
    let feed = server.feed.to_string();
    let _ports = server.kill();
    let directory = test_directory();
    let path = directory.path().join("recording.ndjson");
    let mut recorder = start(&["record", path.to_str().unwrap(), "--feed", &feed]);
    let mut messages = BufReader::new(recorder.child().stderr.take().unwrap()).lines();
    let first = next_line(&mut messages).await.unwrap();
    assert!(
        first.starts_with("not connected (attempt 1: connection refused)"),
        "{first}"
    );
    recorder.signal(Signal::INT);
    assert_eq!(recorder.wait().await.code(), Some(1));
    let mut last = first;
    while let Some(line) = next_line(&mut messages).await {
        last = line;
    }
    assert!(
        last.starts_with("health-tui: Nothing was received: the feed could not be reached."),
        "{last}"
    );
}

#[tokio::test]
async fn a_recording_with_a_byte_order_mark_can_be_replayed() {
    let directory = test_directory();
    let path = directory.path().join("windows.ndjson");
    let sample = r#"{"user_id":4242,"timestamp":"2025-03-02T18:00:00Z","heart_rate":74,"source":""}"#;
    std::fs::write(&path, format!("\u{feff}{sample}\r\n")).unwrap();
    let mut terminal = Terminal::open(tui(&["replay", path.to_str().unwrap()]), 100, 24);
    terminal.wait_for("4242");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[tokio::test]
async fn a_recording_can_be_replayed() {
    let server = FakeServer::start();
    let directory = test_directory();
    let path = directory.path().join("recording.ndjson");
    let file = path.to_str().unwrap();
    let mut recorder = start(&["record", file, "--feed", &server.feed.to_string()]);
    let mut messages = BufReader::new(recorder.child().stderr.take().unwrap()).lines();
    assert_eq!(next_line(&mut messages).await.unwrap(), "connected");
    for i in 0..5 {
        server.send_sample(&format!("c{i}"), 4242, 70 + i);
    }
    let end = Instant::now() + TIMEOUT;
    while std::fs::read_to_string(&path).unwrap().lines().count() < 5 {
        assert!(Instant::now() < end, "the samples were not recorded");
        yield_now().await;
    }
    recorder.signal(Signal::INT);
    assert!(recorder.wait().await.success());

    // An existing recording is never overwritten.
    let again = output_of(&["record", file]);
    assert!(stderr(&again).contains("Cannot use"), "{}", stderr(&again));

    let mut terminal = Terminal::open(tui(&["replay", file, "--speed", "10"]), 100, 24);
    terminal.wait_for("4242");
    terminal.wait_for("end of recording.ndjson");
    terminal.wait_for("74");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn an_invalid_option_is_explained() {
    let directory = test_directory();
    let terminal = |args: &[&str]| Terminal::open(tui(args), 120, 24).ended_with_text();
    let (status, text) = terminal(&["--server", "ftp://x"]);
    assert_eq!(status, 1);
    assert!(text.contains("`ftp://x` is neither an http nor an https URL"), "{text}");
    let (_, text) = terminal(&["--tz", "Mars"]);
    assert!(text.contains("`Mars` is not a time zone"), "{text}");
    let config = directory.path().join("none.toml");
    let (_, text) = terminal(&["--config", config.to_str().unwrap()]);
    assert!(text.contains("Cannot read") && text.contains("No such file"), "{text}");
}
