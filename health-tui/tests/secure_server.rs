//! The real binary against the real server with TLS and tokens.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Stdio, sync::Arc, time::Instant};

use health_core::{Config, Health, HeartRate, Readings, Sample, Source, UserId, access::TokenAdmin, token::NewToken};
use health_server::{Listeners, ServerLimits, ServerTls, run};
use support::{
    TIMEOUT,
    process::{health_tui, next_line},
    terminal::Terminal,
    tui,
};
use test_support::{Authority, Certificate, Signal, TestDatabase, TestProcess, test_directory};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// A database with tokens, and the files that clients and servers use.
struct World {
    health: Health,
    admin: TokenAdmin,
    authority: Authority,
    directory: test_support::TempDir,
    database: TestDatabase,
}

/// The addresses of a server.
struct Server {
    http: String,
    feed: String,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let config = Config::from_url(database.url()).unwrap();
        let world = Self {
            admin: TokenAdmin::connect(&config).await.unwrap(),
            health: Health::open(config).await.unwrap(),
            authority: Authority::new("authority"),
            directory: test_directory(),
            database,
        };
        world.write("ca.pem", &world.authority.certificate(), 0o644);
        world
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// Creates a token and returns its secret.
    async fn token(&mut self, name: &str, scopes: &str) -> String {
        let token = NewToken {
            name: name.parse().unwrap(),
            scopes: scopes.parse().unwrap(),
            users: None,
            valid_for: None,
        };
        self.admin.create(&token).await.unwrap().as_str().to_owned()
    }

    /// Starts a server on the database. Its tokens are those that exist by now.
    async fn server(&self, certificate: Option<&Certificate>) -> Server {
        let health = Health::open(Config::from_url(self.database.url()).unwrap())
            .await
            .unwrap();
        let mut listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await.unwrap();
        if let Some(certificate) = certificate {
            let path = self.write("server.pem", &certificate.certificate, 0o600);
            let key = self.write("server.key", &certificate.key, 0o600);
            listeners = listeners.with_tls(Arc::new(ServerTls::load(&path, &key).unwrap()));
        }
        let server = Server {
            http: listeners.http_address().to_string(),
            feed: listeners.feed_address().to_string(),
        };
        tokio::spawn(run(listeners, health, ServerLimits::default(), std::future::pending()));
        server
    }

    async fn secure_server(&self) -> Server {
        let certificate = self.authority.sign("health", &["localhost", "127.0.0.1"]);
        self.server(Some(&certificate)).await
    }

    async fn ingest(&self, user: i64) {
        let readings = Readings {
            heart_rate: Some(HeartRate::new(72.0).unwrap()),
            ..Readings::default()
        };
        let user = UserId::new(user).unwrap();
        let sample = Sample::new(user, chrono::Utc::now(), Source::default(), readings).unwrap();
        self.health.ingest([sample]).await.unwrap();
    }
}

/// Starts the binary with a token in the environment, as the README says. Its standard error is a pipe.
fn start(args: &[&str], token: Option<&str>) -> TestProcess {
    let mut command = health_tui(args);
    command.stderr(Stdio::piped());
    if let Some(token) = token {
        command.env("HEALTH_TOKEN", token);
    }
    TestProcess::start(command)
}

/// Returns the first line that a program writes to standard error.
async fn first_message(process: &mut TestProcess) -> String {
    let mut messages = BufReader::new(process.child().stderr.take().unwrap()).lines();
    let message = next_line(&mut messages).await.unwrap();
    // Keeps the pipe open.
    tokio::spawn(async move { while let Ok(Some(_)) = messages.next_line().await {} });
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_works_by_tls_with_a_token_and_says_when_it_is_revoked() {
    let mut world = World::new().await;
    let secret = world.token("nurse", "read").await;
    let file = world.write("token", &format!("{secret}\n"), 0o600);
    let server = world.secure_server().await;
    world.ingest(4001).await;
    let url = format!("https://{}", server.http);
    let (file, ca) = (file.to_str().unwrap(), world.path("ca.pem"));
    let args = [
        "--server",
        &url,
        "--feed",
        &server.feed,
        "--token-file",
        file,
        "--ca",
        &ca,
    ];
    // The flag for the file wins over the variable.
    let mut command = tui(&args);
    command.env("HEALTH_TOKEN", "hlt_wrong");
    let mut terminal = Terminal::open(command, 160, 36);
    terminal.wait_for("connected");
    // From a query by HTTP, and then from the feed.
    terminal.wait_for("4001");
    world.ingest(4002).await;
    terminal.wait_for("4002");

    world.admin.revoke("nurse").await.unwrap();
    terminal.wait_until("the reason without the token", |screen| {
        let text = screen.contents();
        assert!(!text.contains(&secret), "{text}");
        text.contains("the token is unknown or was revoked")
    });
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn record_and_plain_work_by_tls_with_a_token_and_end_when_it_is_revoked() {
    let mut world = World::new().await;
    let secret = world.token("nurse", "read").await;
    let server = world.secure_server().await;
    let (url, ca, recording) = (
        format!("https://{}", server.http),
        world.path("ca.pem"),
        world.path("recording"),
    );
    let args = ["--server", &url, "--feed", &server.feed, "--ca", &ca];
    let mut plain = start(&[&["--plain"], args.as_slice()].concat(), Some(&secret));
    let mut recorder = start(&[&["record", &recording], args.as_slice()].concat(), Some(&secret));
    for process in [&mut plain, &mut recorder] {
        assert_eq!(first_message(process).await, "connected");
    }
    world.ingest(101).await;
    assert!(plain.line_after(" user 101: ").await.starts_with("72 bpm"));
    let end = Instant::now() + TIMEOUT;
    while !fs::read_to_string(&recording).unwrap().contains("\"user_id\":101") {
        assert!(Instant::now() < end, "user 101 was not recorded");
        tokio::task::yield_now().await;
    }
    recorder.signal(Signal::INT);
    assert!(recorder.wait().await.success());
    world.admin.revoke("nurse").await.unwrap();
    assert_eq!(plain.wait().await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_tls_or_the_token_is_said_in_a_sentence() {
    let mut world = World::new().await;
    let (reader, writer) = (
        world.token("reader", "read").await,
        world.token("writer", "ingest").await,
    );
    let other = Authority::new("other");
    world.write("other.pem", &other.certificate(), 0o644);
    world.write("shared", &reader, 0o640);
    let secure = world.secure_server().await.feed;
    let plain = world.server(None).await.feed;
    let expired = world.authority.sign_expired("health", &["127.0.0.1"]);
    let expired = world.server(Some(&expired)).await.feed;
    let misnamed = world.authority.sign("health", &["health.example"]);
    let misnamed = world.server(Some(&misnamed)).await.feed;
    let (ca, other_ca, shared) = (world.path("ca.pem"), world.path("other.pem"), world.path("shared"));
    for (feed, ca, token, expected) in [
        (
            format!("tls://{secure}"),
            &other_ca,
            Some(&reader),
            "is not from a trusted authority: use --ca",
        ),
        (format!("tls://{expired}"), &ca, Some(&reader), "has expired: renew it"),
        (
            format!("tls://{misnamed}"),
            &ca,
            Some(&reader),
            "is not for 127.0.0.1, but for health.example",
        ),
        (format!("tls://{plain}"), &ca, Some(&reader), "does not speak TLS"),
        (format!("tcp://{secure}"), &ca, Some(&reader), "this port speaks TLS"),
        (
            format!("tls://{secure}"),
            &ca,
            None,
            "a token is needed: set HEALTH_TOKEN or use --token-file",
        ),
        (
            format!("tls://{secure}"),
            &ca,
            Some(&writer),
            "has the scope ingest, but this needs read: use another",
        ),
        (
            format!("tls://{secure}"),
            &ca,
            Some(&"hlt_wrong".to_owned()),
            "the token is unknown or was revoked",
        ),
        (
            format!("tls://{secure}"),
            &ca,
            Some(&"two words".to_owned()),
            "characters that no token has",
        ),
        (
            "tcp://health.invalid:8001".to_owned(),
            &ca,
            Some(&reader),
            "in plain text",
        ),
        (
            format!("tls://{secure}"),
            &shared,
            Some(&reader),
            "Write the path of a PEM file to --ca",
        ),
    ] {
        let mut process = start(&["--plain", "--feed", &feed, "--ca", ca], token.map(String::as_str));
        let message = first_message(&mut process).await;
        assert!(message.contains(expected), "{message} for {feed}");
        assert!(
            !message.contains(&reader) && !message.contains("hlt_wrong"),
            "{message}"
        );
        process.kill().await;
    }
    let mut process = start(&["--plain", "--feed", &plain, "--token-file", &shared], None);
    let message = first_message(&mut process).await;
    assert!(message.contains(&format!("chmod 600 {shared}")), "{message}");
    assert_eq!(process.wait().await.code(), Some(1));
}

#[tokio::test]
async fn the_token_is_in_no_output_of_the_program() {
    for args in [
        &["--print-config"] as &[&str],
        &["--help"],
        &["man"],
        &["completions", "bash"],
    ] {
        let mut process = start(args, Some("hlt_secret"));
        let mut errors = String::new();
        let output = process.rest_of_output().await;
        let mut stderr = process.child().stderr.take().unwrap();
        stderr.read_to_string(&mut errors).await.unwrap();
        assert!(
            !output.is_empty() && !(output + &errors).contains("hlt_secret"),
            "{args:?}"
        );
        assert!(process.wait().await.success());
    }
}
