//! Both ends of every legal range over HTTP and on the feed, and the first value beyond.

use chrono::{TimeDelta, Utc};
use health_core::format_timestamp;

use crate::support::{Server, counts, records};

/// One record with this member in place of the usual one.
fn record_with(member: &str) -> String {
    let members = [
        ("user_id", "1"),
        ("timestamp", r#""2025-03-02T00:00:00Z""#),
        ("source", r#""""#),
        ("steps", "1"),
    ];
    let usual = members
        .iter()
        .filter(|(name, _)| !member.starts_with(&format!("\"{name}\"")))
        .map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", usual.chain([member.to_owned()]).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn a_record_is_accepted_up_to_both_ends_of_every_range_and_refused_beyond() {
    let server = Server::start().await;
    let time = |member: &str| format!("\"timestamp\":\"{member}\"");
    let ahead = |seconds| time(&format_timestamp(Utc::now() + TimeDelta::seconds(seconds)));
    let source = |name: &str| format!("\"source\":\"{name}\"");
    let cases = [
        (r#""user_id":0"#.to_owned(), 422),
        (r#""user_id":1"#.to_owned(), 200),
        (r#""user_id":9223372036854775807"#.to_owned(), 200),
        (r#""user_id":9223372036854775808"#.to_owned(), 422),
        (r#""heart_rate":19.999"#.to_owned(), 422),
        (r#""heart_rate":20"#.to_owned(), 200),
        (r#""heart_rate":250"#.to_owned(), 200),
        (r#""heart_rate":250.001"#.to_owned(), 422),
        (r#""steps":-1"#.to_owned(), 422),
        (r#""steps":0"#.to_owned(), 200),
        (r#""steps":100000"#.to_owned(), 200),
        (r#""steps":100001"#.to_owned(), 422),
        (r#""calories":-0.001"#.to_owned(), 422),
        (r#""calories":0"#.to_owned(), 200),
        (r#""calories":10000"#.to_owned(), 200),
        (r#""calories":10000.001"#.to_owned(), 422),
        (time("1999-12-31T23:59:59.999999Z"), 422),
        (time("2000-01-01T00:00:00Z"), 200),
        // The limit is 5 minutes. The margin is for the time that the request takes.
        (ahead(299), 200),
        (ahead(360), 422),
        (time("9999-12-31T23:59:59.999999Z"), 422),
        (source(""), 200),
        (source(&"a".repeat(64)), 200),
        (source(&"a".repeat(65)), 422),
        (source(&"\u{20ac}".repeat(21)), 200),
        (source(&"\u{20ac}".repeat(22)), 422),
        (source(&"\u{10ffff}".repeat(16)), 200),
        (source(&("\u{10ffff}".repeat(16) + "a")), 422),
    ];
    for (member, expected) in cases {
        let record = record_with(&member);
        let response = server.post("json", &record).await;
        assert_eq!(response.status, expected, "{record} {response:?}");
        assert_eq!(counts(&response)[0], i64::from(expected == 200), "{record}");
    }
}

#[tokio::test]
async fn queries_answer_up_to_both_ends_of_every_range_and_refuse_what_is_beyond() {
    const ALL: &str = "start=0000-01-01T00:00:00Z&end=9999-12-31T23:59:59.999999Z";
    let server = Server::start().await;
    let minutes = |count: i64| {
        let start = "2024-12-25T00:00:00Z".parse::<chrono::DateTime<Utc>>().unwrap();
        let end = format_timestamp(start + TimeDelta::minutes(count));
        format!("start={}&end={end}&bucket=1m", format_timestamp(start))
    };
    for user in [1, i64::MAX] {
        server.post("x-ndjson", records(user, 100)).await;
        let mut cases = vec![
            (format!("/metrics?user_id={user}&{ALL}"), 200),
            (format!("/metrics/percentiles?user_id={user}&{ALL}&p=0,100"), 200),
            (format!("/metrics/percentiles?user_id={user}&{ALL}&p=-0.001"), 400),
            (format!("/metrics/percentiles?user_id={user}&{ALL}&p=100.001"), 400),
            (format!("/samples?user_id={user}&{ALL}"), 200),
            (format!("/metrics/series?user_id={user}&{}", minutes(11_000)), 200),
            (format!("/metrics/series?user_id={user}&{}", minutes(11_001)), 400),
            (
                format!("/metrics?user_id={user}&start=9999-12-31T23:59:59.999998Z&end=9999-12-31T23:59:59.999999Z"),
                200,
            ),
            (
                format!("/metrics?user_id={user}&start=0000-01-01T00:00:00Z&end=0000-01-01T00:00:00.000001Z"),
                200,
            ),
            (
                format!("/metrics?user_id={user}&start=2025-01-01T00:00:00Z&end=2025-01-01T00:00:00Z"),
                400,
            ),
            (
                format!("/metrics?user_id={user}&start=2025-01-01T00:00:00Z&end=10000-01-01T00:00:00Z"),
                400,
            ),
            (
                format!("/metrics?user_id={user}&start=-0001-12-31T00:00:00Z&end=2025-01-01T00:00:00Z"),
                400,
            ),
            // In UTC these are in the years 10000 and -1.
            (
                format!("/metrics?user_id={user}&start=2025-01-01T00:00:00Z&end=9999-12-31T23:59:59-01:00"),
                400,
            ),
            (
                format!("/metrics?user_id={user}&start=0000-01-01T00:00:00%2B01:00&end=2025-01-01T00:00:00Z"),
                400,
            ),
        ];
        for bucket in ["1m", "5m", "15m", "1h", "1d", "1w"] {
            for zone in ["UTC", "Pacific/Kiritimati", "Etc/GMT%2B12"] {
                cases.push((
                    format!("/metrics/series?user_id={user}&{ALL}&bucket={bucket}&tz={zone}"),
                    400,
                ));
            }
        }
        for (path, expected) in cases {
            let response = server.get(&path).await;
            assert_eq!(response.status, expected, "{path} {response:?}");
        }
        assert_eq!(
            server.get(&format!("/metrics?user_id={user}&{ALL}")).await.json()["samples"],
            100
        );
    }
    for (query, expected) in [
        ("user_id=0", 400),
        ("user_id=9223372036854775808", 400),
        ("user_id=-1", 400),
    ] {
        assert_eq!(
            server.get(&format!("/metrics?{query}&{ALL}")).await.status,
            expected,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_series_over_clock_changes_and_a_year_end_adds_up_to_its_range() {
    let server = Server::start().await;
    let start = "2024-10-26T00:00:00Z".parse::<chrono::DateTime<Utc>>().unwrap();
    let body: Vec<String> = (0..24 * 70)
        .map(|hour| {
            let time = format_timestamp(start + TimeDelta::hours(hour) + TimeDelta::minutes(hour % 60));
            format!("{{\"user_id\":1,\"timestamp\":\"{time}\",\"steps\":{}}}\n", hour % 7)
        })
        .collect();
    assert_eq!(server.post("x-ndjson", body.concat()).await.status, 200);
    let range = "start=2024-10-26T00:00:00Z&end=2025-01-04T00:00:00Z";
    let whole = server.get(&format!("/metrics?user_id=1&{range}")).await.json();
    assert_eq!(whole["samples"], 24 * 70);
    for zone in ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"] {
        for bucket in ["1h", "1d", "1w"] {
            let path = format!("/metrics/series?user_id=1&{range}&bucket={bucket}&tz={zone}");
            let series = server.get(&path).await.json();
            let buckets = series["buckets"].as_array().unwrap();
            for field in ["samples", "total_steps"] {
                let sum: i64 = buckets.iter().map(|bucket| bucket[field].as_i64().unwrap()).sum();
                assert_eq!(whole[field], sum, "{path} {field}");
            }
            for pair in buckets.windows(2) {
                assert_eq!(pair[0]["end"], pair[1]["start"], "{path}");
            }
        }
    }
}

#[tokio::test]
async fn pages_of_users_and_erasing_work_at_both_ends_of_the_ids() {
    let server = Server::start().await;
    let users = [1, 2, i64::MAX - 1, i64::MAX];
    for user in users {
        server.post("x-ndjson", records(user, 3)).await;
    }
    for limit in [1, 2, 3, 4, 5, 1000] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/users?limit={limit}{after}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let page = page.json();
            found.extend(
                page["users"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|user| user["user_id"].as_i64().unwrap()),
            );
            let Some(next) = page["next"].as_i64() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(found, users, "pages of {limit}");
    }
    for (query, expected) in [
        ("limit=0", 400),
        ("limit=1001", 400),
        ("after=9223372036854775807", 200),
        ("after=9223372036854775808", 400),
    ] {
        assert_eq!(server.get(&format!("/users?{query}")).await.status, expected, "{query}");
    }
    for (user, expected) in [
        ("9223372036854775807", 204),
        ("9223372036854775807", 404),
        ("1", 204),
        ("1", 404),
    ] {
        let path = format!("/users/{user}");
        let response = server.connect().await.request("DELETE", &path, &[], b"").await;
        assert_eq!(response.status, expected, "{user}");
    }
    for user in ["0", "9223372036854775808", "99999999999999999999999"] {
        let path = format!("/users/{user}");
        let response = server.connect().await.request("DELETE", &path, &[], b"").await;
        assert!((400..500).contains(&response.status), "{user}: {response:?}");
    }
    assert_eq!((server.samples(2).await, server.samples(i64::MAX - 1).await), (3, 3));
}

#[tokio::test]
async fn cursors_at_both_ends_of_their_range_are_answered() {
    let server = Server::start().await;
    server.post("x-ndjson", records(1, 3)).await;
    for (cursor, resumed) in [
        ("0.00000000", true),
        ("0.ffffffff", false),
        ("9223372036854775807.00000000", false),
        ("9223372036854775807.ffffffff", false),
        ("9223372036854775808.00000000", false),
        ("18446744073709551615.ffffffff", false),
    ] {
        let mut feed = server.feed().await;
        feed.send(format!("SUBSCRIBE after={cursor}\n")).await;
        let subscribed = feed.event().await;
        assert_eq!(subscribed["event"], "subscribed", "{cursor}: {subscribed}");
        assert_eq!(subscribed["resumed"], resumed, "{cursor}: {subscribed}");
    }
}
