//! Options: wrong usage, and tokens.

use health_core::{Config, access::TokenAdmin, token::NewToken};
use test_support::test_directory;

use super::support::{CSV, file, fit, numbers, run, stderr, stdout};
use crate::support::Server;

#[tokio::test]
async fn wrong_usage_ends_with_status_2_before_anything_is_read() {
    let directory = test_directory();
    let (walk, own) = (
        file(directory.path(), "walk.fit", fit()),
        file(directory.path(), "own.csv", CSV),
    );
    let (walk, own) = (walk.as_str(), own.as_str());
    let nobody = file(
        directory.path(),
        "nobody.csv",
        "timestamp,steps\n2025-03-03T08:00:00Z,4\n",
    );
    let nobody = nobody.as_str();
    let nowhere = "127.0.0.1:1".parse().unwrap();
    for (arguments, expected) in [
        (&[][..], "Usage: health-server import [OPTIONS] <FILE>..."),
        (&[walk], "walk.fit names no user: add --user N"),
        (&[nobody], "nobody.csv names no user: add --user N"),
        (&["--user", "0", walk], "write the number of a user"),
        (&["--user", "5", "--tz", "Berlin", walk], "Europe/Berlin"),
        (
            &["--user", "5", "--server", "localhost", walk],
            "is not the URL of a server",
        ),
        (
            &[
                "--user",
                "5",
                "--server",
                "http://health.example",
                "--token",
                "hlt_x",
                walk,
            ],
            "plain text",
        ),
        (&["--ca", "/nonexistent", "--server", "https://localhost", own], "--ca"),
        (
            &["--server", "http://127.0.0.1:1/ingest", own],
            "write --server http://127.0.0.1:1.",
        ),
    ] {
        let output = run(nowhere, arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty() && !stderr(&output).contains("hlt_x"));
    }
    // A file whose records name their users needs none.
    let output = run(nowhere, &["--dry-run", own]).await;
    assert_eq!(numbers(&output), [3, 1, 2, 0], "{}", stdout(&output));
}

#[tokio::test]
async fn a_server_that_requires_a_token_gets_it_and_says_what_is_missing() {
    let server = Server::start().await;
    let directory = test_directory();
    let path = file(directory.path(), "own.csv", CSV);
    let mut admin = TokenAdmin::connect(&Config::from_url(server.database.url()).unwrap())
        .await
        .unwrap();
    let token = NewToken {
        name: "import".parse().unwrap(),
        scopes: "ingest".parse().unwrap(),
        users: Some([health_core::UserId::new(5).unwrap()].into()),
        valid_for: None,
    };
    let secret = admin.create(&token).await.unwrap();
    // A running server notices the first token a little later.
    let output = loop {
        let output = run(server.http, &["--user", "6", &path]).await;
        if !output.status.success() {
            break output;
        }
    };
    assert_eq!(output.status.code(), Some(1));
    let creates = "On the server's machine, `health-server token create --name import-5 --scope ingest --users 5,6` prints one; \
        pass it on in the variable HEALTH_TOKEN, or use --token-file. Nothing was stored.\n";
    let text = stderr(&output);
    assert!(
        text.contains(" needs an API token. ") && text.ends_with(creates),
        "{text}"
    );
    assert!(!text.contains("Bearer"), "{text}");
    let wrong = format!("{}x", secret.as_str());
    let output = run(server.http, &["--user", "6", "--token", &wrong, &path]).await;
    let text = stderr(&output);
    assert!(
        text.contains(" does not accept the API token: it is mistyped") && text.ends_with(creates),
        "{text}"
    );
    assert!(output.status.code() == Some(1) && !text.contains("Bearer"), "{text}");
    let other = file(
        directory.path(),
        "other.csv",
        "timestamp,steps\n2025-03-03T08:00:00Z,4\n",
    );
    let output = run(server.http, &["--user", "6", "--token", secret.as_str(), &other]).await;
    let text = stderr(&output);
    assert!(
        output.status.code() == Some(1)
            && text.contains("does not let this API token store records of user 6: ")
            && text.contains("`health-server token create --name import-6 --scope ingest --users 6`"),
        "{text}"
    );
    let output = run(server.http, &["--user", "6", "--token", secret.as_str(), &path]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // The record of user 6 is one that the token may not write.
    assert!(
        stdout(&output).contains("1  user_id is not allowed"),
        "{}",
        stdout(&output)
    );
    let text = stderr(&output);
    assert!(
        text.contains("own.csv: line 3 is refused by the server: user_id is not allowed")
            && text.contains("Use a token that may write user 6. On the server's machine, `health-server token create"),
        "{text}"
    );
}
