//! The nodes of a Citus cluster that tests use in place of a PostgreSQL of their own.

use std::env;

use health_core::Config as HealthConfig;
use tokio_postgres::{Client, Config, NoTls};

/// The variable with the URL of a database on the coordinator whose extension `citus` knows the workers.
///
/// Without it, each test process has a PostgreSQL of its own. With it, [`TestDatabase`](crate::TestDatabase) creates its
/// databases there, and distributes the tables of those that have the schema. The role must be a superuser on all nodes and
/// connect with the same password, or none. What a test process leaves behind has names that begin with `test_`.
pub const CITUS: &str = "HEALTH_TEST_CITUS";

/// Returns whether tests use a cluster.
pub fn is_on_citus() -> bool {
    env::var_os(CITUS).is_some()
}

/// The nodes of a cluster; the first is the coordinator.
pub(crate) struct Nodes {
    url: Config,
    addresses: Vec<(String, u16)>,
    clients: Vec<Client>,
}

impl Nodes {
    /// Connects to all nodes of the cluster that the variable names.
    pub(crate) async fn connect() -> Option<Nodes> {
        let url: Config = env::var(CITUS)
            .ok()?
            .parse()
            .expect("a database URL in HEALTH_TEST_CITUS");
        let coordinator = client(&url).await;
        let nodes = "SELECT nodename::text, nodeport FROM pg_dist_node WHERE noderole = 'primary' ORDER BY groupid";
        let rows = coordinator.query(nodes, &[]).await.expect("the nodes of the cluster");
        let address = |row: &tokio_postgres::Row| {
            let port = u16::try_from(row.get::<_, i32>(1)).expect("a port");
            (row.get::<_, String>(0), port)
        };
        let addresses: Vec<_> = rows.iter().map(address).collect();
        let mut nodes = Nodes {
            url,
            addresses,
            clients: Vec::new(),
        };
        for index in 0..nodes.addresses.len() {
            nodes.clients.push(client(&nodes.of(index, "postgres")).await);
        }
        Some(nodes)
    }

    /// Returns the URL of a database on the coordinator.
    pub(crate) fn url(&self, database: &str) -> String {
        let (host, port) = &self.addresses[0];
        let user = self.url.get_user().unwrap_or("postgres");
        let password = self.url.get_password().map(String::from_utf8_lossy);
        let password = password.map_or_else(String::new, |password| format!(":{password}"));
        format!("postgres://{user}{password}@{host}:{port}/{database}")
    }

    /// Executes a statement in the database `postgres` of the coordinator.
    pub(crate) async fn execute_on_coordinator(&self, statement: &str) {
        execute(&self.clients[0], statement).await;
    }

    /// Executes a statement in the database `postgres` of all nodes.
    pub(crate) async fn execute(&self, statement: &str) {
        let executing = self.clients.iter().map(|client| execute(client, statement));
        futures_util::future::join_all(executing).await;
    }

    /// Drops a database on all nodes. A transaction that is prepared in it keeps it.
    pub(crate) async fn drop_database(&self, name: &str) {
        let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        let dropping = self.clients.iter().map(|client| client.batch_execute(&statement));
        futures_util::future::join_all(dropping).await;
    }

    /// Creates a database with the schema, distributed over the workers, for others to copy.
    pub(crate) async fn create_template(&self, name: &str) {
        self.execute(&format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))
            .await;
        for index in 0..self.addresses.len() {
            execute(&client(&self.of(index, name)).await, "CREATE EXTENSION citus").await;
        }
        let coordinator = client(&self.of(0, name)).await;
        for (index, (host, port)) in self.addresses.iter().enumerate() {
            let function = if index == 0 {
                "citus_set_coordinator_host"
            } else {
                "citus_add_node"
            };
            execute(&coordinator, &format!("SELECT {function}('{host}', {port})")).await;
        }
        drop(coordinator);
        let config = HealthConfig::from_url(&self.url(name)).expect("a valid URL");
        health_core::migrate(&config).await.expect("migrations on a cluster");
        health_core::distribute(&config).await.expect("distributed tables");
        // A database with connections cannot be copied, and Citus keeps some.
        self.execute(&format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS false; \
             SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
    }

    fn of(&self, index: usize, database: &str) -> Config {
        let (host, port) = &self.addresses[index];
        let mut config = Config::new();
        config.host(host).port(*port).dbname(database);
        config.user(self.url.get_user().unwrap_or("postgres"));
        if let Some(password) = self.url.get_password() {
            config.password(password);
        }
        config
    }
}

async fn client(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("a connection to a node");
    tokio::spawn(connection);
    client
}

async fn execute(client: &Client, statements: &str) {
    if let Err(error) = client.batch_execute(statements).await {
        panic!(
            "{statements}: {}",
            error
                .as_db_error()
                .map_or_else(|| error.to_string(), ToString::to_string)
        );
    }
}
