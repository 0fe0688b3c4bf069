//! InfluxDB's line protocol.

use serde_json::json;

use super::support::{JSON, gzip, post, steps, totals};
use crate::support::{Server, counts};

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

/// The bytes are those of the serializer and of the outputs `influxdb_v2` and `influxdb` of Telegraf 1.30, with one
/// point that has a value out of range.
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
