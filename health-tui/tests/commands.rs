//! What the binary does without a dashboard.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use support::{Running, server::FakeServer, terminal::Terminal, tui};

fn health_tui(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_health-tui"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_pipe_is_no_terminal() {
    let output = health_tui(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "health-tui: this is not a terminal: run health-tui in one, or `health-tui --plain` for a line a reading\n"
    );
}

#[test]
fn settings_completions_and_the_manual_are_printed() {
    assert!(stdout(&health_tui(&["--print-config"])).contains("[keys]"));
    assert!(stdout(&health_tui(&["completions", "bash"])).contains("complete -F"));
    assert!(stdout(&health_tui(&["man"])).contains(".TH health-tui"));
    insta::assert_snapshot!("help", stdout(&health_tui(&["--help"])));
}

#[test]
fn plain_writes_a_line_a_reading_and_comes_back_behind_the_last() {
    let server = FakeServer::start();
    let child = Command::new(env!("CARGO_BIN_EXE_health-tui"))
        .args(["--plain", "--feed", &server.feed.to_string(), "--tz", "UTC"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    server.wait_for_command("SUBSCRIBE");
    server.sample("c7", 101, 72);
    let line = lines.next().unwrap().unwrap();
    assert!(line.ends_with(" user 101: 72 bpm, 7 steps, 0.5 kcal, watch"), "{line}");
    let (http, feed) = server.kill();
    let server = FakeServer::start_on(http, feed);
    assert_eq!(server.wait_for_command("SUBSCRIBE"), "SUBSCRIBE after=c7");
    server.sample("c8", 202, 80);
    assert!(lines.next().unwrap().unwrap().contains("user 202: 80 bpm"));
    assert_eq!(child.end("-TERM"), Some(0));
}

/// `health-tui --plain | head -1`
#[test]
fn a_reader_who_has_had_enough_ends_plain_without_a_complaint() {
    let server = FakeServer::start();
    let child = Command::new(env!("CARGO_BIN_EXE_health-tui"))
        .args(["--plain", "--feed", &server.feed.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let mut reader = BufReader::new(child.0.stdout.take().unwrap());
    server.wait_for_command("SUBSCRIBE");
    server.sample("c1", 101, 72);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("72 bpm"), "{line}");
    drop(reader);
    server.sample("c2", 101, 73);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.0.stderr.take().unwrap(), &mut told).unwrap();
    assert_eq!(told, "connected\n");
}

#[test]
fn a_recording_can_be_replayed() {
    let server = FakeServer::start();
    let path =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recording-{}.ndjson", std::process::id()));
    _ = std::fs::remove_file(&path);
    let child = Command::new(env!("CARGO_BIN_EXE_health-tui"))
        .args(["record", path.to_str().unwrap(), "--feed", &server.feed.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let mut told = BufReader::new(child.0.stderr.take().unwrap()).lines();
    assert_eq!(told.next().unwrap().unwrap(), "connected");
    for i in 0..5 {
        server.sample(&format!("c{i}"), 4242, 70 + i);
    }
    // The samples are in the file when the last of them is.
    let end = std::time::Instant::now() + support::PATIENCE;
    while std::fs::read_to_string(&path).unwrap().lines().count() < 5 {
        assert!(std::time::Instant::now() < end, "never written");
        std::thread::yield_now();
    }
    assert_eq!(child.end("-INT"), Some(0));

    // What was recorded is never written over.
    let again = health_tui(&["record", path.to_str().unwrap()]);
    assert!(stderr(&again).contains("cannot use"), "{}", stderr(&again));

    let mut terminal = Terminal::open(tui(&["replay", path.to_str().unwrap(), "--speed", "10"]), 100, 24);
    terminal.wait_for("4242");
    terminal.wait_for("has been replayed");
    terminal.wait_for("74");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn mistakes_are_told_in_a_sentence() {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let terminal = |args: &[&str]| Terminal::open(tui(args), 120, 24).ended_with_text();
    let (status, text) = terminal(&["--server", "ftp://x"]);
    assert_eq!(status, 1);
    assert!(text.contains("`ftp://x` is not http"), "{text}");
    let (_, text) = terminal(&["--tz", "Mars"]);
    assert!(text.contains("`Mars` is not a time zone"), "{text}");
    let (_, text) = terminal(&["--config", &format!("{dir}/none.toml")]);
    assert!(text.contains("cannot read") && text.contains("No such file"), "{text}");
}
