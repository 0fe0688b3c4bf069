//! Everything works over TLS with a client certificate, on a PostgreSQL that accepts nothing else.

#![cfg(test)]

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use chrono::{TimeDelta, Utc};
use health_core::{Config, Filter, Health, LiveEvent, Readings, Sample, Source, Steps, UserId};
use test_support::{Authority, TestCluster, test_directory};
use tokio::time::timeout;

/// Longer than a notification takes.
const TIMEOUT: Duration = Duration::from_secs(30);

fn sample(steps: i64) -> Sample {
    let readings = Readings {
        steps: Some(Steps::new(steps).unwrap()),
        ..Readings::default()
    };
    let time = Utc::now() - TimeDelta::seconds(steps);
    Sample::new(UserId::new(1).unwrap(), time, Source::default(), readings).unwrap()
}

#[tokio::test]
async fn writers_readers_and_notifications_between_two_servers_use_tls_only() {
    let (authority, directory) = (Authority::new("the authority"), test_directory());
    let cluster = TestCluster::start().await;
    let server = authority.sign("x", &["localhost"]);
    let installed = [
        ("ssl_cert_file", cluster.install("server.crt", &server.certificate)),
        ("ssl_key_file", cluster.install("server.key", &server.key)),
        ("ssl_ca_file", cluster.install("clients.crt", &authority.certificate())),
    ];
    let mut settings: Vec<_> = installed
        .iter()
        .map(|(name, path)| (*name, path.to_str().unwrap()))
        .collect();
    settings.push(("ssl", "on"));
    cluster.configure(&settings, "hostssl all all 127.0.0.1/32 cert").await;
    cluster.execute("CREATE ROLE patient LOGIN CREATEDB").await;

    let client = authority.sign("patient", &[]);
    let path = |name: &str, contents: &str| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let url = format!(
        "postgres://patient@localhost:{}/over_tls?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
        cluster.port(),
        path("root.crt", &authority.certificate()),
        path("client.crt", &client.certificate),
        path("client.key", &client.key),
    );
    // The first start creates the database as well.
    let (writing, listening) = (
        Health::open(Config::from_url(&url).unwrap()).await.unwrap(),
        Health::open(Config::from_url(&url).unwrap()).await.unwrap(),
    );
    let mut subscription = listening.subscribe(Filter::all());
    let receipt = writing.ingest([sample(1), sample(2)]).await.unwrap();
    assert_eq!(receipt.inserted, 2);
    for _ in 0..2 {
        let event = timeout(TIMEOUT, subscription.next()).await.expect("an event in time");
        assert!(matches!(event, Some(LiveEvent::Sample { .. })), "{event:?}");
    }
    let users = listening.users(10, None).await.unwrap().users;
    assert_eq!(users.len(), 1);

    let sessions = "SELECT count(*) FILTER (WHERE ssl AND client_dn IS NOT NULL), count(*) \
        FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'patient'";
    let row = cluster.connect().await.query_one(sessions, &[]).await.unwrap();
    let (over_tls, all): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(over_tls, all);
    // Each server has a poller; one has a writer, and the other has a reader.
    assert!(all >= 4, "{all} sessions");
    writing.close().await.unwrap();
    listening.close().await.unwrap();
}
