//! A connection pooler in front of the database. These tests need the program `pgbouncer`, and print that they were
//! skipped without it.

use std::{
    fs::{Permissions, set_permissions, write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::Duration,
};

use health_core::{Config, Health};
use test_support::{Signal, TempDir, TestDatabase, TestProcess, commit_limit, test_directory};
use tokio::{
    process::Command,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls, config::Host};

use crate::support::{Server, record};

/// Longer than a change of the pooler takes to show, also on a busy machine, so that a test that waits in vain fails.
const TIMEOUT: Duration = Duration::from_mins(2);

/// The pause between two attempts to connect to a pooler that is starting.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// The statement that shows what a session of the pool has kept of others. Other tests have locks in other databases,
/// and Citus has locks with other numbers.
const KEPT: &str = "SELECT current_setting('jit') || current_setting('client_min_messages') \
     || current_setting('statement_timeout') || current_setting('enable_seqscan') \
     || (SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database \
     WHERE locktype = 'advisory' AND objsubid IN (1, 2) AND datname = current_database())";

/// A `PgBouncer` in front of a database, on a socket in a directory of its own.
struct Pooler {
    directory: TempDir,
    database: TestDatabase,
    url: String,
    process: TestProcess,
}

impl Pooler {
    /// Starts a pooler. Returns `None` if the program is not installed.
    async fn start(mode: &str, pool_size: u32) -> Option<Self> {
        let directory = test_directory();
        let database = TestDatabase::new().await;
        // The pooler refuses to run as root, as PostgreSQL does.
        set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        configure(&directory, &database, mode, pool_size);
        let mut command = Command::new("pgbouncer");
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.args(["-u", &user_of_pooler(&database)]);
        }
        command.arg("-q").arg(directory.path().join("pgbouncer.ini"));
        if Command::new("pgbouncer").arg("--version").output().await.is_err() {
            println!("skipped: pgbouncer is not installed");
            return None;
        }
        let process = TestProcess::start(command);
        let socket = directory.path().to_str().unwrap().replace('/', "%2F");
        let pooler = Self {
            url: format!("postgres://postgres@/{}?host={socket}&port=6432", database.name()),
            directory,
            database,
            process,
        };
        let connects = async {
            while tokio_postgres::connect(&pooler.url, NoTls).await.is_err() {
                sleep(POLL_PAUSE).await;
            }
        };
        timeout(TIMEOUT, connects).await.expect("a start of pgbouncer in time");
        Some(pooler)
    }

    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Changes the mode of the running pooler.
    fn reload(&self, mode: &str, pool_size: u32) {
        configure(&self.directory, &self.database, mode, pool_size);
        self.process.signal(Signal::HUP);
    }
}

/// Returns a user of the machine who can reach the database: the owner of the sockets of PostgreSQL, which no other
/// user may use. The coordinator of a cluster is reached by TCP.
fn user_of_pooler(database: &TestDatabase) -> String {
    let target: tokio_postgres::Config = database.url().parse().unwrap();
    let Host::Unix(directory) = &target.get_hosts()[0] else {
        return "nobody".to_owned();
    };
    let uid = std::fs::metadata(directory).unwrap().uid().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let mut users = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|fields| fields.get(2) == Some(&uid.as_str())).unwrap();
    user[0].to_owned()
}

fn configure(directory: &TempDir, database: &TestDatabase, mode: &str, pool_size: u32) {
    let target: tokio_postgres::Config = database.url().parse().unwrap();
    let host = match &target.get_hosts()[0] {
        Host::Tcp(name) => name.as_str(),
        Host::Unix(directory) => directory.to_str().unwrap(),
    };
    let port = target.get_ports().first().copied().unwrap_or(5432);
    let user = target.get_user().unwrap();
    let text = format!(
        "[databases]\n* = host={host} port={port} user={user}\n[pgbouncer]\nunix_socket_dir = {}\nlisten_port = 6432\n\
         auth_type = any\npool_mode = {mode}\ndefault_pool_size = {pool_size}\n",
        directory.path().display()
    );
    let path = directory.path().join("pgbouncer.ini");
    write(&path, text).unwrap();
    set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

/// Posts samples of eight users, and asks for their statistics and the readiness. Returns the status codes.
async fn statuses(server: &Server, second: i64) -> Vec<u16> {
    let mut statuses = vec![server.get("/-/ready").await.status];
    for user in 1..=8 {
        let post = server.post("json", record(user, second));
        let range = format!("/metrics?user_id={user}&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z");
        let (posted, read) = tokio::join!(post, server.get(&range));
        statuses.extend([posted.status, read.status]);
    }
    statuses
}

#[tokio::test]
async fn a_pooler_in_transaction_or_statement_mode_is_refused_at_the_start_and_keeps_nothing() {
    for (mode, pool_size) in [("transaction", 20), ("transaction", 1), ("statement", 20)] {
        let Some(pooler) = Pooler::start(mode, pool_size).await else {
            return;
        };
        let client = pooler.client().await;
        let before: String = first_value(&client, KEPT).await;
        let refused = Health::open(Config::from_url(&pooler.url).unwrap()).await;
        let message = refused.err().unwrap().chain();
        assert!(message.contains("session mode"), "{mode}: {message}");
        let after: String = first_value(&client, KEPT).await;
        assert_eq!(before, after, "{mode}");
    }
}

async fn first_value(client: &Client, sql: &str) -> String {
    let messages = client.simple_query(sql).await.unwrap();
    let value = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    value.unwrap()
}

#[tokio::test]
async fn a_pooler_that_changes_to_transaction_mode_and_back_costs_no_500_and_the_server_recovers() {
    let Some(pooler) = Pooler::start("session", 20).await else {
        return;
    };
    let short = commit_limit(Duration::from_millis(500));
    let server = Server::with_database(TestDatabase::new().await, Some(&pooler.url), |_, core| {
        core.ingest_deadline = short;
        core.connection_wait = short;
    })
    .await;
    // On a busy machine a sample may take longer than the deadline.
    let works = async { while statuses(&server, 0).await.iter().any(|status| *status != 200) {} };
    timeout(TIMEOUT, works).await.expect("a server that works at first");

    let checked_statuses = async |second| {
        let statuses = statuses(&server, second).await;
        assert!(
            statuses.iter().all(|status| [200, 503].contains(status)),
            "{statuses:?}"
        );
        statuses
    };
    pooler.reload("transaction", 20);
    let mut second = 1;
    let fails = async {
        while checked_statuses(second).await[0] == 200 {
            second += 1;
        }
    };
    timeout(TIMEOUT, fails).await.expect("a server that is not ready");

    pooler.reload("session", 20);
    let recovers = async { while checked_statuses(second + 1).await.iter().any(|status| *status != 200) {} };
    timeout(TIMEOUT, recovers).await.expect("a server that works again");
}

#[tokio::test]
async fn a_pooler_with_four_sessions_serves_writing_and_reading() {
    let Some(pooler) = Pooler::start("session", 4).await else {
        return;
    };
    let server = Server::with_database(TestDatabase::new().await, Some(&pooler.url), |_, _| {}).await;
    // A burst of queries wants more connections than there are.
    for second in 0..5 {
        let rounds = (0..4).map(|_| statuses(&server, second));
        for statuses in futures_util::future::join_all(rounds).await {
            assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        }
    }
}
