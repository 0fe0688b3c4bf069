//! The cluster of the test process, and the thread that creates and drops databases in it.

use std::{process, sync::LazyLock, thread};

use health_core::{
    Config,
    embedded::{Cluster, Options},
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};
use tokio_postgres::{Client, NoTls, error::SqlState};

use crate::{nodes::Nodes, template::Template};

/// Enough connections for all tests of a process at once, each with two servers and their connection pools.
const CONNECTIONS_MAX: u32 = 400;

/// How often a database is copied or dropped. PostgreSQL gives a try up if a session of the database does not end
/// within 5 s.
const TRIES_MAX: usize = 12;

/// The first `server_version_num` that knows `CREATE DATABASE … STRATEGY`.
const STRATEGY_VERSION_MIN: u32 = 150_000;

/// A handle of the thread that runs the cluster.
///
/// The thread has a runtime of its own, because the cluster outlives the runtimes of the tests. It runs one statement
/// at a time, because PostgreSQL refuses to copy a database that has connections.
#[derive(Debug)]
pub(crate) struct Admin {
    requests: mpsc::UnboundedSender<Request>,
}

#[derive(Debug)]
enum Request {
    Create(Template, oneshot::Sender<(String, String)>),
    Drop(String),
}

impl Admin {
    /// Returns the handle of this process. The first call starts the cluster.
    pub(crate) fn of_this_process() -> &'static Admin {
        static ADMIN: LazyLock<Admin> = LazyLock::new(|| {
            let (requests, receiver) = mpsc::unbounded_channel();
            thread::spawn(|| {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                runtime
                    .expect("a Tokio runtime for the test cluster")
                    .block_on(Server::run(receiver));
            });
            Admin { requests }
        });
        &ADMIN
    }

    /// Creates a database. Returns its name and its URL.
    pub(crate) async fn create(&self, template: Template) -> (String, String) {
        let (reply, database) = oneshot::channel();
        // If the thread has panicked, its own message says why.
        let _ = self.requests.send(Request::Create(template, reply));
        database.await.expect("the cluster's thread creates the database")
    }

    pub(crate) fn drop_later(&self, name: String) {
        // If the thread is gone, the cluster is gone as well.
        let _ = self.requests.send(Request::Drop(name));
    }
}

/// Where databases are created.
enum Place {
    /// A PostgreSQL of this process.
    Own(Cluster, Client),
    Citus(Nodes),
}

struct Server {
    place: Place,
    /// The clause of `CREATE DATABASE` that copies files instead of writing all pages to the WAL.
    strategy: &'static str,
    /// The number of databases created so far, which is part of their names.
    created: u32,
    /// The templates that exist.
    templates: Vec<Template>,
}

impl Server {
    async fn run(mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut server = Server::start().await;
        while let Some(request) = requests.recv().await {
            match request {
                Request::Create(template, reply) => {
                    let database = server.create(template).await;
                    // The receiver is gone if the test has ended.
                    let _ = reply.send(database);
                }
                Request::Drop(name) => match &server.place {
                    Place::Own(_, client) => {
                        // A test that failed may have left a prepared transaction. Other tests go on, and the database
                        // ends with the cluster.
                        let _ = try_often(client, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                    }
                    Place::Citus(nodes) => nodes.drop_database(&name).await,
                },
            }
        }
    }

    async fn start() -> Server {
        let (place, strategy) = match Nodes::connect().await {
            Some(nodes) => (Place::Citus(nodes), ""),
            None => Server::start_own().await,
        };
        Server {
            place,
            strategy,
            created: 0,
            templates: Vec::new(),
        }
    }

    async fn start_own() -> (Place, &'static str) {
        let options = Options::throw_away()
            .max_connections(CONNECTIONS_MAX)
            .setting("max_prepared_transactions", "20");
        let cluster = Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let (client, connection) = tokio_postgres::connect(&cluster.url("postgres"), NoTls)
            .await
            .expect("a connection to the test cluster");
        tokio::spawn(connection);
        let row = client
            .query_one("SELECT current_setting('server_version_num')::int", &[])
            .await
            .expect("the version of PostgreSQL");
        let version: i32 = row.get(0);
        let strategy = if version.unsigned_abs() >= STRATEGY_VERSION_MIN {
            " STRATEGY file_copy"
        } else {
            ""
        };
        (Place::Own(cluster, client), strategy)
    }

    async fn create(&mut self, template: Template) -> (String, String) {
        if template != Template::Empty && !self.templates.contains(&template) {
            self.create_template(template).await;
            self.templates.push(template);
        }
        self.created += 1;
        let created = self.created;
        match &self.place {
            Place::Own(cluster, client) => {
                let name = format!("test_{created}");
                let source = name_of(template);
                let statement = format!("CREATE DATABASE {name} TEMPLATE {source}{}", self.strategy);
                execute(client, &statement).await;
                let url = cluster.url(&name);
                (name, url)
            }
            Place::Citus(nodes) => {
                let name = format!("test_{}_{created}", process::id());
                match template {
                    Template::Empty => {
                        let statement = format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0");
                        nodes.execute_on_coordinator(&statement).await;
                    }
                    Template::Migrated | Template::Undistributed | Template::Coordinator => {
                        nodes.copy(&on_citus(template), &name).await;
                    }
                }
                let url = nodes.url(&name);
                (name, url)
            }
        }
    }

    async fn create_template(&self, template: Template) {
        match &self.place {
            Place::Own(cluster, client) => {
                let name = name_of(template);
                let statement = format!("CREATE DATABASE {name} TEMPLATE template1{}", self.strategy);
                execute(client, &statement).await;
                let config = Config::from_url(&cluster.url(name)).expect("a valid URL");
                health_core::migrate(&config)
                    .await
                    .unwrap_or_else(|error| panic!("the migrations fail: {error:?}"));
                // A database with connections cannot be copied.
                execute(client, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
            }
            Place::Citus(nodes) => {
                let name = on_citus(template);
                nodes.create_template(&name, template).await;
            }
        }
    }
}

/// The name of the database that is the template.
fn name_of(template: Template) -> &'static str {
    match template {
        Template::Empty => "template1",
        Template::Migrated => "migrated",
        Template::Undistributed => "undistributed",
        Template::Coordinator => "coordinator",
    }
}

/// The name of the template on a cluster, which other test processes use as well.
fn on_citus(template: Template) -> String {
    format!("test_{}_{}", process::id(), name_of(template))
}

async fn execute(client: &Client, statement: &str) {
    if let Err(error) = try_often(client, statement).await {
        panic!(
            "{statement}: {}",
            error
                .as_db_error()
                .map_or_else(|| error.to_string(), ToString::to_string)
        );
    }
}

/// Executes a statement again and again while sessions of the database are in its way.
async fn try_often(client: &Client, statement: &str) -> Result<(), tokio_postgres::Error> {
    for _ in 1..TRIES_MAX {
        match client.batch_execute(statement).await {
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {}
            done => return done,
        }
    }
    client.batch_execute(statement).await
}

#[cfg(test)]
mod tests {
    use crate::TestDatabase;
    use tokio_postgres::NoTls;

    async fn create_and_count_tables(database: &TestDatabase) -> i64 {
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
        assert_eq!(create_and_count_tables(&one).await, 1);
        assert_eq!(create_and_count_tables(&other).await, 1);
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
    async fn the_cluster_outlives_the_runtime_that_started_it() {
        for _ in 0..2 {
            let count = std::thread::spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async { create_and_count_tables(&TestDatabase::empty().await).await })
            });
            assert_eq!(count.join().unwrap(), 1);
        }
    }
}
