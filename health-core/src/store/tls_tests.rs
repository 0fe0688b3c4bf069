//! Each `sslmode` against a real PostgreSQL with good and bad certificates.

mod version_one;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use test_support::{Authority, Certificate, TempDir, TestCluster, test_directory};

use crate::{
    config::Config,
    error::Error,
    store::{connect::connect, connect_refusal::classify_connect},
};

/// What a connection ended with.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Tls,
    Plain,
    /// An error that is final and contains these words.
    Refused(&'static str),
}
use Expected::{Plain, Refused, Tls};

const TRUST: &str = "host all all 127.0.0.1/32 trust";

/// The certificates of the tests.
struct Files {
    directory: TempDir,
    authority: Authority,
    other: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            directory: test_directory(),
            authority: Authority::new("the authority"),
            other: Authority::new("another authority"),
        };
        files.write("root", &files.authority.certificate());
        files.write("other-root", &files.other.certificate());
        files
    }

    fn write(&self, name: &str, contents: &str) {
        let path = self.directory.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes a certificate as `NAME.crt` and `NAME.key`.
    fn write_certificate(&self, name: &str, certificate: &Certificate) {
        self.write(&format!("{name}.crt"), &certificate.certificate);
        self.write(&format!("{name}.key"), &certificate.key);
    }

    /// Returns the configuration of a URL whose query may name files by `FILES`.
    fn config(&self, cluster: &TestCluster, credentials: &str, query: &str) -> Config {
        let query = query.replace("FILES", &self.directory.path().display().to_string());
        let url = format!(
            "postgres://{credentials}@localhost:{}/postgres?hostaddr=127.0.0.1&{query}",
            cluster.port()
        );
        Config::from_url(&url).unwrap()
    }
}

/// Lets PostgreSQL offer TLS with a certificate.
async fn offer(cluster: &TestCluster, certificate: &Certificate, client_authority: &str, hba: &str) {
    let path = |path: &Path| path.display().to_string();
    let chain = path(&cluster.install("server.crt", &certificate.certificate));
    let key = path(&cluster.install("server.key", &certificate.key));
    let root = path(&cluster.install("clients.crt", client_authority));
    let settings = [
        ("ssl_cert_file", chain.as_str()),
        ("ssl_key_file", &key),
        ("ssl_ca_file", &root),
        ("ssl", "on"),
    ];
    cluster.configure(&settings, hba).await;
}

async fn check(config: &Config, expected: Expected, case: &str) {
    let outcome = connect(config).await;
    match (outcome, expected) {
        (Ok((client, driver)), Tls | Plain) => {
            tokio::spawn(driver);
            let statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let uses_tls: bool = client.query_one(statement, &[]).await.unwrap().get(0);
            assert_eq!(uses_tls, matches!(expected, Tls), "{case}");
        }
        (Err(error), Refused(words)) => {
            let error = classify_connect(error);
            let is_final = matches!(error, Error::Refused(_)) && !error.is_retryable();
            assert!(is_final && error.chain().contains(words), "{case}: {}", error.chain());
        }
        (Ok(_), Refused(words)) => panic!("{case}: connected, expected {words}"),
        (Err(error), _) => panic!("{case}: {}", classify_connect(error).chain()),
    }
}

#[tokio::test]
async fn each_sslmode_means_what_it_means_to_libpq() {
    let files = Files::new();
    let cluster = TestCluster::start().await;
    cluster.configure(&[], TRUST).await;
    let no_tls = Refused("the server offers no TLS. Switch it on there (ssl = on)");
    for (query, expected) in [
        ("", Plain),
        ("sslmode=disable", Plain),
        ("sslmode=prefer", Plain),
        ("sslmode=require", no_tls),
        ("sslmode=verify-ca&sslrootcert=FILES/root", no_tls),
        ("sslmode=verify-full&sslrootcert=FILES/root", no_tls),
    ] {
        check(
            &files.config(&cluster, "postgres", query),
            expected,
            &format!("without TLS: {query}"),
        )
        .await;
    }

    let Files { authority, other, .. } = &files;
    let unknown = Refused("an authority that is not among the root certificates");
    let wrong_name = Refused("is for db.example, 10.0.0.1, not for localhost");
    let expired = Refused("expired at 2001-02-03T00:00:00+00:00");
    // The server's certificate, and what follows from `require` with the root certificate, `verify-ca` and
    // `verify-full`.
    let servers = [
        ("right", authority.sign("x", &["localhost"]), Tls, Tls, Tls),
        ("common name only", authority.sign("localhost", &[]), Tls, Tls, Tls),
        (
            "common name beside another",
            authority.sign("localhost", &["db.example", "10.0.0.1"]),
            Tls,
            Tls,
            wrong_name,
        ),
        (
            "other authority",
            other.sign("x", &["localhost"]),
            unknown,
            unknown,
            unknown,
        ),
        (
            "wrong name",
            authority.sign("x", &["db.example", "10.0.0.1"]),
            Tls,
            Tls,
            wrong_name,
        ),
        (
            "expired",
            authority.sign_expired("x", &["localhost"]),
            expired,
            expired,
            expired,
        ),
    ];
    for (name, certificate, require, verify_ca, verify_full) in servers {
        offer(&cluster, &certificate, &authority.certificate(), TRUST).await;
        let verified = if matches!(require, Tls) { Tls } else { Plain };
        for (query, expected) in [
            ("", Tls),
            ("sslmode=disable", Plain),
            ("sslmode=prefer&sslrootcert=FILES/root", verified),
            ("sslmode=require", Tls),
            ("sslmode=require&channel_binding=disable", Tls),
            ("sslmode=require&sslrootcert=FILES/root", require),
            ("sslmode=verify-ca&sslrootcert=FILES/root", verify_ca),
            ("sslmode=verify-full&sslrootcert=FILES/root", verify_full),
        ] {
            check(
                &files.config(&cluster, "postgres", query),
                expected,
                &format!("{name}: {query}"),
            )
            .await;
        }
    }
    // A socket of this machine never uses TLS, whatever the URL says.
    let socket = format!(
        "{}&sslmode=verify-full&sslrootcert=system",
        cluster.socket_url("postgres")
    );
    check(&Config::from_url(&socket).unwrap(), Plain, "socket").await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_authority() {
    let files = Files::new();
    let cluster = TestCluster::start().await;
    let certificate = Certificate::self_signed("localhost");
    files.write_certificate("server", &certificate);
    offer(&cluster, &certificate, &files.authority.certificate(), TRUST).await;
    for (query, expected) in [
        ("sslmode=require", Tls),
        ("sslmode=verify-ca&sslrootcert=FILES/server.crt", Tls),
        ("sslmode=verify-full&sslrootcert=FILES/server.crt", Tls),
        (
            "sslmode=verify-ca&sslrootcert=FILES/root",
            Refused("the server's certificate"),
        ),
    ] {
        check(&files.config(&cluster, "postgres", query), expected, query).await;
    }
}

#[tokio::test]
async fn a_server_may_demand_tls_a_client_certificate_or_a_password() {
    let files = Files::new();
    let cluster = TestCluster::start().await;
    cluster.execute("CREATE ROLE patient LOGIN PASSWORD 'p@ss'").await;
    files.write_certificate("client", &files.authority.sign("postgres", &[]));
    files.write_certificate("foreign", &files.other.sign("postgres", &[]));
    let server = files.authority.sign("x", &["localhost"]);
    let client = "sslcert=FILES/client.crt&sslkey=FILES/client.key";
    let foreign = "sslcert=FILES/foreign.crt&sslkey=FILES/foreign.key";
    let only_tls = "hostssl all all 127.0.0.1/32 trust";
    let only_plain = "hostnossl all all 127.0.0.1/32 trust";
    let with_certificate = "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca";
    let by_certificate = "hostssl all all 127.0.0.1/32 cert";
    let by_password = "host all all 127.0.0.1/32 scram-sha-256";
    for (hba, credentials, query, expected) in [
        (only_tls, "postgres", "", Tls),
        (
            only_tls,
            "postgres",
            "sslmode=disable",
            Refused("The server may accept TLS only: write sslmode=require"),
        ),
        (only_tls, "nobody", "sslmode=require", Refused("create the role")),
        (only_plain, "postgres", "", Plain),
        (
            only_plain,
            "postgres",
            "sslmode=require",
            Refused("add a line to the server's pg_hba.conf"),
        ),
        (
            with_certificate,
            "postgres",
            "sslmode=require",
            Refused("Name the client's certificate by sslcert"),
        ),
        (with_certificate, "postgres", &format!("sslmode=require&{client}"), Tls),
        (
            by_certificate,
            "postgres",
            &format!("sslmode=verify-full&sslrootcert=FILES/root&{client}"),
            Tls,
        ),
        (
            by_certificate,
            "postgres",
            &format!("sslmode=require&{foreign}"),
            Refused("refuses the client's certificate"),
        ),
        (
            by_certificate,
            "patient",
            &format!("sslmode=require&{client}"),
            Refused("certificate authentication failed"),
        ),
        (
            by_password,
            "patient:p%40ss",
            "sslmode=require&channel_binding=require",
            Tls,
        ),
        (by_password, "patient:p%40ss", "sslmode=disable", Plain),
        (
            by_password,
            "patient:wrong",
            "sslmode=require",
            Refused("Correct the user and the password in the URL"),
        ),
        (
            by_password,
            "nobody:wrong",
            "",
            Refused("Correct the user and the password in the URL"),
        ),
        (
            by_password,
            "patient",
            "",
            Refused("asks for a password, and the URL has none"),
        ),
        (
            by_password,
            "patient:p%40ss",
            "sslmode=disable&channel_binding=require",
            Refused("channel binding"),
        ),
    ] {
        offer(&cluster, &server, &files.authority.certificate(), hba).await;
        check(
            &files.config(&cluster, credentials, query),
            expected,
            &format!("{hba}, {credentials}: {query}"),
        )
        .await;
    }
}

#[tokio::test]
async fn renewed_certificates_are_used_without_a_restart() {
    let files = Files::new();
    let cluster = TestCluster::start().await;
    let server = files.authority.sign("x", &["localhost"]);
    offer(&cluster, &server, &files.authority.certificate(), TRUST).await;
    let config = files.config(&cluster, "postgres", "sslmode=verify-full&sslrootcert=FILES/root");
    check(&config, Tls, "before").await;
    let renewed = files.other.sign("x", &["localhost"]);
    offer(&cluster, &renewed, &files.authority.certificate(), TRUST).await;
    check(&config, Refused("an authority that is not among"), "server renewed").await;
    files.write("root", &files.other.certificate());
    check(&config, Tls, "root renewed").await;
}
