//! The nodes of a Citus cluster that tests use in place of a PostgreSQL of their own.

use std::{env, process, time::Duration};

use health_core::Config as HealthConfig;
use tokio_postgres::{Client, Config, NoTls, error::SqlState};

use crate::template::Template;

/// The variable with the URL of a database on the coordinator whose extension `citus` knows the workers.
///
/// Without it, each test process has a PostgreSQL of its own. With it, [`TestDatabase`](crate::TestDatabase) creates
/// its databases there, and distributes the tables of those that have the schema. The role must be a superuser on all
/// nodes and connect with the same password, or none. Databases that a test process leaves behind have names that begin
/// with `test_` and its number. A later process with this number drops them.
pub const CITUS: &str = "HEALTH_TEST_CITUS";

/// Returns whether tests use a cluster.
pub fn is_on_citus() -> bool {
    env::var_os(CITUS).is_some()
}

/// Returns a statement for the sum of what a statement counts on all nodes of the cluster. Without one, that is the
/// statement.
pub fn count_on_all_nodes(count: &str) -> String {
    if is_on_citus() {
        format!("SELECT sum(result::bigint)::bigint FROM run_command_on_all_nodes($count${count}$count$)")
    } else {
        count.to_owned()
    }
}

/// Returns a limit that a test waits for, within which one commit must fit. On a cluster it is longer: each of the two
/// phases of a commit waits for the disks of the nodes, which write the databases of other tests as well. The
/// PostgreSQL of a test process never waits for its disk.
pub fn commit_limit(on_one_postgresql: Duration) -> Duration {
    if is_on_citus() {
        on_one_postgresql * 10
    } else {
        on_one_postgresql
    }
}

/// Returns the SQL for a time that is earlier by an interval than that in a column. Citus refuses an UPDATE that
/// subtracts from a `timestamptz` itself, because the result can depend on the session's time zone.
pub fn earlier(column: &str, interval: &str) -> String {
    format!("({column} AT TIME ZONE 'UTC' - interval '{interval}') AT TIME ZONE 'UTC'")
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
        nodes.drop_left_behind().await;
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

    /// Creates a database on all nodes as a copy of a template.
    pub(crate) async fn copy(&self, template: &str, name: &str) {
        let copying = self.clients.iter().map(|client| copy(client, template, name));
        futures_util::future::join_all(copying).await;
    }

    /// Drops a database on all nodes, and the roles that are named after it. A transaction that is prepared in it keeps
    /// it.
    pub(crate) async fn drop_database(&self, name: &str) {
        let roles = format!(r"{name}(\D|$)");
        let dropping = self.clients.iter().map(|client| async {
            let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let _ = client.batch_execute(&statement).await;
            drop_all(client, DROP_ROLES, &roles).await;
        });
        futures_util::future::join_all(dropping).await;
    }

    /// Drops what an earlier process with the same number has left behind.
    async fn drop_left_behind(&self) {
        let names = format!("test_{}_", process::id());
        let dropping = self.clients.iter().map(|client| async {
            drop_all(client, DROP_DATABASES, &names).await;
            drop_all(client, DROP_ROLES, &names).await;
        });
        futures_util::future::join_all(dropping).await;
    }

    /// Creates a database for others to copy.
    pub(crate) async fn create_template(&self, name: &str, template: Template) {
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
        if template != Template::Coordinator {
            health_core::migrate(&config).await.expect("migrations on a cluster");
        }
        if template == Template::Migrated {
            health_core::distribute(&config).await.expect("distributed tables");
        }
        // A database with connections cannot be copied, and Citus keeps some.
        let close = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false; {}", end_sessions(name));
        self.execute(&close).await;
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

/// Makes the statements that drop databases by a part of their names.
const DROP_DATABASES: &str =
    "SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE datname ~ $1";

/// The same for roles.
const DROP_ROLES: &str = "SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname ~ $1";

/// Drops what can be dropped: a database may have a prepared transaction, and such a database keeps its roles.
async fn drop_all(client: &Client, statements: &str, names: &str) {
    for row in client.query(statements, &[&names]).await.expect("statements to drop") {
        let _ = client.batch_execute(row.get(0)).await;
    }
}

async fn client(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("a connection to a node");
    tokio::spawn(connection);
    client
}

/// How often a copy is tried. The daemon of Citus in a database connects again, also if connections are not allowed.
const COPIES_MAX: usize = 50;

async fn copy(client: &Client, template: &str, name: &str) {
    let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
    for _ in 0..COPIES_MAX {
        match client.batch_execute(&create).await {
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {
                execute(client, &end_sessions(template)).await;
            }
            done => return done.unwrap_or_else(|error| panic!("{create}: {error:?}")),
        }
    }
    panic!("{create}: the template has always sessions");
}

/// Ends the sessions of a database, and waits until they have ended.
fn end_sessions(database: &str) -> String {
    format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{database}'")
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
