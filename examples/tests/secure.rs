//! `simulate` and `tail` against a server with TLS and tokens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::Output,
    sync::Arc,
    time::Duration,
};

use health_core::{Config, Health, access::TokenAdmin, token::NewToken};
use health_server::{Listeners, ServerLimits, ServerTls, run};
use test_support::{Authority, TestDatabase, TestProcess, test_directory};
use tokio::{process::Command, time::timeout};

/// Longer than any step of a test takes.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Returns a command for an example, which `cargo test` builds next to the tests.
fn example(name: &str, args: &[&str], token: Option<&str>) -> Command {
    let this_test = env::current_exe().unwrap();
    let program = this_test.ancestors().nth(2).unwrap().join("examples").join(name);
    let mut command = Command::new(program);
    command.args(args).env_remove("HEALTH_TOKEN").kill_on_drop(true);
    if let Some(token) = token {
        command.env("HEALTH_TOKEN", token);
    }
    command
}

async fn output(mut command: Command) -> Output {
    timeout(TIMEOUT, command.output())
        .await
        .expect("an end in time")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_and_tail_work_by_tls_with_a_token_and_say_what_is_wrong() {
    let database = TestDatabase::new().await;
    let config = Config::from_url(database.url()).unwrap();
    let mut admin = TokenAdmin::connect(&config).await.unwrap();
    let token = NewToken {
        name: "gateway".parse().unwrap(),
        scopes: "ingest,read".parse().unwrap(),
        users: None,
        valid_for: None,
    };
    let secret = admin.create(&token).await.unwrap().as_str().to_owned();
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let certificate = authority.sign("health", &["127.0.0.1"]);
    let directory = test_directory();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ca = write("ca.pem", &authority.certificate());
    let other_ca = write("other.pem", &other.certificate());
    let pem = write("server.pem", &certificate.certificate);
    let key = write("server.key", &certificate.key);
    let tls = Arc::new(ServerTls::load(pem.as_ref(), key.as_ref()).unwrap());
    let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0")
        .await
        .unwrap()
        .with_tls(tls);
    let (http, feed) = (listeners.http_address(), listeners.feed_address());
    let health = Health::open(config).await.unwrap();
    tokio::spawn(run(listeners, health, ServerLimits::default(), std::future::pending()));
    let (https, tls_feed) = (format!("https://{http}"), format!("tls://{feed}"));

    let simulate = |server: &str, ca: &str, token: Option<&str>| {
        let args = ["--server", server, "--ca", ca, "--interval", "10ms", "--for", "1s"];
        output(example("simulate", &args, token))
    };
    let mut tail = TestProcess::start(example("tail", &["--feed", &tls_feed, "--ca", &ca], Some(&secret)));
    let sent = simulate(&https, &ca, Some(&secret)).await;
    assert!(sent.status.success(), "{sent:?}");
    // `tail` may have subscribed after the first simulation.
    let more = example("simulate", &["--server", &https, "--ca", &ca], Some(&secret));
    let more = TestProcess::start(more);
    assert!(timeout(TIMEOUT, tail.line_after("\"user_id\":101")).await.is_ok());
    more.kill().await;

    // The flag for the file wins over the variable.
    let token_file = write("token", &secret);
    fs::set_permissions(&token_file, Permissions::from_mode(0o600)).unwrap();
    let args = [
        "--server",
        &https,
        "--ca",
        &ca,
        "--for",
        "1s",
        "--token-file",
        &token_file,
    ];
    let sent = output(example("simulate", &args, Some("hlt_wrong"))).await;
    assert!(sent.status.success(), "{sent:?}");

    let plain = format!("http://{http}");
    for (server, ca, token, expected) in [
        (&https, &other_ca, Some(secret.as_str()), "not from a trusted authority"),
        (&https, &ca, None, "Set HEALTH_TOKEN or use --token-file."),
        (
            &https,
            &ca,
            Some("hlt_wrong"),
            "Use another token (`health-server token create --name NAME --scope ingest,read`).",
        ),
        (&plain, &ca, Some(secret.as_str()), "This port speaks TLS"),
    ] {
        let failed = simulate(server, ca, token).await;
        let message = String::from_utf8(failed.stderr).unwrap();
        assert!(!failed.status.success() && message.contains(expected), "{message}");
        assert!(
            !message.contains(&secret) && !message.contains("hlt_wrong"),
            "{message}"
        );
    }
    let failed = output(example(
        "tail",
        &["--feed", &tls_feed, "--ca", &other_ca],
        Some(&secret),
    ))
    .await;
    let message = String::from_utf8(failed.stderr).unwrap();
    assert!(message.contains("not from a trusted authority"), "{message}");
    admin.revoke("gateway").await.unwrap();
    assert_eq!(timeout(TIMEOUT, tail.wait()).await.unwrap().code(), Some(1));
}
