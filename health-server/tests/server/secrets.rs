//! No value of a sample, token, password or database URL in the log, in answers about something else, or in metrics.

use std::process::Stdio;

use test_support::{TestDatabase, is_on_citus};

use crate::{
    client::Response,
    program::{Program, health_server},
};

/// Texts that occur only in values that the test plants.
const PLANTED: [&str; 9] = [
    "planted",
    "177.8125",
    "4321.0625",
    "17:53:41.98765",
    "-98765",
    "666.5",
    "666.25",
    "health_0123",
    "0123456789abcdef0123",
];

/// Refuses samples with 666.5 kcal.
const CONSTRAINT: &str = "ALTER TABLE health_metrics ADD CONSTRAINT no_such_calories CHECK (calories <> 666.5)";

/// Refuses samples with 666.25 kcal, with an error that has a text of the trigger.
const TRIGGER: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM 'planted-text'::int; RETURN NEW; END $$; \
     CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON health_metrics FOR EACH ROW WHEN (NEW.calories = 666.25) \
     EXECUTE FUNCTION refuse()";

fn sample(user: i64, calories: &str) -> String {
    format!(
        r#"{{"user_id":{user},"timestamp":"2025-03-02T17:53:41.98765Z","heart_rate":177.8125,"calories":{calories},"source":"planted-source"}}"#
    )
}

fn check(what: &str, text: &str, secrets: &[String]) {
    let planted = PLANTED.iter().copied().chain(secrets.iter().map(String::as_str));
    for secret in planted {
        assert!(!text.contains(secret), "{what} contains {secret:?}: {text}");
    }
}

/// Creates a token with the command line at the most verbose log, and checks that log.
async fn create_token(url: &str, name: &str, scope: &str) -> String {
    let mut command = health_server(&["token", "create", "--name", name, "--scope", scope]);
    command
        .env("HEALTH_LOG", "trace")
        .env("DATABASE_URL", url)
        .stdin(Stdio::null());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let secret = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let log = String::from_utf8(output.stderr).unwrap();
    check("the log of token create", &log, std::slice::from_ref(&secret));
    assert!(log.contains("created a token"), "{log}");
    secret
}

#[tokio::test]
async fn the_log_at_trace_and_the_metrics_have_no_values_tokens_or_passwords() {
    let database = TestDatabase::new().await;
    let (admin, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    // PostgreSQL's message about the first has the whole row in its detail.
    let mut refusals = vec![("666.5", "no_such_calories", CONSTRAINT)];
    if is_on_citus() {
        eprintln!("left out: Citus refuses the trigger");
    } else {
        refusals.push(("666.25", "SQLSTATE 22P02", TRIGGER));
    }
    for (_, _, refusal) in &refusals {
        admin.batch_execute(refusal).await.unwrap();
    }
    let role = database.url().parse::<tokio_postgres::Config>().unwrap();
    let role = role.get_user().unwrap();
    let url = database
        .url()
        .replacen(&format!("//{role}@"), &format!("//{role}:planted-password@"), 1);
    assert!(url.contains("planted-password"), "{url}");
    let all = create_token(&url, "all", "ingest,read,erase").await;
    let reader = create_token(&url, "reader", "read").await;
    let secrets = [all.clone(), reader.clone()];
    let server = Program::start(&url, "trace", &[]).await;
    let send = async |method: &str, path: &str, authorization: &str, body: &str| -> Response {
        let headers = [("authorization", authorization), ("content-type", "application/json")];
        server.request(method, path, &headers, body).await
    };
    let (all_header, reader_header) = (format!("Bearer {all}"), format!("Bearer {reader}"));
    let post = async |body: &str| send("POST", "/ingest", &all_header, body).await;

    assert_eq!(post(&sample(1, "4321.0625")).await.status, 200);
    assert_eq!(
        post(r#"{"user_id":1,"steps":-98765,"source":"planted"}"#).await.status,
        422
    );
    assert_eq!(post("{planted").await.status, 400);
    let bulk: Vec<_> = (1..=600).map(|user| sample(user, "4321.0625")).collect();
    assert_eq!(post(&format!("[{}]", bulk.join(","))).await.status, 200);
    for (refused, ..) in &refusals {
        let response = post(&sample(1, refused)).await;
        assert!(response.status >= 400, "{response:?}");
        check(
            "the answer about a refused row",
            &response.body.replace("planted-source", ""),
            &secrets,
        );
    }
    for authorization in ["Basic planted", "Bearer health_0123456789abcdef0123456789", "planted"] {
        let response = send("GET", "/users", authorization, "").await;
        assert_eq!(response.status, 401);
        check("the answer to a wrong token", &response.body, &secrets);
    }
    let response = send("DELETE", "/users/1", &reader_header, "").await;
    assert_eq!(response.status, 403);
    check("the answer to a token without the scope", &response.body, &secrets);
    let range = "user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    for path in ["samples", "metrics", "metrics/percentiles"] {
        let response = send("GET", &format!("/{path}?{range}"), &reader_header, "").await;
        assert_eq!(response.status, 200);
    }
    let response = send("GET", &format!("/metrics?{range}&planted=planted"), &reader_header, "").await;
    assert_eq!(response.status, 400);
    server.feed("AUTH planted\n", "error").await;
    server.feed("planted planted\n", "error").await;
    let feed = format!("AUTH {reader}\nSUBSCRIBE users=1\nSUBSCRIBE users=planted\n");
    server.feed(&feed, "error").await;

    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'health%' AND datname = $1";
    admin.execute(end, &[&database.name()]).await.unwrap();
    while post(&sample(2, "4321.0625")).await.status != 200 {}
    assert_eq!(send("DELETE", "/users/1", &all_header, "").await.status, 204);
    let metrics = send("GET", "/-/metrics", &reader_header, "").await;
    assert_eq!(metrics.status, 200);
    check("the metrics", &metrics.body, &secrets);

    let log = server.stop().await;
    for line in &log {
        check("the log", line, &secrets);
    }
    let log = log.join("\n");
    let reasons = refusals.iter().map(|(_, reason, _)| *reason);
    for expected in reasons.chain(["\"erase\"", "\"refuse\""]) {
        assert!(log.contains(expected), "{expected} is missing: {log}");
    }
}
