//! The dashboard of people: its queries against the views, by a role that may read nothing else.

use std::{fs, path::Path};

use serde_json::Value;
use test_support::{TestDatabase, is_on_citus};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn people() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/grafana/people.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns a query as Grafana sends it.
fn expanded(sql: &str) -> String {
    sql.replace(
        "$__timeGroup(timestamp, $__interval)",
        "date_bin('1 minute', timestamp, '2000-01-01T00:00:00Z')",
    )
    .replace(
        "$__timeFilter(timestamp)",
        "timestamp BETWEEN '2025-03-01T00:00:00Z' AND '2025-04-02T00:00:00Z'",
    )
    .replace("$__timeFrom()", "'2025-03-01T00:00:00Z'")
    .replace("$__timeTo()", "'2025-04-02T00:00:00Z'")
    .replace("$user", "101")
}

#[tokio::test]
async fn a_role_that_may_only_read_the_views_sees_what_the_dashboard_of_people_asks() {
    for is_distributed in [false, true] {
        check_dashboard(TestDatabase::distributed_if(is_distributed).await).await;
    }
}

async fn check_dashboard(database: TestDatabase) {
    let admin = connect(database.url()).await;
    let role = format!("grafana_{}", database.name());
    // On 2025-03-30 clocks in Berlin change, so that the day has 23 hours and begins at 23:00 UTC.
    admin
        .batch_execute(&format!(
            "INSERT INTO health_metrics (user_id, timestamp, source, heart_rate, steps, calories) VALUES \
             (101, '2025-03-29T22:59:00Z', 'phone', 50, 7, 1), \
             (101, '2025-03-29T23:01:00Z', 'phone', 60, 100, 5), (101, '2025-03-29T23:02:00Z', 'watch', 80, 300, NULL), \
             (101, '2025-03-30T21:59:00Z', 'phone', NULL, 50, 2), (101, '2025-03-30T22:00:00Z', 'phone', 90, 9, 1), \
             (202, '2025-03-30T12:00:00Z', '', 70, 1, 1); \
             CREATE ROLE {role} LOGIN; GRANT SELECT ON health_readings, health_days TO {role}; \
             ALTER ROLE {role} SET timezone = 'Europe/Berlin'"
        ))
        .await
        .unwrap();
    if is_on_citus() {
        // Citus reads the shards with the rights of the session, not of the owner of the view.
        let grant = format!("GRANT SELECT ON health_metrics TO {role}");
        admin.batch_execute(&grant).await.unwrap();
    }
    let owner = database.url().parse::<tokio_postgres::Config>().unwrap();
    let url = database
        .url()
        .replacen(&format!("//{}@", owner.get_user().unwrap()), &format!("//{role}@"), 1);
    let grafana = connect(&url).await;
    let days = "SELECT to_char(day, 'YYYY-MM-DD'), samples, average_heart_rate, min_heart_rate, max_heart_rate, steps, calories \
                FROM health_days WHERE user_id = 101 ORDER BY day";
    let rows: Vec<_> = grafana
        .query(days, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| {
            let numbers: (i64, Option<f64>, i64, f64) = (row.get(1), row.get(2), row.get(5), row.get(6));
            (row.get::<_, String>(0), numbers)
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("2025-03-29".to_owned(), (1, Some(50.0), 7, 1.0)),
            ("2025-03-30".to_owned(), (3, Some(70.0), 350, 7.0)),
            ("2025-03-31".to_owned(), (1, Some(90.0), 9, 1.0)),
        ]
    );

    let dashboard = people();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 4);
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let sql = expanded(target["rawSql"].as_str().unwrap());
            let rows = grafana
                .query(&sql, &[])
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            assert!(!rows.is_empty(), "{sql}");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let users = variables.iter().find(|variable| variable["name"] == "user").unwrap();
    let messages = grafana.simple_query(users["query"].as_str().unwrap()).await.unwrap();
    let ids = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    assert_eq!(ids.collect::<Vec<_>>(), ["101", "202"]);

    let samples = (!is_on_citus()).then_some("health_metrics");
    for hidden in samples.into_iter().chain(["health_tokens", "health_rollups"]) {
        let refused = grafana.query(&format!("SELECT * FROM {hidden}"), &[]).await;
        assert!(refused.is_err(), "{hidden}");
    }
    drop(grafana);
    admin
        .batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .unwrap();
}
