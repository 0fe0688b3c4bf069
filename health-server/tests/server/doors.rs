//! Intervals, and the doors for devices: each format over HTTP, stored and read back.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::{
    access::Guarded,
    client::Response,
    support::{Server, counts, listed_errors, record},
};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
    server
        .connect()
        .await
        .request("POST", path, headers, body.as_ref())
        .await
}

/// Returns the steps of the samples of a user, by time and source.
async fn steps(server: &Server, user: i64) -> Vec<(String, i64)> {
    let path = format!("/samples?user_id={user}&start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z");
    let samples = server.get(&path).await;
    let samples = samples
        .body
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    samples
        .filter_map(|sample| {
            let time = sample["timestamp"].as_str()?.to_owned();
            Some((time, sample["steps"].as_i64()?))
        })
        .collect()
}

async fn totals(server: &Server, user: i64) -> (i64, i64, f64) {
    let path = format!("/metrics?user_id={user}&start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z");
    let stats = server.get(&path).await.json();
    (
        stats["samples"].as_i64().unwrap(),
        stats["total_steps"].as_i64().unwrap(),
        stats["total_calories"].as_f64().unwrap(),
    )
}

#[tokio::test]
async fn an_interval_is_stored_as_its_parts_and_counts_once_for_each() {
    let server = Server::start().await;
    let interval = |end: &str, steps: i64| {
        format!(
            r#"{{"user_id":1,"timestamp":"2025-03-02T09:10:00Z","end":"2025-03-02T{end}Z","steps":{steps},"heart_rate":70}}"#
        )
    };
    let first = interval("09:40:00", 300);
    assert_eq!(counts(&server.post("json", &first).await), [3, 3, 0, 0]);
    assert_eq!(counts(&server.post("x-ndjson", &first).await), [3, 0, 0, 3]);
    // The newest record of the day has a later end and a larger count. It replaces the parts of the earlier one.
    assert_eq!(
        counts(&server.post("json", interval("10:10:00", 340)).await),
        [5, 2, 3, 0]
    );
    let expected = [
        ("09:10:00", 28),
        ("09:15:00", 85),
        ("09:30:00", 85),
        ("09:45:00", 85),
        ("10:00:00", 57),
    ];
    let expected = expected.map(|(time, steps)| (format!("2025-03-02T{time}Z"), steps));
    assert_eq!(steps(&server, 1).await, expected);
    assert_eq!(totals(&server, 1).await, (5, 340, 0.0));
}

#[tokio::test]
async fn a_refused_interval_stores_no_part_and_is_named_once() {
    let server = Server::start().await;
    let ndjson = [
        r#"{"user_id":1,"timestamp":"2025-03-02T09:00:00Z","end":"2025-03-02T10:00:00Z","steps":100001}"#,
        r#"{"user_id":1,"timestamp":"2025-03-02T09:00:00Z","end":"2025-03-03T10:00:01Z","steps":5}"#,
        r#"{"user_id":1,"end":"2025-03-02T10:00:00Z","steps":5}"#,
        r#"{"user_id":1,"timestamp":"2025-03-02T09:00:00Z","end":"2025-03-02T09:00:00Z","steps":5}"#,
        r#"{"user_id":1,"timestamp":"2025-03-02T11:00:00Z","end":"2025-03-02T11:30:00Z","steps":7}"#,
    ];
    for (kind, body) in [
        ("x-ndjson", ndjson.join("\n")),
        ("json", format!("[{}]", ndjson.join(","))),
    ] {
        let response = server.post(kind, body).await;
        assert_eq!(response.status, 422, "{response:?}");
        assert_eq!(counts(&response)[0], 2, "{kind}");
        assert_eq!(response.json()["rejected"], 4);
        let expected = [(0, "steps"), (1, "end"), (2, "end"), (3, "end")];
        assert_eq!(
            listed_errors(&response),
            expected.map(|(index, field)| (index, Value::from(field)))
        );
    }
    assert_eq!(totals(&server, 1).await, (2, 7, 0.0));

    // A constraint of an operator refuses two parts of one record.
    let constraint = "ALTER TABLE health_metrics ADD CHECK (steps IS DISTINCT FROM 13)";
    server.sql().await.batch_execute(constraint).await.unwrap();
    let record = r#"{"user_id":2,"timestamp":"2025-03-02T09:00:00Z","end":"2025-03-02T09:30:00Z","steps":26}"#;
    let response = server.post("json", record).await;
    assert_eq!((response.status, &response.json()["rejected"]), (422, &Value::from(1)));
    assert_eq!(listed_errors(&response), [(0, Value::Null)]);
}

#[tokio::test]
async fn a_body_of_many_long_intervals_is_stored_whole_and_in_order() {
    let server = Server::start().await;
    let day = |source: i64, steps: i64| {
        format!(
            r#"{{"user_id":1,"timestamp":"2025-03-02T00:00:00Z","end":"2025-03-03T01:00:00Z","steps":{steps},"source":"{source}"}}"#
        )
    };
    // Each source comes twice, with samples between: the later one wins, whatever the size of the portions is.
    let mut lines: Vec<_> = (0..60).map(|source| day(source, 100)).collect();
    lines.push(record(2, 0));
    lines.extend((0..60).map(|source| day(source, 200 + source)));
    for kind in ["x-ndjson", "json"] {
        let body = match kind {
            "json" => format!("[{}]", lines.join(",")),
            _ => lines.join("\n"),
        };
        let response = server.post(kind, body).await;
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(counts(&response)[0], 2 * 60 * 100 + 1);
    }
    let path = "/metrics?user_id=1&start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z";
    let stats = server.get(path).await.json();
    for source in stats["sources"].as_array().unwrap() {
        let number: i64 = source["source"].as_str().unwrap().parse().unwrap();
        assert_eq!(source["steps"], 200 + number);
    }
    assert_eq!(stats["samples"], 60 * 100);
}

const EXPORT: &str = r#"{"data":{"metrics":[
    {"data":[{"date":"2026-02-06 14:30:00 -0800","Min":65,"Avg":72.4,"Max":85,"source":"Ada’s Apple Watch"},
             {"date":"2026-02-06 14:31:00 -0800","Avg":0},{"date":"2026-02-06","Avg":70}],"units":"bpm","name":"heart_rate"},
    {"name":"step_count","units":"count","data":[{"date":"2026-02-06 2:00:00 PM -0800","qty":340.5,"source":"iPhone"},
             {"date":"2026-02-06 3:00:00 PM -0800","qty":59.5,"source":"iPhone"}]},
    {"name":"active_energy","units":"kJ","data":[{"date":"2026-02-06 14:30:00 -0800","qty":8.368}]},
    {"name":"sleep_analysis","units":"hr","data":[{"date":"2026-02-06","asleep":7.0},{}]}],
    "workouts":[{"name":"Yoga"}]}}"#;

#[tokio::test]
async fn health_auto_export_is_answered_with_a_200_that_names_everything() {
    let server = Server::start().await;
    let path = "/ingest/health-auto-export?user_id=7";
    let first = post(&server, path, &[JSON], EXPORT).await;
    assert_eq!(first.status, 200, "{first:?}");
    let reason = "date \"2026-02-06\" is a date without a time of day: write it like 2025-03-02T18:00:00Z";
    let expected = json!({
        "accepted": 4, "inserted": 4, "updated": 0, "unchanged": 0, "rejected": 1,
        "ignored": {"not_worn": 1, "sleep_analysis": 2, "workouts": 1},
        "errors": [{"index": 2, "field": "heart_rate", "reason": reason}],
    });
    assert_eq!(first.json(), expected);
    let again = post(&server, path, &[JSON], EXPORT).await;
    assert_eq!(counts(&again), [4, 0, 0, 4]);
    assert_eq!(totals(&server, 7).await, (4, 400, 2.0));

    // The same export, grouped by hours.
    let grouped = [JSON, ("automation-aggregation", "Hours")];
    let response = post(&server, "/ingest/health-auto-export/?user_id=8", &grouped, EXPORT).await;
    assert_eq!(counts(&response)[0], 1 + 4 + 4 + 4, "{response:?}");
    let expected = [
        ("22:00", 85),
        ("22:15", 85),
        ("22:30", 85),
        ("22:45", 85),
        ("23:00", 15),
        ("23:15", 15),
        ("23:30", 15),
        ("23:45", 15),
    ];
    let expected = expected.map(|(time, steps)| (format!("2026-02-06T{time}:00Z"), steps));
    assert_eq!(steps(&server, 8).await, expected);
    let weeks = [JSON, ("automation-aggregation", "weeks")];
    let response = post(&server, path, &weeks, EXPORT).await.json();
    assert_eq!((&response["accepted"], &response["rejected"]), (&json!(0), &json!(6)));
    let empty = post(&server, path, &[JSON], r#"{"data":{}}"#).await;
    assert_eq!((empty.status, counts(&empty)), (200, [0; 4]));
}

#[tokio::test]
async fn the_growing_day_of_health_connect_is_counted_once_in_any_order_of_sources() {
    let server = Server::start().await;
    let body = |count: i64, end: &str, bpm: i64| {
        format!(
            r#"{{"timestamp":"2026-03-03T10:00:00Z","app_version":"1.9.0",
                "steps":[{{"count":{count},"start_time":"2026-03-02T23:00:00Z","end_time":"2026-03-03T{end}Z"}}],
                "heart_rate":[{{"bpm":{bpm},"time":"2026-03-03T09:00:00Z","metadata":{{"device":{{"model":"SM-R960"}}}}}}],
                "total_calories":[{{}},{{}}],"sleep":[{{}}]}}"#
        )
    };
    let path = "/ingest/health-connect?user_id=9";
    for (count, end, bpm) in [(100, "05:00:00", 60), (900, "08:20:00", 0), (1203, "10:00:03.12", 60)] {
        let response = post(&server, path, &[JSON], body(count, end, bpm)).await;
        assert_eq!(response.status, 200, "{response:?}");
        let not_worn = u64::from(bpm == 0);
        assert_eq!(
            response.json()["ignored"]["not_worn"].as_u64().unwrap_or_default(),
            not_worn
        );
        assert_eq!(response.json()["ignored"]["total_calories"], 2);
    }
    assert_eq!(totals(&server, 9).await, (46, 1203, 0.0));
    let again = post(&server, path, &[JSON], body(1203, "10:00:03.12", 60)).await;
    assert_eq!(counts(&again), [46, 0, 0, 46]);
}

#[tokio::test]
async fn line_protocol_is_a_204_or_a_400_that_stores_what_is_valid() {
    let server = Server::start().await;
    let write = async |query: &str, body: &str| post(&server, &format!("/api/v2/write{query}"), &[], body).await;
    let lines = "# Telegraf\n\nhealth,host=esp32,user_id=3 heart_rate=70,steps=3i,calories=0.5 1740938400\r\n\
                 cpu,host=esp32 usage_idle=98.5 1740938400\n";
    let stored = write("?org=o&bucket=b&precision=s", lines).await;
    assert_eq!((stored.status, stored.body.as_str()), (204, ""), "{stored:?}");
    assert_eq!(totals(&server, 3).await, (1, 3, 0.5));
    for path in [
        "/write?db=d&u=x&p=y&precision=s",
        "/write/?precision=s",
        "/api/v2/write/?precision=s&user_id=9",
    ] {
        assert_eq!(
            post(&server, path, &[("content-type", "x/y")], lines).await.status,
            204,
            "{path}"
        );
    }
    assert_eq!(write("", "").await.status, 204);

    let partial = write(
        "?precision=s",
        "h,user_id=3 steps=1i 1740938401\n\nh,user_id=3 heart_rate=400 1740938402\nh steps=1i 1740938403\n",
    )
    .await;
    let message = "partial write: line 3: heart_rate 400 is not between 20 and 250 beats per minute; line 4: names no user: \
        add the tag user_id, or ?user_id= to the URL, or use a token of one user; 2 of 3 points were refused, the other one is stored";
    assert_eq!(partial.status, 400);
    assert_eq!(partial.header("content-type"), Some("application/json"));
    assert_eq!(
        partial.json(),
        json!({"code": "invalid", "message": message, "error": message})
    );
    assert_eq!(totals(&server, 3).await.0, 2);
    assert_eq!(
        write("?user_id=4&precision=s", "h steps=1i 1740938403\n").await.status,
        204
    );
    assert_eq!(totals(&server, 4).await, (1, 1, 0.0));
    for (query, reason) in [
        ("?precision=x", "precision is \"x\""),
        ("?precision=s&precision=s", "precision is given more than once"),
        ("?user_id=x", "user_id"),
    ] {
        let response = write(query, "h steps=1i").await;
        assert_eq!(
            (response.status, &response.json()["code"]),
            (400, &json!("invalid")),
            "{query}"
        );
        assert!(
            response.json()["error"].as_str().unwrap().contains(reason),
            "{query}: {response:?}"
        );
    }
    let long = format!("h,user_id=3 steps=1i 1740938404\nh steps=1i,x={}\n", "1".repeat(70_000));
    let response = write("?precision=s", &long).await;
    assert_eq!(
        (response.status, counts(&response)),
        (413, [1, 1, 0, 0]),
        "{response:?}"
    );
    assert!(
        response.problem().contains("line") && response.problem().contains("64 KiB"),
        "{response:?}"
    );
}

#[tokio::test]
async fn points_without_a_timestamp_are_stored_at_their_arrival_and_none_replaces_another() {
    let server = Server::start().await;
    let body = "h,user_id=5 steps=1i\n".repeat(20);
    assert_eq!(post(&server, "/write", &[], body).await.status, 204);
    assert_eq!(totals(&server, 5).await, (20, 20, 0.0));
}

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

fn gzip(body: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap()
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

/// The bytes are those of the serializer and of the outputs `influxdb_v2` and `influxdb` of Telegraf 1.30, with one point that has a value out of range.
#[tokio::test]
async fn a_batch_as_telegraf_writes_it_is_stored_except_for_its_wrong_point() {
    let server = Server::start().await;
    let batch = "cpu,cpu=cpu-total,host=gate\\ way usage_idle=98.49246231155778,usage_user=1.005025125628140704 1740938400000000000\n\
        system,host=gate\\ way load1=0.07,n_cpus=4i,uptime_format=\"3 days,  2:11\" 1740938400000000000\n\
        tail,host=gate\\ way,path=/var/log/x message=\"said \\\"hi\\\" heart_rate=1\nand went \\\\ on\" 1740938400000000000\n\
        mqtt_consumer,host=gate\\ way,topic=band/ada,user_id=101 heart_rate=71,steps=12i,battery=0.5,worn=true 1740938400000000000\n\
        mqtt_consumer,host=gate\\ way,topic=band/ada,user_id=101 heart_rate=0,steps=3i 1740938410000000000\n\
        mqtt_consumer,host=gate\\ way,topic=band/ada,user_id=101 heart_rate=999 1740938420000000000\n";
    let headers = [
        ("content-encoding", "gzip"),
        ("content-type", "text/plain; charset=utf-8"),
        ("user-agent", "Telegraf/1.30.3 Go/1.22.4"),
    ];
    for path in [
        "/api/v2/write?bucket=health&org=health",
        "/write?consistency=any&db=health&rp=",
    ] {
        let response = post(&server, path, &headers, gzip(batch)).await;
        assert_eq!(response.status, 400, "{response:?}");
        let message = "partial write: line 7: heart_rate 999 is not between 20 and 250 beats per minute; 1 of 6 points was refused, \
            the others are stored";
        assert_eq!(response.json()["error"], message, "{path}");
    }
    assert_eq!(steps(&server, 101).await.len(), 2);
    let path = "/samples?user_id=101&start=2025-03-02T18:00:00Z&end=2025-03-02T18:00:01Z";
    let sample = server.get(path).await.json();
    let expected = json!({
        "user_id": 101, "timestamp": "2025-03-02T18:00:00Z", "heart_rate": 71.0, "steps": 12, "source": "gate way",
    });
    assert_eq!(sample, expected);
}

/// Sends each body of `docs/phones.md` as its curl does, and compares the answer with the one on the page.
#[tokio::test]
async fn the_answers_on_the_page_for_phones_are_those_of_the_server() {
    let server = Server::start().await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/phones.md")).unwrap();
    let mut blocks = page.split("```").skip(1).step_by(2);
    let mut compared = 0;
    while let Some(block) = blocks.next() {
        let Some((command, body)) = block.split_once("<<'BODY'\n") else {
            continue;
        };
        let path = command.split("$HEALTH").nth(1).unwrap().split('"').next().unwrap();
        let path = format!("{path}{}user_id=101", if path.contains('?') { '&' } else { '?' });
        let path = path.replace("/ingest?user_id=101", "/ingest");
        let quoted = command.split('\'').skip(1).step_by(2);
        let headers: Vec<_> = quoted.filter_map(|header| header.split_once(": ")).collect();
        let response = post(&server, &path, &headers, body.strip_suffix("BODY\n").unwrap()).await;
        if response.status != 204 {
            let expected = blocks.next().unwrap().strip_prefix("json\n").unwrap();
            assert_eq!(
                response.json(),
                serde_json::from_str::<Value>(expected).unwrap(),
                "{path}"
            );
        }
        compared += 1;
    }
    assert_eq!(compared, 6);
}

/// Returns the value of a series of `/-/metrics`.
async fn metric(server: &Server, series: &str) -> u64 {
    let metrics = server.get("/-/metrics").await.body;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("{series} is missing from {metrics}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn what_a_door_ignores_is_counted_and_misspelt_names_by_what_was_meant() {
    let server = Server::start().await;
    let [points, not_worn, lists] = [
        r#"health_ingest_ignored_total{route="/write",reason="kind_not_stored"}"#,
        r#"health_ingest_ignored_total{route="/write",reason="not_worn"}"#,
        r#"health_ingest_ignored_total{route="/ingest/health-connect",reason="kind_not_stored"}"#,
    ];
    for series in [points, not_worn, lists] {
        assert_eq!(metric(&server, series).await, 0, "{series}");
    }
    let lines =
        "health hr=71\nhealth Heart_Rate=70\ncpu usage_idle=1\nhealth heart_rate=0\nhealth,User_id=5 steps=1i,kcal=2\n";
    assert_eq!(post(&server, "/write?user_id=1", &[], lines).await.status, 204);
    let body = r#"{"app_version":"1","sleep":[{},{}],"total_calories":[{}]}"#;
    let response = post(&server, "/ingest/health-connect?user_id=1", &[JSON], body).await;
    assert_eq!(response.status, 200, "{response:?}");
    for (series, count) in [
        (points, 3),
        (not_worn, 1),
        (lists, 3),
        (r#"health_ingest_misspelt_names_total{meant="heart_rate"}"#, 2),
        (r#"health_ingest_misspelt_names_total{meant="calories"}"#, 1),
        (r#"health_ingest_misspelt_names_total{meant="user_id"}"#, 1),
        (r#"health_ingest_misspelt_names_total{meant="steps"}"#, 0),
    ] {
        assert_eq!(metric(&server, series).await, count, "{series}");
    }
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
