//! Statistics, users, exports and erasing: every endpoint that reads or erases stored samples.

use serde_json::{Value, json};

use crate::support::{Server, counts, record, records};

const HOUR: &str = "start=2025-03-02T00:00:00Z&end=2025-03-02T01:00:00Z";

#[tokio::test]
async fn a_series_adds_up_to_the_statistics_of_its_range() {
    let server = Server::start().await;
    server.post("x-ndjson", records(1, 3600)).await;
    let series = server
        .get(&format!(
            "/metrics/series?user_id=1&{HOUR}&bucket=15m&tz=Asia/Kathmandu"
        ))
        .await;
    assert_eq!(series.status, 200, "{series:?}");
    let series = series.json();
    assert_eq!(
        (&series["user_id"], &series["bucket"], &series["tz"]),
        (&json!(1), &json!("15m"), &json!("Asia/Kathmandu"))
    );
    let buckets = series["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), 4);
    assert_eq!(
        (&buckets[1]["start"], &buckets[1]["end"]),
        (&json!("2025-03-02T00:15:00Z"), &json!("2025-03-02T00:30:00Z"))
    );
    let whole = server.get(&format!("/metrics?user_id=1&{HOUR}")).await.json();
    for field in ["samples", "total_steps"] {
        let sum: i64 = buckets.iter().map(|bucket| bucket[field].as_i64().unwrap()).sum();
        assert_eq!(whole[field], sum, "{field}");
    }
    assert!(
        buckets
            .iter()
            .all(|bucket| bucket.get("message").is_none() && bucket.get("sources").is_none())
    );
    // The series includes empty buckets. The default zone is UTC.
    let empty = server
        .get(&format!("/metrics/series?user_id=2&{HOUR}&bucket=1m"))
        .await
        .json();
    assert_eq!(
        (empty["buckets"].as_array().unwrap().len(), &empty["tz"]),
        (60, &json!("UTC"))
    );
    assert_eq!(empty["buckets"][0]["average_heart_rate"], Value::Null);
}

#[tokio::test]
async fn a_wrong_parameter_is_a_400_that_names_it() {
    let server = Server::start().await;
    for (query, parameter) in [
        (format!("/metrics/series?user_id=1&{HOUR}"), "bucket"),
        (format!("/metrics/series?user_id=1&{HOUR}&bucket=2h"), "bucket"),
        (format!("/metrics/series?user_id=1&{HOUR}&bucket="), "bucket"),
        (
            format!("/metrics/series?user_id=1&{HOUR}&bucket=1h&tz=Mars/Olympus"),
            "tz",
        ),
        (format!("/metrics/series?user_id=1&{HOUR}&bucket=1h&tz="), "tz"),
        (
            "/metrics/series?user_id=1&start=0001-01-01T00:00:00Z&end=9999-12-31T00:00:00Z&bucket=1m".to_owned(),
            "11000",
        ),
        (format!("/metrics/percentiles?user_id=1&{HOUR}&p=101"), "p "),
        (format!("/metrics/percentiles?user_id=1&{HOUR}&p=50,x"), "p "),
        (format!("/metrics/percentiles?user_id=1&{HOUR}&p="), "p "),
        ("/users?limit=0".to_owned(), "limit"),
        ("/users?limit=1001".to_owned(), "limit"),
        ("/users?limit=ten".to_owned(), "limit"),
        ("/users?after=x".to_owned(), "after"),
        ("/users?before=1".to_owned(), "before"),
        ("/samples?user_id=1".to_owned(), "start"),
        (format!("/samples?{HOUR}"), "user_id"),
        (format!("/samples?user_id=1&{HOUR}&format=csv"), "format"),
    ] {
        let response = server.get(&query).await;
        assert_eq!(response.status, 400, "{query}");
        assert!(response.problem().contains(parameter), "{response:?}");
    }
}

#[tokio::test]
async fn the_keys_of_percentiles_are_as_in_the_request() {
    let server = Server::start().await;
    let path = |p: &str| format!("/metrics/percentiles?user_id=1&{HOUR}{p}");
    let response = server.get(&path("")).await;
    assert_eq!(
        response.json(),
        json!({"percentiles": {"50": null, "95": null, "99": null}, "samples": 0})
    );
    let body: Vec<_> = (1..=100)
        .map(|bpm| {
            format!(
                r#"{{"user_id":1,"timestamp":"2025-03-02T00:00:{:02}.{bpm:03}Z","heart_rate":{}}}"#,
                bpm % 60,
                50 + bpm
            )
        })
        .collect();
    assert_eq!(
        counts(&server.post("x-ndjson", body.join("\n")).await),
        [100, 100, 0, 0]
    );
    let found = server.get(&path("&p=0,50,99.0,100")).await.json();
    assert_eq!(found["samples"], 100);
    for (key, bpm) in [("0", 51.0), ("50", 100.0), ("99.0", 149.0), ("100", 150.0)] {
        let value = found["percentiles"][key].as_f64().unwrap();
        assert!((value - bpm).abs() <= 1.0, "{key}: {value}");
    }
}

#[tokio::test]
async fn users_are_listed_in_pages() {
    let server = Server::start().await;
    assert_eq!(server.get("/users").await.json(), json!({"users": [], "next": null}));
    for user in [30, 10, 20] {
        server
            .post("x-ndjson", format!("{}\n{}", record(user, 5), record(user, 3)))
            .await;
    }
    let first = server.get("/users?limit=2&after=0").await.json();
    let ids = |page: &Value| {
        page["users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["user_id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!((ids(&first), &first["next"]), (vec![10, 20], &json!(20)));
    let user = &first["users"][0];
    assert_eq!(
        (&user["samples"], &user["first"]),
        (&json!(2), &json!("2025-03-02T00:00:03Z"))
    );
    assert_eq!(user["last"]["timestamp"], "2025-03-02T00:00:05Z");
    let second = server.get("/users?limit=2&after=20").await.json();
    assert_eq!((ids(&second), &second["next"]), (vec![30], &Value::Null));
}

#[tokio::test]
async fn an_export_can_be_posted_again() {
    let server = Server::start().await;
    server.post("x-ndjson", records(1, 10_000)).await;
    server
        .post(
            "json",
            r#"{"user_id":1,"timestamp":"2025-03-02T00:00:00Z","calories":1.5,"source":"a, \"b\""}"#,
        )
        .await;
    let path = "/samples?user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-02T02:00:00Z";
    let export = server.get(path).await;
    assert_eq!(
        (export.status, export.header("content-type")),
        (200, Some("application/x-ndjson"))
    );
    let lines: Vec<Value> = export
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 7201);
    assert_eq!(
        (&lines[0]["source"], &lines[1]["source"], &lines[7200]["timestamp"]),
        (&json!(""), &json!("a, \"b\""), &json!("2025-03-02T01:59:59Z"))
    );
    assert_eq!(counts(&server.post("x-ndjson", export.body).await), [7201, 0, 0, 7201]);

    let mut http = server.connect().await;
    let table = http.request("GET", path, &[("accept", "text/csv")], b"").await;
    assert!(
        table.header("content-type").unwrap().starts_with("text/csv"),
        "{table:?}"
    );
    let rows: Vec<_> = table.body.lines().collect();
    assert_eq!(rows.len(), 7202);
    assert_eq!(rows[0], "user_id,timestamp,heart_rate,steps,calories,source");
    assert_eq!(rows[1], "1,2025-03-02T00:00:00Z,70,0,,");
    assert_eq!(rows[2], "1,2025-03-02T00:00:00Z,,,1.5,\"a, \"\"b\"\"\"");
    assert_eq!(http.request("HEAD", path, &[], b"").await.status, 200);
    let empty = http
        .request(
            "GET",
            &path.replace("user_id=1", "user_id=2"),
            &[("accept", "text/csv")],
            b"",
        )
        .await;
    assert_eq!((empty.status, empty.body.lines().count()), (200, 1));
}

#[tokio::test]
async fn erasing_a_user_removes_everything_of_that_user_and_nothing_of_others() {
    let server = Server::start().await;
    server
        .post("x-ndjson", format!("{}{}", records(1, 100), records(2, 100)))
        .await;
    let mut http = server.connect().await;
    assert_eq!(http.request("DELETE", "/users/1", &[], b"").await.status, 204);
    assert_eq!((server.samples(1).await, server.samples(2).await), (0, 100));
    for path in [
        "/users/1",
        "/users/3",
        "/users/0",
        "/users/9223372036854775808",
        "/users/x",
    ] {
        let response = http.request("DELETE", path, &[], b"").await;
        assert_eq!(response.status, 404, "{path}");
        response.problem();
    }
    let response = http.request("GET", "/users/2", &[], b"").await;
    assert_eq!(
        (response.status, response.header("allow")),
        (405, Some("DELETE, OPTIONS"))
    );
    assert_eq!(counts(&server.post("json", record(1, 0)).await), [1, 1, 0, 0]);
}

#[tokio::test]
async fn openapi_json_describes_every_path_with_its_methods() {
    let server = Server::start().await;
    let description = server.get("/openapi.json").await.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    let mut http = server.connect().await;
    for (path, methods) in description["paths"].as_object().unwrap() {
        let response = http
            .request(
                "OPTIONS",
                &path.replace("{user_id}", "1").replace("{file}", "main.js"),
                &[],
                b"",
            )
            .await;
        assert_eq!(response.status, 204, "{path}");
        for method in methods.as_object().unwrap().keys() {
            assert!(
                response.header("allow").unwrap().contains(&method.to_uppercase()),
                "{method} {path}"
            );
        }
    }
    assert_eq!(description["paths"].as_object().unwrap().len(), 19);
    assert_eq!(
        description["components"]["securitySchemes"]["token"]["scheme"],
        "bearer"
    );
    for (path, methods) in description["paths"].as_object().unwrap() {
        let is_public = ["/-/healthy", "/-/ready", "/", "/page/{file}"].contains(&path.as_str());
        for (method, operation) in methods.as_object().unwrap() {
            for status in ["403", "421", "429"] {
                assert!(operation["responses"][status].is_object(), "{status} {method} {path}");
            }
            assert_eq!(operation["responses"]["401"].is_object(), !is_public, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn openapi_json_describes_the_request_id_and_the_refusals_of_every_operation() {
    let server = Server::start().await;
    let description = server.get("/openapi.json").await.json();
    assert_eq!(
        description["components"]["securitySchemes"]["token"]["scheme"],
        "bearer"
    );
    for (path, methods) in description["paths"].as_object().unwrap() {
        let is_public = ["/-/healthy", "/-/ready", "/", "/page/{file}"].contains(&path.as_str());
        for (method, operation) in methods.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            let needs_none = operation["security"]
                .as_array()
                .is_some_and(|rules| *rules == [serde_json::json!({})]);
            assert_eq!(needs_none, is_public, "{method} {path}");
            for status in ["401", "403", "421", "429"] {
                let is_expected = !is_public || status != "401";
                assert_eq!(responses.contains_key(status), is_expected, "{method} {path} {status}");
            }
            for (status, response) in responses {
                let name = response["$ref"].as_str().and_then(|path| path.rsplit('/').next());
                let response = name.map_or(response, |name| &description["components"]["responses"][name]);
                assert!(
                    response["headers"]["X-Request-Id"].is_object(),
                    "{method} {path} {status}"
                );
            }
        }
    }
}
