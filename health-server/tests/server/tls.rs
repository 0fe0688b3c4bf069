//! TLS on both ports: handshakes, wrong clients, and a certificate that is replaced while the server runs.

use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::PathBuf, sync::Arc, time::Duration};

use health_core::{Config, Health};
use health_server::{Listeners, ServerLimits, ServerTls, run};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tempfile::TempDir;
use test_support::{Authority, Certificate, Signal, TestDatabase, test_directory};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::program::Program;

/// Longer than anything here takes on a busy machine, so that a test that waits in vain fails.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A server with a certificate. It runs until the test ends.
struct SecureServer {
    http: SocketAddr,
    feed: SocketAddr,
    tls: Arc<ServerTls>,
    files: Files,
    _database: TestDatabase,
}

/// The files of a certificate and its key.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new(certificate: &Certificate) -> Self {
        let files = Self {
            directory: test_directory(),
        };
        files.write(certificate);
        files
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    fn write(&self, certificate: &Certificate) {
        fs::write(self.certificate(), &certificate.certificate).unwrap();
        fs::write(self.key(), &certificate.key).unwrap();
    }
}

impl SecureServer {
    async fn start(certificate: &Certificate) -> Self {
        let files = Files::new(certificate);
        let tls = Arc::new(ServerTls::load(&files.certificate(), &files.key()).unwrap());
        let database = TestDatabase::new().await;
        let health = Health::open(Config::from_url(database.url()).unwrap()).await.unwrap();
        let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0")
            .await
            .unwrap()
            .with_tls(Arc::clone(&tls));
        let (http, feed) = (listeners.http_address(), listeners.feed_address());
        assert_eq!(
            listeners.to_string(),
            format!("listening http=https://{http} feed={feed}")
        );
        tokio::spawn(run(listeners, health, ServerLimits::default(), std::future::pending()));
        Self {
            http,
            feed,
            tls,
            files,
            _database: database,
        }
    }

    /// Sends a request over TLS and returns the whole response.
    async fn get(&self, authority: &Authority, path: &str) -> String {
        let mut stream = connect(self.http, authority).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        timeout(TIMEOUT, stream.read_to_string(&mut response))
            .await
            .unwrap()
            .unwrap();
        response
    }
}

fn server_certificate(authority: &Authority) -> Certificate {
    authority.sign("health", &["localhost", "127.0.0.1"])
}

/// Connects as a client that trusts an authority.
async fn connect(address: SocketAddr, authority: &Authority) -> std::io::Result<TlsStream<TcpStream>> {
    connect_with(address, &trusting(authority)).await
}

/// Returns a client that trusts an authority. It resumes its sessions.
fn trusting(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

async fn connect_with(address: SocketAddr, client: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let handshake = TlsConnector::from(Arc::clone(client)).connect(name, stream);
    timeout(TIMEOUT, handshake)
        .await
        .expect("an end of the handshake in time")
}

/// Returns the certificate that a server shows.
async fn shown(address: SocketAddr, authority: &Authority) -> CertificateDer<'static> {
    let stream = connect(address, authority).await.unwrap();
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn http_and_the_feed_work_over_tls() {
    let authority = Authority::new("authority");
    let server = SecureServer::start(&server_certificate(&authority)).await;
    let response = server.get(&authority, "/users").await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");

    let mut feed = BufReader::new(connect(server.feed, &authority).await.unwrap());
    // The next event that is no heartbeat, which may come before any other if the machine is busy.
    let event = async |feed: &mut BufReader<TlsStream<TcpStream>>| loop {
        let mut line = String::new();
        timeout(TIMEOUT, feed.read_line(&mut line)).await.unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["event"] != "heartbeat" {
            return event;
        }
    };
    assert_eq!(event(&mut feed).await["event"], "hello");
    feed.get_mut().write_all(b"SUBSCRIBE\n").await.unwrap();
    assert_eq!(event(&mut feed).await["event"], "subscribed");
    let mut http = connect(server.http, &authority).await.unwrap();
    let body = r#"{"user_id":1,"steps":1}"#;
    let request = format!(
        "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    http.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(event(&mut feed).await["user_id"], 1);
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_ends_and_disturbs_nobody() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let server = SecureServer::start(&server_certificate(&authority)).await;
    for address in [server.http, server.feed] {
        assert!(connect(address, &other).await.is_err());
    }
    assert!(server.get(&authority, "/-/healthy").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_without_tls_is_told_what_is_wrong() {
    let authority = Authority::new("authority");
    let server = SecureServer::start(&server_certificate(&authority)).await;
    for (address, request, part) in [
        (
            server.http,
            "GET /users HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "https://",
        ),
        (server.feed, "SUBSCRIBE\n", "tls://"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        timeout(TIMEOUT, stream.read_to_string(&mut response))
            .await
            .unwrap()
            .unwrap();
        assert!(response.contains(part), "{response}");
    }
}

#[tokio::test]
async fn a_client_with_tls_on_a_port_without_it_ends_at_once() {
    let authority = Authority::new("authority");
    let server = crate::support::Server::start().await;
    for address in [server.http, server.feed] {
        assert!(connect(address, &authority).await.is_err());
    }
    assert_eq!(server.get("/-/healthy").await.status, 200);
}

#[tokio::test]
async fn a_certificate_is_replaced_while_the_server_runs_unless_the_new_one_is_bad() {
    let authority = Authority::new("authority");
    let server = SecureServer::start(&server_certificate(&authority)).await;
    let first = shown(server.http, &authority).await;
    server.files.write(&server_certificate(&authority));
    assert_eq!(shown(server.http, &authority).await, first, "not before it is asked to");
    server.tls.reload();
    let second = shown(server.http, &authority).await;
    assert_ne!(second, first);
    assert_eq!(shown(server.feed, &authority).await, second);

    let other_key = Certificate {
        key: server_certificate(&authority).key,
        ..server_certificate(&authority)
    };
    let not_pem = Certificate {
        certificate: "not PEM".to_owned(),
        ..server_certificate(&authority)
    };
    for bad in [other_key, not_pem] {
        server.files.write(&bad);
        server.tls.reload();
        assert_eq!(shown(server.http, &authority).await, second);
    }
    fs::remove_file(server.files.key()).unwrap();
    server.tls.reload();
    let metrics = server.get(&authority, "/-/metrics").await;
    assert!(metrics.contains("health_tls_failed_reloads_total 3"), "{metrics}");
    assert!(
        metrics.contains("health_tls_certificate_expiry_timestamp_seconds "),
        "{metrics}"
    );
}

#[tokio::test]
async fn versions_before_tls_1_2_are_refused_with_an_alert() {
    let authority = Authority::new("authority");
    let server = SecureServer::start(&server_certificate(&authority)).await;
    for address in [server.http, server.feed] {
        for minor_version in [1, 2] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&client_hello(minor_version)).await.unwrap();
            let mut answer = Vec::new();
            // The system may report the end as a reset.
            let _ = timeout(TIMEOUT, stream.read_to_end(&mut answer)).await.unwrap();
            let [alert, _, _, 0, 2, fatal, _] = answer[..] else {
                panic!("not an alert alone: {answer:?}")
            };
            assert_eq!((alert, fatal), (21, 2), "{answer:?}");
        }
    }
}

/// Returns the first record of a client that speaks TLS 1.0 (minor version 1) or 1.1 (2) and nothing later.
fn client_hello(minor_version: u8) -> Vec<u8> {
    // ECDHE with AES-128, on the curve P-256, and the signatures that every version of TLS knows.
    let suites = [0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f];
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0];
    let mut hello = vec![3, minor_version];
    hello.extend([7; 32]);
    hello.extend([0, 0, 6]);
    hello.extend(suites);
    hello.extend([1, 0, 0, 14]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

#[tokio::test]
async fn half_open_handshakes_disturb_nobody_and_are_given_up() {
    let authority = Authority::new("authority");
    let server = SecureServer::start(&server_certificate(&authority)).await;
    let beginnings: [&[u8]; 3] = [b"", &client_hello(3)[..1], &client_hello(3)[..20]];
    let mut half_open = Vec::new();
    for address in [server.http, server.feed] {
        for beginning in beginnings.iter().cycle().take(150) {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(beginning).await.unwrap();
            half_open.push(stream);
        }
    }
    let hello = async || {
        let mut line = String::new();
        let mut feed = BufReader::new(connect(server.feed, &authority).await.unwrap());
        timeout(TIMEOUT, feed.read_line(&mut line)).await.unwrap().unwrap();
        line
    };
    assert!(server.get(&authority, "/users").await.starts_with("HTTP/1.1 200"));
    assert!(hello().await.contains("hello"));
    for mut stream in half_open {
        let mut rest = Vec::new();
        // The system may report the end as a reset.
        let _ = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.unwrap();
    }
    let is_alone = async || {
        let metrics = server.get(&authority, "/-/metrics").await;
        metrics.contains("\nhealth_http_connections 1\n") && metrics.contains("\nhealth_feed_connections 0\n")
    };
    let closed = timeout(TIMEOUT, async { while !is_alone().await {} }).await;
    assert!(closed.is_ok(), "connections are left");
}

#[tokio::test]
async fn a_session_is_resumed_only_until_the_certificate_changes() {
    let authority = Authority::new("authority");
    let server = SecureServer::start(&server_certificate(&authority)).await;
    let client = trusting(&authority);
    let kind = async || {
        let mut stream = connect_with(server.http, &client).await.unwrap();
        // The tickets come after the handshake, with the first response.
        let request = b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut response = Vec::new();
        timeout(TIMEOUT, stream.read_to_end(&mut response))
            .await
            .unwrap()
            .unwrap();
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
        (session.handshake_kind().unwrap(), certificate)
    };
    let (first, old) = kind().await;
    assert_eq!(first, HandshakeKind::Full);
    assert_eq!(kind().await, (HandshakeKind::Resumed, old.clone()));
    server.files.write(&server_certificate(&authority));
    server.tls.reload();
    let (after, new) = kind().await;
    assert_eq!(after, HandshakeKind::Full);
    assert_ne!(new, old);
    assert_eq!(kind().await, (HandshakeKind::Resumed, new));
}

#[tokio::test]
async fn a_key_that_cannot_be_read_to_its_end_delays_no_shutdown() {
    let authority = Authority::new("authority");
    let files = Files::new(&server_certificate(&authority));
    let database = TestDatabase::new().await;
    let [certificate, key] = [files.certificate(), files.key()];
    let arguments = [
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let mut program = Program::start(database.url(), "info", &arguments).await;
    // The standard input of the program is a pipe on which nothing comes, as little as from a disk that does not
    // answer.
    files.write(&authority.sign_expired("health", &["localhost"]));
    fs::remove_file(&key).unwrap();
    symlink("/dev/stdin", &key).unwrap();
    program.signal(Signal::HUP);
    let has_begun = "the certificate has expired: clients will refuse it";
    program.line(&[("message", has_begun.into())]).await;
    program.stop().await;
}

#[test]
fn a_bad_file_is_named_with_its_flag() {
    let authority = Authority::new("authority");
    let files = Files::new(&server_certificate(&authority));
    let message = |certificate: PathBuf, key: PathBuf| ServerTls::load(&certificate, &key).unwrap_err().to_string();
    let missing = files.directory.path().join("missing.pem");
    for (message, flag) in [
        (message(missing.clone(), files.key()), "--tls-cert"),
        (message(files.certificate(), missing.clone()), "--tls-key"),
        (message(files.key(), files.key()), "--tls-cert"),
        (message(files.certificate(), files.certificate()), "--tls-key"),
    ] {
        assert!(message.contains(flag) && message.contains(".pem"), "{message}");
    }
    // A key that is cut short: no byte of it may reach the log.
    let certificate = server_certificate(&authority);
    let cut = Files::new(&Certificate {
        key: certificate.key[..100].to_owned(),
        ..certificate
    });
    let cut_short = message(cut.certificate(), cut.key());
    assert!(cut_short.contains("END") && !cut_short.contains('['), "{cut_short}");
    let old = Files::new(&authority.sign_version_one("localhost"));
    let without_names = message(old.certificate(), old.key());
    assert!(
        without_names.contains("version 1 of X.509") && without_names.contains("subjectAltName"),
        "{without_names}"
    );
    let other = Files::new(&server_certificate(&authority));
    let message = message(files.certificate(), other.key());
    assert!(
        message.contains("cannot be used together") && message.contains("belongs to another certificate"),
        "{message}"
    );
}

#[tokio::test]
async fn an_import_trusts_the_authority_that_it_is_given_and_no_other() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let server = SecureServer::start(&server_certificate(&authority)).await;
    let file = server.files.directory.path().join("own.csv");
    fs::write(&file, "user_id,timestamp,steps\n5,2025-03-03T08:00:00Z,7\n").unwrap();
    for (trusted, status, sentence) in [
        (&authority, 0, ""),
        (&stranger, 1, "the authority that signed it. Nothing was stored.\n"),
    ] {
        let ca = server.files.directory.path().join("ca.pem");
        fs::write(&ca, trusted.certificate()).unwrap();
        let url = format!("https://localhost:{}", server.http.port());
        let mut command = crate::program::health_server(&["import", "--server", &url]);
        let output = command.arg("--ca").arg(&ca).arg(&file).output();
        let output = timeout(TIMEOUT, output).await.unwrap().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(sentence), "{said}");
    }
}
