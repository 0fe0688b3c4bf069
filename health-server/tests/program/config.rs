//! The configuration file, secrets in files, SIGHUP, and the generated pages of the program.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Stdio,
};

use test_support::{Signal, TempDir, TestDatabase, TestProcess, test_directory};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStderr, Command},
    time::timeout,
};

use super::{FREE_PORTS, TIMEOUT, health_server, run_to_end};

fn write(directory: &TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

async fn output(mut command: Command) -> (Option<i32>, String, String) {
    let output = timeout(TIMEOUT, command.stdin(Stdio::null()).output());
    let output = output.await.expect("an end in time").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Waits for a log line with all of these parts.
async fn line_with(log: &mut Lines<BufReader<ChildStderr>>, parts: &[&str]) -> String {
    let find = async {
        loop {
            let line = log.next_line().await.unwrap().expect("the log goes on");
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    };
    timeout(TIMEOUT, find)
        .await
        .unwrap_or_else(|_| panic!("no line with {parts:?}"))
}

#[tokio::test]
async fn a_server_runs_by_a_file_whose_database_url_stands_in_another_file() {
    let database = TestDatabase::empty().await;
    let directory = test_directory();
    write(&directory, "url", &format!("{}\n", database.url()), 0o600);
    let text = "http = '127.0.0.1:0'\nfeed = '127.0.0.1:0'\ndatabase-url-file = 'url'\n";
    let file = write(&directory, "health.toml", text, 0o644);
    let mut command = health_server(&[]);
    command.env("HEALTH_CONFIG", &file);
    let mut server = TestProcess::start(command);
    server.listening().await;
    assert_eq!(server.stop().await.code(), Some(0));

    let mut command = health_server(&["token", "list"]);
    command.env("HEALTH_CONFIG", &file);
    let (status, list, _) = output(command).await;
    assert_eq!((status, list.lines().count()), (Some(0), 1));

    write(&directory, "url", database.url(), 0o644);
    let mut command = health_server(&["migrate"]);
    command.env("HEALTH_CONFIG", &file);
    let (status, _, message) = output(command).await;
    assert_eq!(status, Some(1));
    assert!(
        message.contains("chmod 600") && !message.contains("postgres://"),
        "{message}"
    );
}

#[tokio::test]
async fn faults_of_the_file_end_the_start_with_the_status_of_wrong_usage() {
    let directory = test_directory();
    let file = write(&directory, "health.toml", "\nmax_body = '1MiB'\n", 0o644);
    let file = file.to_str().unwrap();
    for command in [&["serve"][..], &["migrate"], &["token", "list"], &[]] {
        let output = run_to_end(&[command, &["--config", file]].concat()).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        for part in [file, "line 2", "`max_body`", "`max-body`"] {
            assert!(message.contains(part), "{part} is missing: {message}");
        }
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[tokio::test]
async fn the_printed_file_has_the_defaults_whatever_is_set() {
    let mut command = health_server(&["--print-config", "--http", "127.0.0.1:1"]);
    command
        .env("HEALTH_MAX_BODY", "1MiB")
        .env("HEALTH_CONFIG", "/no/such/file");
    let (status, with_settings, _) = output(command).await;
    assert_eq!(status, Some(0));
    let output = run_to_end(&["migrate", "--print-config"]).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), with_settings);
    assert!(
        with_settings.contains("\nhttp = \"127.0.0.1:8000\"\n"),
        "{with_settings}"
    );
    assert!(with_settings.contains("\nmax-body = \"16MiB\"\n"), "{with_settings}");
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_wherever_it_is_set() {
    let directory = test_directory();
    let file = write(&directory, "health.toml", "tls-key = 'key.pem'\n", 0o644);
    for (arguments, given, missing) in [
        (["--tls-cert", "cert.pem"], "--tls-cert", "--tls-key"),
        (["--config", file.to_str().unwrap()], "--tls-key", "--tls-cert"),
    ] {
        let output = run_to_end(&[&FREE_PORTS[..], &arguments].concat()).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            message.contains(&format!("{given} is set without {missing}")),
            "{message}"
        );
    }
}

#[tokio::test]
async fn sighup_applies_the_log_filter_and_says_what_needs_a_restart() {
    let database = TestDatabase::empty().await;
    let directory = test_directory();
    let file = write(&directory, "health.toml", "log = 'info'\nmax-body = '1MiB'\n", 0o644);
    let mut command = health_server(&FREE_PORTS);
    command
        .env("DATABASE_URL", database.url())
        .env("HEALTH_CONFIG", &file)
        .stderr(Stdio::piped());
    let mut server = TestProcess::start(command);
    let mut log = BufReader::new(server.child().stderr.take().unwrap()).lines();
    let addresses = server.listening().await;

    server.signal(Signal::HUP);
    line_with(&mut log, &["no setting changed"]).await;

    let text = "log = 'debug'\nmax-body = '2MiB'\ndatabase-url = 'postgres://me:hunter2@h/db'\n";
    write(&directory, "health.toml", text, 0o600);
    server.signal(Signal::HUP);
    line_with(
        &mut log,
        &["applied", "setting=\"log\"", "before=\"info\"", "after=\"debug\""],
    )
    .await;
    line_with(&mut log, &["restart", "setting=\"max-body\"", "\"1MiB\"", "\"2MiB\""]).await;
    // The variable wins over the file, so the URL in force did not change.

    write(&directory, "health.toml", "max-body = 'much'\n", 0o644);
    server.signal(Signal::HUP);
    let line = line_with(&mut log, &["ERROR", "max-body"]).await;
    assert!(line.contains("line 1") && line.contains("stay as they were"), "{line}");
    let metrics = super::get(addresses, "/-/metrics").await;
    assert!(
        metrics.contains("\nhealth_config_failed_reloads_total 1\n"),
        "{metrics}"
    );

    write(&directory, "health.toml", "log = 'error'\nmax-body = '1MiB'\n", 0o644);
    server.signal(Signal::HUP);
    line_with(&mut log, &["setting=\"log\"", "after=\"error\""]).await;
    assert_eq!(server.stop().await.code(), Some(0));
    // The filter is in force: the shutdown is said at level info.
    let rest = async {
        let mut lines = Vec::new();
        while let Some(line) = log.next_line().await.unwrap() {
            lines.push(line);
        }
        lines
    };
    let rest = timeout(TIMEOUT, rest).await.unwrap();
    assert!(rest.iter().all(|line| !line.contains("shutting down")), "{rest:?}");
}

#[tokio::test]
async fn completions_and_the_manual_page_name_the_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run_to_end(&["completions", shell]).await;
        let script = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        for part in ["health-server", "max-body", "migrate", "token"] {
            assert!(script.contains(part), "{part} is missing: {shell}");
        }
    }
    let output = run_to_end(&["man"]).await;
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(
        page.contains(".TH health-server 1") && page.contains("HEALTH_MAX_BODY"),
        "{page}"
    );
    assert_eq!(run_to_end(&["completions", "tcl"]).await.status.code(), Some(2));
}
