//! `X-Request-Id` in answers and log lines.

use std::collections::HashSet;

use test_support::TestDatabase;

use crate::{
    client::{HttpConnection, Response},
    program::Program,
    support::{Server, record},
};

fn id(response: &Response) -> &str {
    response
        .header("x-request-id")
        .unwrap_or_else(|| panic!("{response:?}"))
}

#[tokio::test]
async fn each_answer_has_the_id_of_its_request_or_a_random_one() {
    let server = Server::with_limits(|server, _| server.max_header = 1000).await;
    let longest = "x".repeat(128);
    for sent in ["a", "A-b_c.9", &longest] {
        let mut http = server.connect().await;
        for path in ["/-/healthy", "/nothing", "/users?limit=none"] {
            let response = http.request("GET", path, &[("x-request-id", sent)], b"").await;
            assert_eq!(id(&response), sent, "{path}");
        }
    }
    let too_long = "x".repeat(129);
    let mut random = HashSet::new();
    for sent in ["a b", "a\"", "<script>", &too_long] {
        let mut http = server.connect().await;
        let response = http.request("GET", "/-/healthy", &[("x-request-id", sent)], b"").await;
        assert_ne!(id(&response), sent);
        random.insert(id(&response).to_owned());
    }
    for response in [server.get("/users").await, server.post("json", record(1, 0)).await] {
        random.insert(id(&response).to_owned());
    }
    assert_eq!(random.len(), 6, "{random:?}");
}

#[tokio::test]
async fn answers_to_heads_that_cannot_be_parsed_have_an_id() {
    let server = Server::with_limits(|server, _| server.max_header = 1000).await;
    let long_head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(2000));
    for (head, status) in [("nonsense\r\n\r\n", 400), (&long_head, 431)] {
        let mut http = server.connect().await;
        http.send(head).await;
        let response = http.response().await;
        assert_eq!(response.status, status);
        assert!(!id(&response).is_empty());
        response.problem();
    }
}

#[tokio::test]
async fn the_answer_to_a_connection_too_many_has_an_id() {
    let server = Server::with_limits(|server, _| server.max_connections = 1).await;
    let mut first = server.connect().await;
    assert_eq!(first.request("GET", "/-/healthy", &[], b"").await.status, 200);
    let response = HttpConnection::connect(server.http).await.response().await;
    assert_eq!(response.status, 503);
    assert!(!id(&response).is_empty());
}

#[tokio::test]
async fn log_lines_of_a_request_have_its_id() {
    let database = TestDatabase::new().await;
    let mut program = Program::on(&database).await;
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("ALTER TABLE health_metrics ADD CONSTRAINT refused CHECK (user_id <> 666)")
        .await
        .unwrap();
    let headers = [("x-request-id", "the-erasure"), ("content-type", "application/json")];
    assert_eq!(
        program.request("POST", "/ingest", &headers, &record(1, 0)).await.status,
        200
    );
    assert_eq!(program.request("DELETE", "/users/1", &headers, "").await.status, 204);
    let erased = program
        .line(&[("action", "erase".into()), ("request_id", "the-erasure".into())])
        .await;
    assert_eq!(erased["user"], "1", "{erased}");
    let headers = [("x-request-id", "the-upload"), ("content-type", "application/json")];
    let response = program.request("POST", "/ingest", &headers, &record(666, 0)).await;
    assert_ne!(response.status, 200);
    let refused = program.request("GET", "/users", &[("host", "evil.example")], "").await;
    assert_eq!(refused.status, 400, "two hosts");
    let log = program.stop().await;
    assert!(log.iter().any(|line| line.contains("the-erasure")), "{log:#?}");
}
