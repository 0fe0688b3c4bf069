//! What a token permits a stream, and how it ends with its token.

use crate::{
    client::EventStream,
    guarded::{Bearer, Guarded, in_time},
    support::{Server, record, records},
};

async fn open(server: &Server, token: &Bearer, path: &str) -> EventStream {
    let mut stream = EventStream::open(server.http, path, &[("authorization", &token.header)]).await;
    assert_eq!(stream.head.status, 200, "{:?}", stream.head);
    assert_eq!(stream.block().await.as_deref(), Some("retry: 2000"));
    assert_eq!(stream.event().await.name, "subscribed");
    stream
}

/// Reads events until `bye`, and returns its reason.
async fn bye(stream: &mut EventStream) -> String {
    loop {
        let event = stream.event().await;
        if event.name == "bye" {
            assert!(stream.is_closed().await);
            return event.data["reason"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn a_stream_needs_a_token_and_sends_only_the_users_of_it() {
    let mut guarded = Guarded::start().await;
    let writer = guarded.token("writer", "ingest", None).await;
    let limited = guarded.token("limited", "read", Some(&[101, 202])).await;
    let server = &guarded.server;
    let missing = server.get("/feed").await;
    assert_eq!(
        (missing.status, missing.header("www-authenticate")),
        (401, Some("Bearer"))
    );
    let refused = writer.get(server, "/feed").await;
    assert_eq!(refused.status, 403);
    assert!(refused.problem().contains("needs read"), "{refused:?}");
    for users in ["303", "101,303"] {
        let refused = limited.get(server, &format!("/feed?users={users}")).await;
        assert_eq!(refused.status, 403);
        assert!(refused.problem().contains("303"), "{refused:?}");
    }

    let (mut all, mut one) = (
        open(server, &limited, "/feed").await,
        open(server, &limited, "/feed?users=202").await,
    );
    for user in [303, 101, 404, 202] {
        assert_eq!(writer.post(server, &record(user, 0)).await.status, 200);
    }
    assert_eq!(all.event().await.data["user_id"], 101);
    assert_eq!(all.event().await.data["user_id"], 202);
    assert_eq!(one.event().await.data["user_id"], 202);
}

#[tokio::test]
async fn the_end_of_a_token_ends_its_streams_in_time_also_those_that_are_not_read() {
    let mut guarded = Guarded::start().await;
    let writer = guarded.token("writer", "ingest,read", None).await;
    let token = guarded.token("doomed", "read", None).await;
    let server = &guarded.server;
    let mut quiet = open(server, &token, "/feed?users=99").await;
    let _stalled = open(server, &token, "/feed").await;
    // More than the buffers of both sides hold, so the server waits for the client.
    for user in 1..=6 {
        let body = records(user, 5000).trim_end().replace('\n', ",");
        assert_eq!(writer.post(server, &format!("[{body}]")).await.status, 200);
    }
    guarded.revoke("doomed").await;
    let server = &guarded.server;
    assert!(in_time(bye(&mut quiet)).await.contains("revoked"));
    let is_open = async || {
        let metrics = writer.get(server, "/-/metrics").await.body;
        !metrics.contains("\nhealth_feed_connections 0\n")
    };
    in_time(async { while is_open().await {} }).await;
}

#[tokio::test]
async fn the_first_token_ends_the_streams_of_clients_without_one() {
    let guarded = Guarded::before_the_first_token().await;
    let mut stream = guarded.server.stream("").await;
    let mut guarded = guarded;
    let _ = guarded.token("first", "read", None).await;
    assert!(in_time(bye(&mut stream)).await.contains("token"));
}
