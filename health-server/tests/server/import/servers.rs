//! Servers that are overloaded, that are none of ours, or whose answer comes after an interrupt.

use std::{net::SocketAddr, process::Stdio};

use test_support::{Signal, TestProcess, test_directory};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::support::{CSV, TIMEOUT, file, numbers, run, stderr, stdout};
use crate::{program::health_server, support::Server};

/// An answer of a scripted server: status, further headers, and body. `None` closes the connection.
type ScriptedAnswer = Option<(u16, &'static str, &'static str)>;

/// Starts a server that gives these answers, one for each connection. Returns its address and the bodies that it gets.
async fn scripted_server(answers: Vec<ScriptedAnswer>) -> (SocketAddr, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bodies = tokio::spawn(async move {
        let mut bodies = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            bodies.push(read_request(&mut stream).await);
            if let Some((status, headers, body)) = answer {
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
                );
                stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
            }
        }
        bodies
    });
    (address, bodies)
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> String {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn overload_and_lost_connections_are_retried_and_what_was_stored_meanwhile_is_counted() {
    // The second attempt fails after three of the five samples were stored.
    let away = r#"{"type":"about:blank","title":"t","status":503,"detail":"The database is away.",
        "accepted":3,"inserted":2,"updated":1,"unchanged":0}"#;
    let (address, bodies) = scripted_server(vec![
        None,
        Some((503, "retry-after: 0\r\n", away)),
        Some((429, "", "")),
        Some((200, "", r#"{"accepted":5,"inserted":1,"updated":0,"unchanged":4}"#)),
    ])
    .await;
    let directory = test_directory();
    let path = file(directory.path(), "own.csv", CSV);
    let output = run(address, &["--user", "5", &path]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(numbers(&output), [3, 4, 1, 1, 0], "{}", stdout(&output));
    assert_eq!(
        stderr(&output).matches("Waiting up to").count(),
        1,
        "one sentence for one outage: {}",
        stderr(&output)
    );
    let bodies = bodies.await.unwrap();
    assert!(
        bodies
            .iter()
            .all(|body| *body == bodies[0] && body.lines().count() == 2),
        "{bodies:?}"
    );
}

#[tokio::test]
async fn something_else_than_a_server_of_ours_ends_the_import_with_status_1() {
    let directory = test_directory();
    let path = file(directory.path(), "own.csv", CSV);
    for status in [404, 200] {
        let (address, _) = scripted_server(vec![Some((status, "", "hello"))]).await;
        let output = run(address, &["--user", "5", &path]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("Check --server"), "{}", stderr(&output));
        assert_eq!(numbers(&output), [3, 0, 0, 1, 0]);
    }
    // Below a path, the URL may be that of an endpoint.
    let (address, _) = scripted_server(vec![Some((404, "", "hello"))]).await;
    let output = run(
        address,
        &["--user", "5", "--server", &format!("http://{address}/health"), &path],
    )
    .await;
    let expected = format!("unless a proxy adds a path, write http://{address} alone");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[tokio::test]
async fn the_port_of_the_feed_and_one_without_tls_end_the_import_at_once_with_the_url_to_write() {
    let server = Server::start().await;
    let directory = test_directory();
    let path = file(directory.path(), "own.csv", CSV);
    let output = run(
        server.http,
        &["--user", "5", "--server", &format!("http://{}", server.feed), &path],
    )
    .await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!("{} does not speak HTTP", server.feed))
            && text.contains("(port 8000 by default)")
            && text.ends_with(". Nothing was stored.\n")
            && !text.contains("Waiting"),
        "{text}"
    );
    let (http, feed) = (server.http, "--feed");
    let output = run(http, &["--user", "5", "--server", &format!("https://{http}"), &path]).await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!("http://{http} in --server. Nothing was stored.\n")) && !text.contains(feed),
        "{text}"
    );
}

/// Starts an import of its standard input that has sent this much, whose sender has the contact to a server.
fn import_of_stdin(server: SocketAddr) -> TestProcess {
    let mut command = health_server(&["import", "--user", "5", "/dev/stdin"]);
    command
        .arg("--server")
        .arg(format!("http://{server}"))
        .env_remove("HEALTH_TOKEN")
        .stderr(Stdio::piped());
    TestProcess::start(command)
}

#[tokio::test]
async fn an_interrupt_prints_the_table_and_what_to_do_next_with_status_1() {
    // Nobody accepts, so the import waits until it is interrupted.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut import = import_of_stdin(listener.local_addr().unwrap());
    // More than a batch, so that a request is on its way.
    let row = "5,2025-03-03T08:00:00Z,70\n";
    let rows = row.repeat((3 << 20) / row.len());
    let stdin = import.child().stdin.as_mut().unwrap();
    stdin.write_all(b"user_id,timestamp,heart_rate\n").await.unwrap();
    stdin.write_all(rows.as_bytes()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    import.signal(Signal::INT);
    let mut lines = BufReader::new(import.child().stderr.take().unwrap()).lines();
    let line = timeout(TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(
        line.ends_with("Waiting for the server's last answer; Ctrl-C again ends without it."),
        "{line}"
    );
    import.signal(Signal::INT);
    let line = timeout(TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(
        line.contains("it may have stored more than the table says. Run the same command again"),
        "{line}"
    );
    let table = import.rest_of_output().await;
    assert!(
        table.contains("\nstored") && !table.starts_with("read        0\n"),
        "{table}"
    );
    assert_eq!(import.wait().await.code(), Some(1));
    drop(stream);
}

#[tokio::test]
async fn an_interrupt_waits_for_the_answer_of_the_server_and_counts_it() {
    let server = Server::start().await;
    let mut import = import_of_stdin(server.http);
    let row = |second: usize| {
        format!(
            "5,2025-03-03T{:02}:{:02}:{:02}Z,70\n",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    };
    let rows: String = (0..60_000).map(row).collect();
    let stdin = import.child().stdin.as_mut().unwrap();
    stdin.write_all(b"user_id,timestamp,heart_rate\n").await.unwrap();
    stdin.write_all(rows.as_bytes()).await.unwrap();
    while server.samples(5).await == 0 {
        tokio::task::yield_now().await;
    }
    import.signal(Signal::INT);
    // Its standard input stays open, so only the interrupt ends it.
    let table = import.rest_of_output().await;
    assert_eq!(import.wait().await.code(), Some(1));
    let stored = table.lines().find_map(|line| line.strip_prefix("stored")).unwrap();
    assert_eq!(stored.trim().parse(), Ok(server.samples(5).await), "{table}");
}
