//! Audit lines: erasures, exports, changes of tokens, and refusals, with who, what, whom and from where.

use serde_json::{Value, json};
use test_support::TestDatabase;

use crate::{
    program::{Program, health_server},
    support::record,
};

const RANGE: &str = "start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";

/// Runs a command on a database. Returns what it printed and its log.
async fn command(database: &TestDatabase, arguments: &[&str]) -> (String, String) {
    let mut command = health_server(arguments);
    command
        .args(["--log-format", "json"])
        .env("DATABASE_URL", database.url());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

/// Creates a token with the command line, and returns its `Authorization` header and the audit line of the command.
async fn create_token(database: &TestDatabase, arguments: &[&str]) -> (String, Value) {
    let (secret, log) = command(database, &[&["token", "create"], arguments].concat()).await;
    let audit = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let audit = audit.into_iter().find(|line| line["target"] == "audit");
    (format!("Bearer {}", secret.trim()), audit.expect("an audit line"))
}

#[tokio::test]
async fn changes_of_tokens_are_audited_by_the_command_and_by_each_running_server() {
    let database = TestDatabase::new().await;
    let mut servers = [Program::on(&database).await, Program::on(&database).await];
    let options = ["--name", "watch", "--scope", "ingest,read", "--users", "101,202"];
    let (_, created) = create_token(&database, &options).await;
    assert_eq!(
        (
            &created["action"],
            &created["token"],
            &created["scopes"],
            &created["users"]
        ),
        (
            &json!("create_token"),
            &json!("watch"),
            &json!("ingest,read"),
            &json!("101,202")
        )
    );
    assert!(created["uid"].is_u64(), "{created}");
    for server in &mut servers {
        let line = [("action", json!("token_appeared")), ("token", json!("watch"))];
        assert_eq!(server.line(&line).await["users"], "101,202");
    }
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("UPDATE health_tokens SET users = ARRAY[101]")
        .await
        .unwrap();
    for server in &mut servers {
        let line = [("action", json!("token_changed")), ("token", json!("watch"))];
        assert_eq!(server.line(&line).await["users"], "101");
    }
    let (_, log) = command(&database, &["token", "revoke", "watch"]).await;
    assert!(log.contains("revoke_token") && log.contains("watch"), "{log}");
    for server in &mut servers {
        let line = [("action", json!("token_vanished")), ("token", json!("watch"))];
        server.line(&line).await;
    }
}

#[tokio::test]
async fn erasures_exports_and_refusals_are_audited_with_who_what_whom_and_from_where() {
    let database = TestDatabase::new().await;
    let (all, _) = create_token(&database, &["--name", "all", "--scope", "ingest,read,erase"]).await;
    let (limited, _) = create_token(&database, &["--name", "limited", "--scope", "ingest", "--users", "101"]).await;
    let mut server = Program::on(&database).await;
    let send = async |method: &str, path: &str, token: &str, id: &str, body: &str| {
        let headers = [
            ("authorization", token),
            ("x-request-id", id),
            ("content-type", "application/json"),
        ];
        server.request(method, path, &headers, body).await.status
    };
    let export = format!("/samples?user_id=101&{RANGE}");
    let two_users = format!("[{},{}]", record(101, 1), record(202, 1));
    for (method, path, token, id, body, status) in [
        ("POST", "/ingest", &all, "1", record(101, 0), 200),
        ("GET", &export, &all, "2", String::new(), 200),
        (
            "DELETE",
            &format!("{export}&source=phone"),
            &all,
            "9",
            String::new(),
            200,
        ),
        ("DELETE", &export, &all, "10", String::new(), 200),
        ("POST", "/ingest", &all, "11", record(101, 0), 200),
        ("DELETE", "/users/101", &all, "3", String::new(), 204),
        ("GET", &export, &limited, "4", String::new(), 403),
        ("POST", "/ingest", &limited, "5", two_users, 422),
        ("POST", "/ingest", &limited, "6", record(202, 1), 403),
        (
            "GET",
            "/users",
            &"Bearer health_wrong".to_owned(),
            "7",
            String::new(),
            401,
        ),
    ] {
        assert_eq!(send(method, path, token, id, &body).await, status, "{id}");
    }
    let without = server.request("GET", "/users", &[("x-request-id", "8")], "").await;
    assert_eq!(without.status, 401);
    let secret = limited.trim_start_matches("Bearer ");
    server.feed("SUBSCRIBE\n", "error").await;
    server.feed("AUTH wrong\n", "error").await;
    server.feed(&format!("AUTH {secret}\nSUBSCRIBE\n"), "error").await;

    for (id, expected) in [
        (
            "2",
            json!({"action": "export", "token": "all", "user": "101", "start": "2025-03-02T00:00:00Z"}),
        ),
        (
            "3",
            json!({"action": "erase", "token": "all", "user": "101", "samples": 1}),
        ),
        (
            "10",
            json!({"action": "erase", "user": "101", "start": "2025-03-02T00:00:00Z", "is_one_source": false, "samples": 1}),
        ),
        (
            "4",
            json!({"reason": "scope", "token": "limited", "what": "GET /samples"}),
        ),
        (
            "5",
            json!({"reason": "user", "token": "limited", "what": "POST /ingest", "user": 202, "records": 1}),
        ),
        (
            "6",
            json!({"reason": "user", "token": "limited", "user": 202, "records": 1}),
        ),
        ("7", json!({"reason": "wrong_token", "what": "GET /users"})),
        ("8", json!({"reason": "missing_token", "what": "GET /users"})),
    ] {
        let line = server
            .line(&[("request_id", id.into()), ("target", "audit".into())])
            .await;
        assert_eq!(line["peer"], "127.0.0.1", "{line}");
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(line[name], *value, "{line}");
        }
    }
    for (what, reason) in [
        ("SUBSCRIBE", "missing_token"),
        ("AUTH", "wrong_token"),
        ("SUBSCRIBE", "scope"),
    ] {
        let line = server.line(&[("what", what.into()), ("reason", reason.into())]).await;
        assert_eq!(
            (&line["action"], &line["peer"]),
            (&json!("refuse"), &json!("127.0.0.1"))
        );
    }
    the_metrics_count_the_refusals(&server, &all).await;
}

/// Checks the counts of the refusals above, and that the metrics name no token.
async fn the_metrics_count_the_refusals(server: &Program, token: &str) {
    let metrics = server
        .request("GET", "/-/metrics", &[("authorization", token)], "")
        .await
        .body;
    for line in [
        "health_refused_total{reason=\"missing_token\"} 2",
        "health_refused_total{reason=\"wrong_token\"} 2",
        "health_refused_total{reason=\"scope\"} 2",
        "health_refused_total{reason=\"user\"} 2",
        "health_refused_total{reason=\"rate\"} 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is missing: {metrics}"
        );
    }
    assert!(!metrics.contains("limited"), "metrics have no names of tokens");
}

#[tokio::test]
async fn while_no_token_exists_foreign_hosts_and_origins_are_audited() {
    let database = TestDatabase::new().await;
    let mut server = Program::on(&database).await;
    let origin = [("origin", "http://evil.example")];
    assert_eq!(server.request("GET", "/users", &origin, "").await.status, 403);
    let line = server.line(&[("reason", "origin".into())]).await;
    assert_eq!(line["what"], "GET /users", "{line}");
    let mut http = crate::client::HttpConnection::connect(server.http).await;
    http.send("GET /users HTTP/1.1\r\nhost: evil.example\r\n\r\n").await;
    assert_eq!(http.response().await.status, 421);
    server.line(&[("reason", "host".into())]).await;
}

#[tokio::test]
async fn many_refusals_make_few_lines_and_their_number_is_told() {
    let database = TestDatabase::new().await;
    create_token(&database, &["--name", "first", "--scope", "read"]).await;
    let server = Program::on(&database).await;
    let mut http = crate::client::HttpConnection::connect(server.http).await;
    for _ in 0..200 {
        assert_eq!(http.request("GET", "/users", &[], b"").await.status, 401);
    }
    let log = server.stop().await;
    let refusals: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["action"] == "refuse")
        .collect();
    let single = refusals.iter().filter(|line| line["refusals"].is_null()).count();
    let summed: u64 = refusals.iter().filter_map(|line| line["refusals"].as_u64()).sum();
    assert_eq!((single, summed), (10, 190), "{refusals:#?}");
}

#[tokio::test]
async fn a_token_for_a_server_without_any_is_warned_of_once_and_never_shown() {
    let database = TestDatabase::new().await;
    let secret = format!("health_{}", "a".repeat(64));
    let authorization = format!("Bearer {secret}");
    let headers = [("authorization", authorization.as_str())];
    let warnings = |log: &str| log.matches("a client sent a token").count();

    let mut server = Program::on(&database).await;
    assert_eq!(server.request("GET", "/users", &[], "").await.status, 200);
    assert_eq!(server.request("GET", "/-/healthy", &headers, "").await.status, 200);
    for _ in 0..2 {
        assert_eq!(server.request("GET", "/users", &headers, "").await.status, 200);
    }
    let line = server
        .line(&[("level", json!("WARN")), ("peer", json!("127.0.0.1"))])
        .await;
    let message = line["message"].as_str().unwrap();
    assert!(
        message.contains("restore a backup") && message.contains("token create"),
        "{message}"
    );
    let log = server.stop().await.concat();
    assert!(warnings(&log) == 1 && !log.contains(&secret), "{log}");

    let server = Program::on(&database).await;
    assert_eq!(server.request("GET", "/users", &[], "").await.status, 200);
    server.feed(&format!("AUTH {secret}\n"), "error").await;
    let log = server.stop().await.concat();
    assert!(warnings(&log) == 1 && !log.contains(&secret), "{log}");

    let (token, _) = create_token(&database, &["--name", "first", "--scope", "read"]).await;
    let server = Program::on(&database).await;
    let headers = [("authorization", token.as_str())];
    assert_eq!(server.request("GET", "/users", &headers, "").await.status, 200);
    let log = server.stop().await.concat();
    assert_eq!(warnings(&log), 0, "{log}");
}
