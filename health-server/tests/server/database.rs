//! Databases as operators set them up: roles with few rights, read-only databases, encodings, constraints, locks.

use std::time::Duration;

use health_core::{Config, Error, Health, SetupError, grants};
use serde_json::Value;
use test_support::{TestDatabase, is_on_citus};
use tokio_postgres::{Client, NoTls};

use crate::{
    client::Response,
    support::{Server, counts, listed_errors, record, records, until_ok},
};

/// An ingest deadline that a test can wait for, longer than a writer waits before it asks who holds a lock.
const DEADLINE: Duration = Duration::from_secs(4);

/// An ingest deadline that is longer than a test waits for a response.
const NEVER: Duration = Duration::from_hours(1);

async fn admin(database: &TestDatabase) -> Client {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Returns a URL as another role, or of another database, of the same PostgreSQL. The name is percent-encoded.
fn url_of(database: &TestDatabase, role: &str, name: &str) -> String {
    let owner: tokio_postgres::Config = database.url().parse().unwrap();
    let owner = format!("//{}@", owner.get_user().unwrap());
    database.url_of(name).replacen(&owner, &format!("//{role}@"), 1)
}

/// Creates a role that may do nothing, not even what PostgreSQL lets everybody do. Returns its name and its URL.
async fn role(database: &TestDatabase, admin: &Client) -> (String, String) {
    let (name, database_name) = (format!("{}_app", database.name()), database.name());
    let statements = format!(
        "CREATE ROLE {name} LOGIN; REVOKE ALL ON DATABASE {database_name} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC"
    );
    admin.batch_execute(&statements).await.unwrap();
    let url = url_of(database, &name, database.name());
    (name, url)
}

async fn grant(database: &TestDatabase, admin: &Client, role: &str) {
    let config = Config::from_url(database.url()).unwrap();
    admin
        .batch_execute(&grants(&config, role).await.unwrap())
        .await
        .unwrap();
}

/// Opens a database that cannot be used. Returns the error.
async fn refusal(url: &str) -> Error {
    match Health::open(Config::from_url(url).unwrap()).await {
        Ok(_) => panic!("the database was accepted"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_role_with_the_printed_grants_can_do_everything_and_create_nothing() {
    let database = TestDatabase::new().await;
    let admin = admin(&database).await;
    let (name, url) = role(&database, &admin).await;
    grant(&database, &admin, &name).await;
    let server = Server::with_database(database, Some(&url), |_, core| core.settle = Duration::from_millis(1)).await;
    let mut feed = server.subscribed("").await;
    assert_eq!(counts(&server.post("x-ndjson", records(1, 5)).await), [5, 5, 0, 0]);
    assert_eq!(feed.event().await["event"], "sample");
    let changed = record(1, 0).replace("70", "71");
    assert_eq!(counts(&server.post("json", changed).await), [1, 0, 1, 0]);
    // Enough rows for COPY.
    assert_eq!(
        counts(&server.post("x-ndjson", records(2, 600)).await),
        [600, 600, 0, 0]
    );
    assert_eq!(server.get("/users").await.status, 200);
    assert_eq!(server.samples(2).await, 600);
    let response = server.get("/-/ready").await;
    assert_eq!(response.status, 200, "{response:?}");
    let erased = server.connect().await.request("DELETE", "/users/1", &[], b"").await;
    assert_eq!(erased.status, 204, "{erased:?}");
    let sql = server.sql().await;
    // Commits of the roller prove that it has its rights as well.
    let sealed = "SELECT count(*) FROM health_rollups WHERE user_id = 2";
    while sql.query_one(sealed, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    let created = "SELECT count(*) FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = $1)";
    assert_eq!(sql.query_one(created, &[&name]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_role_that_lacks_a_right_is_told_what_to_grant() {
    let database = TestDatabase::new().await;
    let client = admin(&database).await;
    let (name, url) = role(&database, &client).await;
    let check = |error: &Error, parts: &[&str]| {
        let message = error.chain();
        for part in parts.iter().chain([&name.as_str(), &database.name()]) {
            assert!(message.contains(part), "{part} is missing: {message}");
        }
        assert!(!error.is_retryable(), "{message}");
    };
    check(&refusal(&url).await, &["GRANT CONNECT ON DATABASE"]);
    let connect = format!("GRANT CONNECT ON DATABASE {} TO {name}", database.name());
    client.batch_execute(&connect).await.unwrap();
    check(
        &refusal(&url).await,
        &["--print-grants", "GRANT USAGE, CREATE ON SCHEMA \"public\""],
    );
    let usage = format!("GRANT USAGE ON SCHEMA public TO {name}");
    client.batch_execute(&usage).await.unwrap();
    check(&refusal(&url).await, &["may not read", "--print-grants"]);
    grant(&database, &client, &name).await;
    Health::open(Config::from_url(&url).unwrap()).await.unwrap();

    let missing = url_of(&database, &name, "missing_db");
    let message = refusal(&missing).await.chain();
    let statement = format!("CREATE DATABASE \"missing_db\" OWNER \"{name}\" ENCODING 'UTF8'");
    assert!(message.contains(&statement), "{message}");
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_named_until_it_is_back() {
    let database = TestDatabase::new().await;
    let admin = admin(&database).await;
    let (name, url) = role(&database, &admin).await;
    grant(&database, &admin, &name).await;
    let server = Server::with_database(database, Some(&url), |_, _| {}).await;
    for right in ["INSERT ON health_metrics", "USAGE ON SEQUENCE health_batch_numbers"] {
        admin
            .batch_execute(&format!("REVOKE {right} FROM {name}"))
            .await
            .unwrap();
        let response = server.get("/-/ready").await;
        assert_eq!(response.status, 503, "{right}: {response:?}");
        assert!(response.problem().contains("--print-grants"), "{response:?}");
        // The second request cannot use a batch number that was taken before.
        for second in [0, 1] {
            let response = server.post("json", record(9, second)).await;
            if response.status != 200 {
                assert_eq!(
                    (response.status, counts(&response)),
                    (503, [0; 4]),
                    "{right}: {response:?}"
                );
                assert!(response.problem().contains("lacks a right"), "{response:?}");
            }
        }
        admin.batch_execute(&format!("GRANT {right} TO {name}")).await.unwrap();
        assert_eq!(server.post("json", record(1, 0)).await.status, 200);
        assert_eq!(server.get("/-/ready").await.status, 200);
    }
}

/// What a migration of a newer version does, if this version would break a promise.
#[tokio::test]
async fn a_server_that_a_newer_one_has_made_outdated_says_so_and_answers_queries() {
    let server = Server::start().await;
    assert_eq!(server.post("json", record(1, 0)).await.status, 200);
    let sql = server.sql().await;
    sql.batch_execute("UPDATE health_sealing SET required_version = 1000")
        .await
        .unwrap();
    let refused = server.post("json", record(1, 1)).await;
    assert_eq!((refused.status, counts(&refused)), (503, [0; 4]), "{refused:?}");
    assert!(
        refused.problem().contains("version 1000") && refused.problem().contains("update it"),
        "{refused:?}"
    );
    let erased = server.connect().await.request("DELETE", "/users/1", &[], b"").await;
    assert_eq!(erased.status, 503, "{erased:?}");
    let ready = server.get("/-/ready").await;
    assert!(
        ready.status == 503 && ready.problem().contains("update it"),
        "{ready:?}"
    );
    assert_eq!(server.samples(1).await, 1);
}

#[tokio::test]
async fn a_database_that_is_set_to_read_only_answers_and_stores_again_without_a_restart() {
    let database = TestDatabase::new().await;
    let admin = admin(&database).await;
    let read_only = |value| {
        let name = database.name();
        format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}")
    };
    let (on, off) = (read_only("on"), read_only("off"));
    admin.batch_execute(&on).await.unwrap();
    let server = Server::with_database(database, None, |_, core| core.ingest_deadline = NEVER).await;
    let mut feed = server.subscribed("").await;
    assert_eq!(server.samples(1).await, 0);
    let ready = server.get("/-/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.problem().contains("read-only"), "{ready:?}");
    // At once, because the test does not wait for the deadline.
    let refused = server.post("json", record(1, 0)).await;
    assert_eq!((refused.status, counts(&refused)), (503, [0; 4]), "{refused:?}");
    assert!(refused.problem().contains("read-only"), "{refused:?}");
    let erased = server.connect().await.request("DELETE", "/users/1", &[], b"").await;
    assert_eq!(erased.status, 503, "{erased:?}");

    admin.batch_execute(&off).await.unwrap();
    while server.post("json", record(1, 0)).await.status != 200 {}
    while server.get("/-/ready").await.status != 200 {}
    assert_eq!(feed.sample().await["user_id"], 1);
    while server
        .connect()
        .await
        .request("DELETE", "/users/1", &[], b"")
        .await
        .status
        != 204
    {}
}

#[tokio::test]
async fn a_read_only_database_without_the_schema_is_refused_with_the_remedy() {
    let database = TestDatabase::empty().await;
    let name = database.name();
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    admin(&database).await.batch_execute(&read_only).await.unwrap();
    let error = refusal(database.url()).await;
    assert!(matches!(error, Error::Setup(SetupError::ReadOnly { .. })), "{error:?}");
    assert!(error.to_string().contains("health-server migrate"), "{error}");
}

#[tokio::test]
async fn an_encoding_that_cannot_hold_every_text_is_refused_by_name() {
    let database = TestDatabase::empty().await;
    let client = admin(&database).await;
    for (encoding, is_accepted) in [
        ("LATIN1", false),
        ("EUC_JP", false),
        ("SQL_ASCII", true),
        ("UTF8", true),
    ] {
        let name = format!("{}_{}", database.name(), encoding.to_lowercase());
        let create =
            format!("CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
        client.batch_execute(&create).await.unwrap();
        let url = url_of(&database, "postgres", &name);
        if is_accepted {
            Health::open(Config::from_url(&url).unwrap())
                .await
                .unwrap()
                .close()
                .await
                .unwrap();
        } else {
            let message = refusal(&url).await.chain();
            for part in [&name, encoding, "ENCODING 'UTF8' TEMPLATE template0"] {
                assert!(message.contains(part), "{part} is missing: {message}");
            }
        }
        client
            .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_database_that_the_server_creates_has_the_encoding_utf8() {
    let database = TestDatabase::empty().await;
    let client = admin(&database).await;
    let name = format!("{} \"quoted\"", database.name());
    let url = url_of(&database, "postgres", &name.replace(' ', "%20").replace('"', "%22"));
    Health::open(Config::from_url(&url).unwrap())
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    let encoding = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = $1";
    let row = client.query_one(encoding, &[&name]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "UTF8");
    let drop = format!("DROP DATABASE \"{}\" WITH (FORCE)", name.replace('"', "\"\""));
    client.batch_execute(&drop).await.unwrap();
}

/// What an operator may add to the table so that PostgreSQL refuses rows with 7 steps. The first also runs on a
/// cluster.
const REFUSALS: [&str; 3] = [
    "ALTER TABLE health_metrics ADD CHECK (steps <> 7)",
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN IF NEW.steps = 7 THEN RAISE 'no'; END IF; RETURN NEW; END $$; \
     CREATE TRIGGER refuse BEFORE INSERT ON health_metrics FOR EACH ROW EXECUTE FUNCTION refuse()",
    "ALTER TABLE health_metrics ENABLE ROW LEVEL SECURITY; \
     CREATE POLICY rows ON health_metrics USING (true) WITH CHECK (steps <> 7)",
];

fn refusals() -> &'static [&'static str] {
    if is_on_citus() {
        eprintln!("left out: Citus refuses triggers, and it inserts by COPY, which refuses row-level security");
        &REFUSALS[..1]
    } else {
        &REFUSALS
    }
}

#[tokio::test]
async fn a_row_that_the_database_refuses_is_named_and_its_neighbours_are_stored() {
    for refusal in refusals() {
        let database = TestDatabase::new().await;
        let admin = admin(&database).await;
        let (name, url) = role(&database, &admin).await;
        grant(&database, &admin, &name).await;
        admin.batch_execute(refusal).await.unwrap();
        let server = Server::with_database(database, Some(&url), |_, _| {}).await;
        // Users of several shards. The steps are the last digit of the second. One record is invalid by our own rules.
        let mut lines: Vec<_> = (0..40).map(|second| record(second % 3 + 1, second)).collect();
        lines[3] = "{}".to_owned();
        let response = server.post("x-ndjson", lines.join("\n")).await;
        assert_eq!(response.status, 422, "{refusal}: {response:?}");
        assert_eq!(counts(&response), [35, 35, 0, 0], "{refusal}");
        assert_eq!(response.json()["rejected"], 5);
        let mut errors = listed_errors(&response);
        errors.retain(|(index, _)| *index != 3);
        errors.sort_by_key(|(index, _)| *index);
        assert_eq!(errors, [7, 17, 27, 37].map(|index| (index, Value::Null)), "{refusal}");
        assert!(
            !response.body.contains("check") && !response.body.contains("policy"),
            "{response:?}"
        );
        let stored = server.samples(1).await + server.samples(2).await + server.samples(3).await;
        assert_eq!(stored, 35, "{refusal}");
        assert_eq!(server.get("/-/ready").await.status, 200);
    }
}

/// Sends requests until the refusal names this reason. On a busy machine, the server may not know it before the first
/// deadline.
async fn refused_because(send: impl AsyncFn() -> Response, reason: &str) {
    let mut attempts = 1..=5;
    loop {
        let response = send().await;
        assert_eq!(response.status, 503, "{response:?}");
        if response.problem().contains(reason) {
            return;
        }
        assert!(attempts.next().is_some(), "the reason is not {reason}: {response:?}");
    }
}

#[tokio::test]
async fn a_locked_table_and_a_cancelled_statement_are_named_as_the_reason() {
    let database = TestDatabase::new().await;
    let mut sql = admin(&database).await;
    let server = Server::with_database(database, None, |_, core| core.ingest_deadline = DEADLINE).await;
    assert_eq!(server.post("json", record(1, 0)).await.status, 200);
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    refused_because(async || server.post("json", record(1, 1)).await, "locked").await;
    // The writer still waits. Its statement is cancelled again and again.
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = 'health writer' AND wait_event_type = 'Lock'";
    let post = async || {
        let mut post = Box::pin(server.post("json", record(1, 2)));
        loop {
            tokio::select! {
                response = &mut post => break response,
                cancelled = lock.query_one(cancel, &[]) => assert!(cancelled.is_ok()),
            }
        }
    };
    refused_because(post, "cancelled").await;
    lock.rollback().await.unwrap();
    until_ok(|| server.post("json", record(1, 3))).await;
}

#[tokio::test]
async fn sessions_say_what_they_are_for() {
    let server = Server::start().await;
    assert_eq!(server.post("json", record(1, 0)).await.status, 200);
    assert_eq!(server.samples(1).await, 1);
    let names = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()";
    let sql = server.sql().await;
    for name in ["health writer", "health reader", "health feed", "health summaries"] {
        // The roller and the poller connect soon after the start.
        while !sql
            .query(names, &[])
            .await
            .unwrap()
            .iter()
            .any(|row| row.get::<_, &str>(0) == name)
        {}
    }
}
