//! A PostgreSQL of its own for one test.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::TcpListener,
    os::unix::fs::{MetadataExt, OpenOptionsExt, chown},
    path::PathBuf,
    time::Duration,
};

use health_core::embedded::{Cluster, Options};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

/// Longer than PostgreSQL takes to read its configuration.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often another port is tried if another program takes a free one first.
const STARTS_MAX: u32 = 5;

/// A PostgreSQL for one test that also listens on 127.0.0.1. Dropping the value ends it and removes its files.
///
/// ```no_run
/// # async fn example() {
/// let cluster = test_support::TestCluster::start().await;
/// cluster.configure(&[("ssl", "off")], "host all all 127.0.0.1/32 scram-sha-256").await;
/// println!("{} and port {}", cluster.socket_url("postgres"), cluster.port());
/// # }
/// ```
#[derive(Debug)]
pub struct TestCluster {
    cluster: Cluster,
    port: u16,
}

impl TestCluster {
    /// Starts PostgreSQL. Over TCP it accepts nobody until [`configure`](TestCluster::configure).
    ///
    /// # Panics
    ///
    /// If it does not start. Every method here panics if PostgreSQL does not do what it asks for.
    pub async fn start() -> TestCluster {
        let mut starts = 0;
        loop {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = free.local_addr().expect("an address").port();
            drop(free);
            let options = Options::throw_away()
                .port(port)
                .setting("listen_addresses", "127.0.0.1");
            starts += 1;
            match Cluster::start(options).await {
                Ok(cluster) => return TestCluster { cluster, port },
                Err(error) => assert!(starts < STARTS_MAX, "{error}"),
            }
        }
    }

    /// Returns the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of a database over the socket, as superuser.
    pub fn socket_url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    /// Connects to the database `postgres` over the socket, as superuser.
    pub async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.socket_url("postgres"), NoTls)
            .await
            .expect("a connection over the socket");
        tokio::spawn(connection);
        client
    }

    /// Executes statements as superuser.
    pub async fn execute(&self, statements: &str) {
        let outcome = self.connect().await.batch_execute(statements).await;
        outcome.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// Writes a file that only PostgreSQL can read, such as a key. Returns its path.
    pub fn install(&self, name: &str, contents: &str) -> PathBuf {
        let data = self.cluster.data_dir().join("pgdata");
        let path = data.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .expect("a new file");
        file.write_all(contents.as_bytes()).expect("written contents");
        let owner = fs::metadata(&data).expect("the data directory");
        chown(&path, Some(owner.uid()), Some(owner.gid())).expect("a file of PostgreSQL's user");
        path
    }

    /// Changes settings and the lines of `pg_hba.conf` for TCP, and waits until both are in force for new connections.
    pub async fn configure(&self, settings: &[(&str, &str)], hba: &str) {
        self.install("pg_hba.conf", &format!("local all all trust\n{hba}\n"));
        let client = self.connect().await;
        for (name, value) in settings {
            let statement = format!("ALTER SYSTEM SET {name} = '{value}'");
            client.batch_execute(&statement).await.expect("a setting");
        }
        // A connection that shows the new prefix was accepted after everything had been read again.
        let shown = "SHOW log_line_prefix";
        let before: String = client.query_one(shown, &[]).await.expect("a setting").get(0);
        let after = format!("{before}.");
        let statement = format!("ALTER SYSTEM SET log_line_prefix = '{after}'");
        client.batch_execute(&statement).await.expect("a setting");
        client.batch_execute("SELECT pg_reload_conf()").await.expect("a reload");
        timeout(TIMEOUT, async {
            while self
                .connect()
                .await
                .query_one(shown, &[])
                .await
                .expect("a setting")
                .get::<_, String>(0)
                != after
            {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("PostgreSQL reads its configuration in time");
    }
}
