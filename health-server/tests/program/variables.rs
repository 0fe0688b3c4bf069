//! Settings that come from environment variables, and those that have no effect beside others.

use std::process::Stdio;

use health_core::Problem;
use test_support::{TestDatabase, TestProcess};
use tokio::{process::Command, time::timeout};

use super::{FREE_PORTS, TIMEOUT, health_server, post, run_to_end};

#[tokio::test]
async fn environment_variables_set_options() {
    let database = TestDatabase::new().await;
    let mut command = health_server(&FREE_PORTS);
    command.env("DATABASE_URL", database.url()).env("HEALTH_MAX_BODY", "10");
    let mut server = TestProcess::start(command);
    let addresses = server.listening().await;
    let response = post(addresses, "           ").await;
    let problem: Problem = serde_json::from_str(response.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(problem.status, 413);
}

#[tokio::test]
async fn an_empty_database_url_is_an_error() {
    let mut with_variable = health_server(&FREE_PORTS);
    with_variable.env("DATABASE_URL", "");
    let with_flag = health_server(&[&FREE_PORTS[..], &["--database-url", ""]].concat());
    for mut command in [with_flag, with_variable] {
        let output = timeout(TIMEOUT, command.stdin(Stdio::null()).output())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("a URL that is not empty"), "{message}");
    }
}

#[tokio::test]
async fn an_empty_variable_is_named_in_the_error_unless_it_may_be_empty() {
    /// An empty value of these means none.
    const MAY_BE_EMPTY: [&str; 4] = [
        "HEALTH_ALLOW_ANONYMOUS",
        "HEALTH_ALLOW_HOST",
        "HEALTH_LOG",
        "HEALTH_TOKEN",
    ];
    // Files that are not there end an import that finds nothing else wrong.
    for arguments in [&["man"][..], &["import", "/no/such/file"]] {
        let help = run_to_end(&[arguments[0], "--help"]).await.stdout;
        let mut help = String::from_utf8(help).unwrap();
        if arguments == ["man"] {
            help = String::from_utf8(run_to_end(&["--help"]).await.stdout).unwrap();
        }
        let variables: Vec<_> = help
            .split("[env: ")
            .skip(1)
            .map(|rest| rest.split(['=', ']']).next().unwrap())
            .collect();
        assert!(variables.contains(&"HEALTH_LOG"), "{help}");
        for variable in variables {
            let mut command = health_server(arguments);
            command.env(variable, "").stdin(Stdio::null());
            let output = timeout(TIMEOUT, command.output()).await.unwrap().unwrap();
            let message = String::from_utf8(output.stderr).unwrap();
            let start = format!("error: the environment variable {variable} is empty. Unset it, or write ");
            let is_refused = output.status.code() == Some(2) && message.starts_with(&start);
            assert_ne!(is_refused, MAY_BE_EMPTY.contains(&variable), "{variable}: {message}");
        }
    }
}

#[tokio::test]
async fn a_wrong_value_of_a_variable_is_refused_with_its_name_unless_a_flag_has_the_value() {
    for (arguments, variable, value, parts) in [
        (
            &["man"][..],
            "HEALTH_WRITERS",
            "many",
            &["'many'", "--writers", "at least 1"][..],
        ),
        (
            &["man"],
            "HEALTH_LOG_FORMAT",
            "xml",
            &["'xml'", "--log-format", "text or json"],
        ),
        (
            &["token", "list"],
            "HEALTH_LOG",
            "a=loud",
            &["--log", "health_core=debug"],
        ),
    ] {
        let mut command = health_server(arguments);
        command.env(variable, value).stdin(Stdio::null());
        let output = timeout(TIMEOUT, command.output()).await.unwrap().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        for part in [variable].iter().chain(parts) {
            assert!(message.contains(part), "{part} is missing: {message}");
        }
    }
    let mut command = health_server(&["--writers", "few"]);
    command.env("HEALTH_WRITERS", "many").stdin(Stdio::null());
    let output = timeout(TIMEOUT, command.output()).await.unwrap().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("'few' for '--writers <N>'"), "{message}");
}

#[tokio::test]
async fn a_variable_that_is_mistaken_for_that_of_the_database_is_warned_of() {
    let database = TestDatabase::new().await;
    let mut command = health_server(&["migrate", "--database-url", database.url()]);
    command.env("HEALTH_DATABASE_URL", "postgres://me:hunter2@host/db");
    let output = timeout(TIMEOUT, command.stdin(Stdio::null()).output()).await;
    let log = String::from_utf8(output.unwrap().unwrap().stderr).unwrap();
    let expected = "HEALTH_DATABASE_URL has no effect: write its value to DATABASE_URL";
    assert!(log.contains(expected) && !log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_data_directory_beside_a_database_url_is_warned_of_if_it_is_a_flag() {
    let database = TestDatabase::new().await;
    let warns = async |mut command: Command| {
        command.env("DATABASE_URL", database.url());
        let output = timeout(TIMEOUT, command.output()).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--data-dir has no effect")
    };
    assert!(warns(health_server(&["token", "list", "--data-dir", "/nonexistent"])).await);
    // A package may set the variable for all of its commands.
    let mut with_variable = health_server(&["token", "list"]);
    with_variable.env("HEALTH_DATA_DIR", "/nonexistent");
    assert!(!warns(with_variable).await);
}
