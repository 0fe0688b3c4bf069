//! `health-server check`: what it says of a database and of a running server, and its exit status.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Stdio,
};

use test_support::{Authority, ReservedPort, TestCluster, TestDatabase, TestProcess, test_directory};
use tokio::net::TcpListener;
use tokio_postgres::NoTls;

use super::{health_server, run_to_end, serve};

/// Returns the exit status, stdout and stderr.
async fn check(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run_to_end(&[&["check"], arguments].concat()).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Returns the line about a subject.
fn line<'a>(page: &'a str, subject: &str) -> &'a str {
    let line = page
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(subject));
    line.unwrap_or_else(|| panic!("no line about {subject} in {page}"))
}

/// Checks that nothing is wrong, apart from the disk of this machine, which may be nearly full.
fn assert_nothing_is_wrong(status: Option<i32>, page: &str, message: &str) {
    let is_disk_wrong = line(page, "disk").starts_with("wrong ");
    let wrong = page.lines().filter(|line| line.starts_with("wrong ")).count();
    assert_eq!(wrong, usize::from(is_disk_wrong), "{page}{message}");
    assert_eq!(status, Some(i32::from(is_disk_wrong)), "{page}{message}");
}

#[tokio::test]
async fn each_broken_promise_is_named_with_its_remedy_and_has_status_1() {
    // A cluster for tests does not wait for the disk.
    let cluster = TestCluster::start().await;
    cluster.configure(&[("autovacuum", "off")], "").await;
    cluster
        .execute("CREATE DATABASE checked ENCODING 'UTF8' TEMPLATE template0")
        .await;
    let url = cluster.socket_url("checked");
    let url = ["--database-url", url.as_str()];
    let (status, page, message) = check(&url).await;
    assert_eq!(status, Some(1), "{page}");
    for subject in ["fsync", "full_page_writes", "autovacuum"] {
        let line = line(&page, subject);
        assert!(
            line.starts_with("wrong") && line.contains(&format!("ALTER SYSTEM SET {subject} = on")),
            "{line}"
        );
    }
    let schema = line(&page, "schema");
    assert!(
        schema.starts_with("wrong") && schema.contains("health-server migrate"),
        "{schema}"
    );
    assert!(message.contains("things are wrong"), "{message}");

    // Nothing was created.
    let (client, connection) = tokio_postgres::connect(url[1], NoTls).await.unwrap();
    tokio::spawn(connection);
    let tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'health_%' OR relname LIKE 'refinery%'";
    assert_eq!(client.query_one(tables, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn faults_of_the_database_are_findings_and_not_errors_of_the_program() {
    let database = TestDatabase::new().await;
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let name = database.name();
    client
        .batch_execute(&format!(
            "CREATE ROLE poor_{name} LOGIN CONNECTION LIMIT 6; REVOKE ALL ON health_tokens FROM PUBLIC; \
             GRANT SELECT ON refinery_schema_history TO poor_{name}; GRANT SELECT, INSERT, UPDATE ON health_metrics TO poor_{name}; \
             INSERT INTO health_tokens (name, secret_hash, scopes, expires_at) \
             VALUES ('old', sha256('a'), '{{read}}', now() - interval '1 day'), \
             ('soon', sha256('b'), '{{read}}', now() + interval '3 days'), ('later', sha256('c'), '{{read}}', now() + interval '90 days')"
        ))
        .await
        .unwrap();
    let (_, page, _) = check(&["--database-url", database.url()]).await;
    for (token, part) in [("old", "expired on"), ("soon", "in 2 days")] {
        let line = page
            .lines()
            .find(|line| line.contains(&format!("  {token} ")))
            .unwrap_or_else(|| panic!("{page}"));
        assert!(
            line.starts_with("risk") && line.contains(part) && line.contains("token revoke"),
            "{line}"
        );
    }
    assert!(!page.contains("later"), "{page}");
    assert!(line(&page, "access").contains("2 tokens in force, 1 expired"), "{page}");

    let role = database.url().parse::<tokio_postgres::Config>().unwrap();
    let url = database.url().replacen(
        &format!("//{}@", role.get_user().unwrap()),
        &format!("//poor_{name}@"),
        1,
    );
    let (status, page, _) = check(&["--database-url", &url]).await;
    assert_eq!(status, Some(1));
    let rights = line(&page, "rights");
    for part in [
        "wrong",
        "health_metrics: DELETE",
        "health_batch_numbers: SELECT, USAGE",
        &format!("--print-grants poor_{name}"),
    ] {
        assert!(rights.contains(part), "{part} is missing: {rights}");
    }
    let connections = line(&page, "connections");
    assert!(
        connections.starts_with("risk") && connections.contains("6 are allowed"),
        "{connections}"
    );

    let insert =
        "INSERT INTO health_metrics (user_id, timestamp, steps) VALUES (1, now() - interval '32 days 1 hour', 1)";
    client.batch_execute(insert).await.unwrap();
    for (retain, level) in [("30d", "risk"), ("31d", "ok"), ("2y", "ok")] {
        let (_, page, _) = check(&["--database-url", database.url(), "--retain", retain]).await;
        assert!(line(&page, "retention").starts_with(level), "{retain}: {page}");
    }

    let (status, page, _) = check(&["--database-url", "postgres://127.0.0.1:1/db"]).await;
    assert_eq!(status, Some(1));
    assert!(line(&page, "database").starts_with("wrong"), "{page}");
    let missing = database.url_of("nosuchdatabase");
    let (status, page, _) = check(&["--database-url", &missing]).await;
    assert_eq!(status, Some(1), "{page}");
    assert!(line(&page, "database").contains("nosuchdatabase"), "{page}");
    client
        .batch_execute(&format!("DROP OWNED BY poor_{name}; DROP ROLE poor_{name}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_data_directory_is_checked_with_a_running_server_without_one_and_before_the_first_start() {
    let directory = test_directory();
    let path = directory.path().join("data");
    let data_dir = ["--data-dir", path.to_str().unwrap()];
    let (status, page, _) = check(&data_dir).await;
    assert_eq!(status, Some(1));
    assert!(page.contains("there is none in") && !path.exists(), "{page}");

    let (server, _) = serve(&data_dir).await;
    let (status, page, message) = check(&data_dir).await;
    assert_nothing_is_wrong(status, &page, &message);
    assert!(page.contains("in use by a running server"), "{page}");
    for subject in [
        "PostgreSQL",
        "schema",
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "autovacuum",
        "encoding",
        "rights",
        "connections",
        "clock",
        "access",
    ] {
        assert!(line(&page, subject).starts_with("ok "), "{page}");
    }
    assert!(
        line(&page, "backup").starts_with("risk") && line(&page, "disk").contains("free"),
        "{page}"
    );
    assert_eq!(server.stop().await.code(), Some(0));

    let (status, page, message) = check(&data_dir).await;
    assert_nothing_is_wrong(status, &page, &message);
    assert!(page.contains("was started for this check"), "{page}");
}

#[tokio::test]
async fn ready_asks_the_server_with_and_without_tls() {
    let database = TestDatabase::new().await;
    let directory = test_directory();
    let certificate = Authority::new("an authority").sign("health.example", &["health.example"]);
    let [cert, key] = [("cert.pem", &certificate.certificate), ("key.pem", &certificate.key)].map(|(name, text)| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let secure = ["--tls-cert", &cert, "--tls-key", &key];
    // After the end of the server, nobody else listens there.
    let port = ReservedPort::new();
    let address = port.address().to_string();
    for tls in [&[][..], &secure] {
        let program = env!("CARGO_BIN_EXE_health-server");
        let arguments = [&["--database-url", database.url()], tls].concat();
        let (server, _) = TestProcess::health_server(program, &address, &arguments, Stdio::null()).await;
        // Also without being told that it speaks TLS.
        for told in [&[][..], tls] {
            let (status, _, message) = check(&[&["--ready", "--http", &address], told].concat()).await;
            assert_eq!(status, Some(0), "{message}");
        }
        if tls.is_empty() {
            let (status, _, message) = check(&[&["--ready", "--http", &address][..], &secure].concat()).await;
            assert_eq!(status, Some(1));
            assert!(message.contains("does not speak TLS"), "{message}");
        }
        let mut command = health_server(&["check", "--ready"]);
        command.env("HEALTH_HTTP", &address);
        assert!(command.output().await.unwrap().status.success());
        assert_eq!(server.stop().await.code(), Some(0));
        let (status, _, message) = check(&["--ready", "--http", &address]).await;
        assert_eq!(status, Some(1));
        assert!(message.contains(&address) && message.contains("not ready"), "{message}");
    }
    // Something else that closes at once.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    tokio::spawn(async move { while other.accept().await.is_ok() {} });
    let (status, _, message) = check(&["--ready", "--http", &address]).await;
    assert_eq!(status, Some(1), "{message}");
}

#[tokio::test]
async fn a_file_that_only_root_can_read_is_named_with_the_user_of_the_server() {
    let directory = test_directory();
    let data_dir = directory.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    if chown(&data_dir, Some(4001), Some(4002)).is_err() {
        println!("skipped: this process may not give files away");
        return;
    }
    let certificate = Authority::new("an authority").sign("health.example", &["health.example"]);
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let [cert, key, hidden] = ["cert.pem", "key.pem", "closed/key.pem"].map(|name| directory.path().join(name));
    fs::write(&cert, &certificate.certificate).unwrap();
    for path in [&key, &hidden] {
        fs::write(path, &certificate.key).unwrap();
    }
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let page = async |key: &Path| {
        let [data_dir, cert, key] = [&*data_dir, &*cert, key].map(|path| path.to_str().unwrap());
        check(&["--data-dir", data_dir, "--tls-cert", cert, "--tls-key", key]).await
    };

    let (status, text, _) = page(&key).await;
    assert_eq!(status, Some(1), "{text}");
    let found = line(&text, "files");
    for part in [
        "wrong",
        "the user 4001",
        "cannot read the key",
        "it belongs to root",
        "mode 0640",
        "chgrp",
    ] {
        assert!(found.contains(part), "{part} is missing: {found}");
    }
    let (_, text, _) = page(&hidden).await;
    let found = line(&text, "files");
    let directory = format!("the directory {} belongs to root", closed.display());
    assert!(found.starts_with("wrong") && found.contains(&directory), "{found}");

    chown(&key, None, Some(4002)).unwrap();
    let (_, text, _) = page(&key).await;
    let found = line(&text, "files");
    assert!(found.starts_with("ok") && found.contains("certificate, key"), "{found}");
}

#[tokio::test]
async fn the_user_of_a_running_server_counts_and_not_the_owner_of_its_data_directory() {
    let directory = test_directory();
    let path = directory.path().join("data");
    let certificate = Authority::new("an authority").sign("health.example", &["health.example"]);
    let [cert, key] = [("cert.pem", &certificate.certificate), ("key.pem", &certificate.key)].map(|(name, text)| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    });
    fs::create_dir(&path).unwrap();
    // The user `daemon`, which every system has, runs only PostgreSQL. If this process may not give files away, the
    // server does not run as root either, and its user can read the files, too.
    let _ = chown(&path, Some(1), Some(1));
    let arguments = [
        "--data-dir",
        path.to_str().unwrap(),
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    let program = env!("CARGO_BIN_EXE_health-server");
    // With its log, which would tell why the user `daemon` cannot run PostgreSQL.
    let (server, _) = TestProcess::health_server(program, "127.0.0.1:0", &arguments, Stdio::inherit()).await;
    let (_, page, _) = check(&arguments).await;
    assert!(page.contains("in use by a running server"), "{page}");
    assert!(line(&page, "certificate").starts_with("ok"), "{page}");
    assert!(!page.contains("cannot read"), "{page}");
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test]
async fn the_file_and_the_variables_that_were_read_are_named() {
    let directory = test_directory();
    let file = directory.path().join("health.toml");
    fs::write(&file, "http = '127.0.0.1:0'\n").unwrap();
    let data_dir = directory.path().join("data");
    let mut command = health_server(&["check", "--data-dir", data_dir.to_str().unwrap()]);
    let output = command
        .env("HEALTH_CONFIG", &file)
        .env("HEALTH_WRITERS", "3")
        .env("HEALTH_READERS", "5")
        .output()
        .await
        .unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    let expected = format!(
        "from {}; the variables HEALTH_READERS, HEALTH_WRITERS are set",
        file.display()
    );
    assert!(line(&page, "settings").contains(&expected), "{page}");
}
