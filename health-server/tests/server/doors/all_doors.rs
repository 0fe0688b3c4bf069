//! What holds for every door: users, compression, bodies that break off, and bodies at the wrong door.

use serde_json::Value;

use super::support::{EXPORT, JSON, gzip, post, totals};
use crate::{
    guarded::Guarded,
    support::{Server, counts, listed_errors, record},
};

#[tokio::test]
async fn the_user_is_that_of_the_query_or_the_only_one_of_the_token() {
    let mut guarded = Guarded::start().await;
    let of_one = guarded.token("phone", "ingest,read", Some(&[101])).await;
    let of_two = guarded.token("family", "ingest,read", Some(&[101, 202])).await;
    let reader = guarded.token("reader", "read", Some(&[101])).await;
    let server = &guarded.server;
    let token = |secret: &str| format!("Token {secret}");
    let body = r#"{"steps":[{"count":5,"start_time":"2026-03-03T09:00:00Z","end_time":"2026-03-03T09:10:00Z"}]}"#;
    for (secret, query, status) in [
        (&of_one.secret, "", 200),
        (&of_one.secret, "?user_id=101", 200),
        (&of_one.secret, "?user_id=202", 403),
        (&of_two.secret, "", 400),
        (&of_two.secret, "?user_id=202", 200),
        (&of_two.secret, "?user_id=303", 403),
        (&of_two.secret, "?user_id=0", 400),
        (&of_two.secret, "?user_id=202&x=1", 400),
        (&reader.secret, "", 403),
    ] {
        let headers = [JSON, ("authorization", &*token(secret))];
        let response = post(server, &format!("/ingest/health-connect{query}"), &headers, body).await;
        assert_eq!(response.status, status, "{query}: {response:?}");
    }
    let lines = "h steps=1i 1740938401\nh,user_id=202 steps=1i 1740938402\n";
    for (secret, query, status, refused) in [
        (&of_one.secret, "?precision=s", 400, "line 2: user_id is not allowed"),
        (&of_two.secret, "?precision=s", 400, "line 1: names no user"),
        (&of_two.secret, "?precision=s&user_id=101", 204, ""),
        (
            &of_two.secret,
            "?precision=s&user_id=303",
            400,
            "line 1: user_id is not allowed",
        ),
        (&reader.secret, "?precision=s", 403, "scope"),
    ] {
        let headers = [("authorization", &*token(secret))];
        let response = post(server, &format!("/api/v2/write{query}"), &headers, lines).await;
        assert_eq!(response.status, status, "{query}: {response:?}");
        assert!(response.body.contains(refused), "{query}: {response:?}");
    }
}

#[tokio::test]
async fn bodies_may_be_compressed_and_have_the_media_type_of_the_door() {
    let server = Server::start().await;
    let path = "/ingest/health-auto-export?user_id=7";
    let gzipped = ("content-encoding", "gzip");
    assert_eq!(counts(&post(&server, path, &[JSON, gzipped], gzip(EXPORT)).await)[0], 4);
    let line = "h,user_id=7 steps=1i 1740938401000000000";
    assert_eq!(post(&server, "/write", &[gzipped], gzip(line)).await.status, 204);
    for headers in [
        &[][..],
        &[("content-type", "application/x-ndjson")],
        &[("content-type", "text/csv")],
        &[JSON, ("content-encoding", "br")],
    ] {
        let response = post(&server, path, headers, EXPORT).await;
        assert_eq!(response.status, 415, "{headers:?}");
        let names_the_remedy = response.problem().contains("send application/json, so choose JSON");
        assert_eq!(names_the_remedy, headers.len() < 2, "{response:?}");
    }
    assert_eq!(
        post(&server, "/write", &[("content-encoding", "br")], line)
            .await
            .status,
        415
    );
    let cut = &gzip(line)[..20];
    assert_eq!(post(&server, "/write", &[gzipped], cut).await.status, 400);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_400_with_the_counts_of_what_was_stored() {
    let server = Server::start().await;
    let path = "/ingest/health-auto-export?user_id=7";
    let cut = EXPORT.find("59.5").unwrap();
    let response = post(&server, path, &[JSON], &EXPORT[..cut]).await;
    assert_eq!(
        (response.status, counts(&response)),
        (400, [2, 2, 0, 0]),
        "{response:?}"
    );
    assert_eq!(listed_errors(&response), [(2, Value::from("heart_rate"))]);
    assert!(response.problem().contains("ends too early"), "{response:?}");
    // Sending it again is harmless.
    assert_eq!(counts(&post(&server, path, &[JSON], EXPORT).await), [4, 2, 0, 2]);
    for (path, body, hint) in [
        ("/ingest/health-auto-export?user_id=7", "[]", "data"),
        (
            "/ingest/health-auto-export?user_id=7",
            "{\"steps\":[]}",
            "Health Connect",
        ),
        (
            "/ingest/health-connect?user_id=7",
            "{\"data\":{}}",
            "Health Auto Export",
        ),
        ("/ingest/health-connect?user_id=7", "", "ends too early"),
    ] {
        let response = post(&server, path, &[JSON], body).await;
        assert_eq!(
            (response.status, counts(&response)),
            (400, [0; 4]),
            "{path}: {response:?}"
        );
        assert!(response.problem().contains(hint), "{path}: {response:?}");
    }
    let long = format!(r#"{{"steps":[{{"x":"{}"}}]}}"#, "x".repeat(70_000));
    let response = post(&server, "/ingest/health-connect?user_id=7", &[JSON], long).await;
    assert_eq!(response.status, 413, "{response:?}");
}

#[tokio::test]
async fn what_belongs_elsewhere_is_refused_with_the_right_path_or_header() {
    let server = Server::start().await;
    let (ndjson, gzipped) = (("content-type", "application/x-ndjson"), ("content-encoding", "gzip"));
    let health_connect = r#"{"timestamp":"2026-03-03T10:00:03Z","app_version":"1.9.0","heart_rate":[]}"#;
    let line = "health,user_id=1 heart_rate=72";
    let record = record(1, 0);
    let (hae, hc) = (
        "/ingest/health-auto-export?user_id=1",
        "/ingest/health-connect?user_id=1",
    );
    let says_gzip = "send the header Content-Encoding: gzip";
    for (path, headers, body, status, part) in [
        (
            hae,
            &[JSON][..],
            health_connect.as_bytes(),
            400,
            "The path of that app is /ingest/health-connect.",
        ),
        (
            hc,
            &[JSON],
            EXPORT.as_bytes(),
            400,
            "The path of that app is /ingest/health-auto-export.",
        ),
        (
            "/ingest",
            &[JSON],
            EXPORT.as_bytes(),
            422,
            "belongs to /ingest/health-auto-export.",
        ),
        (
            "/ingest",
            &[JSON],
            health_connect.as_bytes(),
            422,
            "belongs to /ingest/health-connect.",
        ),
        (
            "/ingest",
            &[JSON],
            line.as_bytes(),
            400,
            "belongs to /api/v2/write or /write",
        ),
        (
            "/ingest",
            &[ndjson],
            line.as_bytes(),
            422,
            "belongs to /api/v2/write or /write",
        ),
        (hae, &[JSON], line.as_bytes(), 400, "belongs to /api/v2/write or /write"),
        ("/write", &[], record.as_bytes(), 400, "belongs to /ingest, or"),
        ("/ingest", &[JSON], &gzip(&record), 400, says_gzip),
        ("/ingest", &[ndjson], &gzip(&record), 422, says_gzip),
        (hae, &[JSON], &gzip(EXPORT), 400, says_gzip),
        (hc, &[JSON], &gzip(health_connect), 400, says_gzip),
        ("/write", &[], &gzip(line), 400, says_gzip),
        (
            "/ingest",
            &[JSON, gzipped],
            record.as_bytes(),
            400,
            "leave that header out",
        ),
        (hae, &[JSON, gzipped], EXPORT.as_bytes(), 400, "leave that header out"),
        ("/write", &[gzipped], line.as_bytes(), 400, "leave that header out"),
        (
            "/Ingest/Health-Connect",
            &[JSON],
            b"{}",
            404,
            "Did you mean /ingest/health-connect?",
        ),
        ("/", &[JSON], b"{}", 405, "Devices and apps post to /ingest,"),
    ] {
        let response = post(&server, path, headers, body).await;
        assert_eq!(response.status, status, "{path}: {response:?}");
        assert!(response.body.contains(part), "{path}: {part} is not in {response:?}");
    }
    let opened = server.get("/ingest/health-connect").await;
    assert_eq!(opened.status, 405);
    assert!(opened.body.contains("The page for browsers is /."), "{opened:?}");
    assert_eq!(totals(&server, 1).await, (0, 0, 0.0));
}
