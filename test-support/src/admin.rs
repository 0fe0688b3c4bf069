//! The process's one cluster, and the thread that makes and drops databases in it.

use std::{sync::LazyLock, thread};

use health_core::{
    Config,
    embedded::{Cluster, Options},
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};
use tokio_postgres::{Client, NoTls};

/// Enough for every test of a process at once, each with two servers and their pools.
const CONNECTIONS_MAX: u32 = 400;

/// `CREATE DATABASE … STRATEGY` is there from this `server_version_num` on.
const STRATEGY_SINCE: u32 = 150_000;

/// The database the migrations run on, once a process.
const MIGRATED: &str = "migrated";

/// What a new database is a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    Empty,
    Migrated,
}

/// Sends work to the thread that has the cluster.
///
/// A thread and a runtime of its own, because every `#[tokio::test]` has a runtime that ends with it, and the cluster outlives
/// them all. One statement at a time: PostgreSQL refuses to copy a database while somebody is connected to it.
#[derive(Debug)]
pub(crate) struct Admin {
    work: mpsc::UnboundedSender<Work>,
}

#[derive(Debug)]
enum Work {
    Create(Template, oneshot::Sender<(String, String)>),
    Drop(String),
}

impl Admin {
    /// Starts the cluster at the first call.
    pub(crate) fn of_this_process() -> &'static Admin {
        static ADMIN: LazyLock<Admin> = LazyLock::new(|| {
            let (work, todo) = mpsc::unbounded_channel();
            thread::spawn(|| {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                runtime
                    .expect("a runtime for the test cluster")
                    .block_on(Server::run(todo));
            });
            Admin { work }
        });
        &ADMIN
    }

    /// The name and the URL of a new database.
    pub(crate) async fn create(&self, template: Template) -> (String, String) {
        let (answer, answered) = oneshot::channel();
        // Where the thread has panicked, its own message says why.
        let _ = self.work.send(Work::Create(template, answer));
        answered.await.expect("the test cluster's thread makes the database")
    }

    pub(crate) fn drop_later(&self, name: String) {
        // Where the thread is gone, so is the cluster.
        let _ = self.work.send(Work::Drop(name));
    }
}

struct Server {
    cluster: Cluster,
    client: Client,
    copy: &'static str,
    made: u32,
    migrated: bool,
}

impl Server {
    async fn run(mut todo: mpsc::UnboundedReceiver<Work>) {
        let mut server = Server::start().await;
        while let Some(work) = todo.recv().await {
            match work {
                Work::Create(template, answer) => {
                    let database = server.create(template).await;
                    // The test may have given up meanwhile.
                    let _ = answer.send(database);
                }
                Work::Drop(name) => {
                    server
                        .execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                        .await;
                }
            }
        }
    }

    async fn start() -> Server {
        let options = Options::throw_away().max_connections(CONNECTIONS_MAX);
        let cluster = Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let (client, connection) = tokio_postgres::connect(&cluster.url("postgres"), NoTls)
            .await
            .expect("a connection");
        tokio::spawn(connection);
        let row = client
            .query_one("SELECT current_setting('server_version_num')::int", &[])
            .await
            .expect("the version");
        let version: i32 = row.get(0);
        let copy = if version.unsigned_abs() >= STRATEGY_SINCE {
            " STRATEGY file_copy"
        } else {
            ""
        };
        Server {
            cluster,
            client,
            copy,
            made: 0,
            migrated: false,
        }
    }

    async fn create(&mut self, template: Template) -> (String, String) {
        let source = match template {
            Template::Empty => "template1",
            Template::Migrated => self.migrated_template().await,
        };
        self.made += 1;
        let name = format!("test_{}", self.made);
        self.execute(&format!("CREATE DATABASE {name} TEMPLATE {source}{}", self.copy))
            .await;
        let url = self.cluster.url(&name);
        (name, url)
    }

    async fn migrated_template(&mut self) -> &'static str {
        if !self.migrated {
            self.execute(&format!("CREATE DATABASE {MIGRATED} TEMPLATE template1{}", self.copy))
                .await;
            let config = Config::from_url(&self.cluster.url(MIGRATED)).expect("a URL the configuration reads");
            health_core::migrate(&config)
                .await
                .unwrap_or_else(|error| panic!("the migrations fail: {error:?}"));
            // Nobody may be connected to what is being copied.
            self.execute(&format!("ALTER DATABASE {MIGRATED} ALLOW_CONNECTIONS false"))
                .await;
            self.migrated = true;
        }
        MIGRATED
    }

    async fn execute(&self, statement: &str) {
        if let Err(error) = self.client.batch_execute(statement).await {
            panic!(
                "{statement}: {}",
                error
                    .as_db_error()
                    .map_or_else(|| error.to_string(), ToString::to_string)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::TestDatabase;
    use tokio_postgres::NoTls;

    async fn tables(database: &TestDatabase) -> i64 {
        let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("CREATE TABLE one (n integer)").await.unwrap();
        let statement = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
        client.query_one(statement, &[]).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn databases_are_separate() {
        let (one, other) = tokio::join!(TestDatabase::empty(), TestDatabase::empty());
        assert_ne!(one.name(), other.name());
        assert_eq!(tables(&one).await, 1);
        assert_eq!(tables(&other).await, 1);
    }

    #[tokio::test]
    async fn a_new_database_has_the_schema_and_no_rows() {
        for _ in 0..2 {
            let database = TestDatabase::new().await;
            let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
            tokio::spawn(connection);
            let statement = "INSERT INTO health_metrics (user_id, timestamp, source, steps) VALUES (1, now(), '', 1)";
            client.batch_execute(statement).await.unwrap();
            let rows: i64 = client
                .query_one("SELECT count(*) FROM health_metrics", &[])
                .await
                .unwrap()
                .get(0);
            assert_eq!(rows, 1);
        }
    }

    #[tokio::test]
    async fn the_cluster_outlives_the_runtime_of_the_first_test() {
        for _ in 0..2 {
            let count = std::thread::spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async { tables(&TestDatabase::empty().await).await })
            });
            assert_eq!(count.join().unwrap(), 1);
        }
    }
}
