//! Databases for tests.

use tokio_postgres::NoTls;

use crate::admin::{Admin, Template};

/// A database for one test. Dropping the value drops the database and closes its connections.
#[derive(Debug)]
#[must_use = "the database is dropped with this value"]
pub struct TestDatabase {
    name: String,
    url: String,
}

/// Creates the tables and functions of Citus that Health uses.
const PRETEND_CITUS: &str = include_str!("pretend_citus.sql");

/// Says in the catalog that the tables of users are distributed.
const PRETEND_DISTRIBUTED: &str = "SELECT create_distributed_table('health_metrics', 'user_id'); \
     SELECT create_distributed_table('health_rollups', 'user_id'); SELECT create_distributed_table('health_dirty', 'user_id'); \
     SELECT citus_add_local_table_to_metadata('health_commits')";

impl TestDatabase {
    /// Creates a database with the schema, as a copy of a database that is migrated once per test process.
    pub async fn new() -> TestDatabase {
        TestDatabase::copy_of(Template::Migrated).await
    }

    /// Creates a database without tables, as a copy of `template1`.
    pub async fn empty() -> TestDatabase {
        TestDatabase::copy_of(Template::Empty).await
    }

    /// Makes Health believe that the database is that of a coordinator of Citus, which is not installed. Sessions that connect
    /// afterwards see it.
    pub async fn pretend_citus(&self) {
        self.execute(PRETEND_CITUS).await;
    }

    /// Makes Health believe that the tables of this migrated database are distributed by Citus, which is not installed.
    ///
    /// Sessions that connect afterwards use the statements for distributed tables. They run on any PostgreSQL. On a cluster of
    /// [`CITUS`](crate::CITUS) the tables are distributed, and this does nothing.
    pub async fn pretend_distributed(&self) {
        if !crate::is_on_citus() {
            self.pretend_citus().await;
            self.execute(PRETEND_DISTRIBUTED).await;
        }
    }

    async fn execute(&self, statements: &str) {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls)
            .await
            .expect("a connection to the test database");
        tokio::spawn(connection);
        let executed = client.batch_execute(statements).await;
        executed.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// Returns the URL to connect to, as the superuser of the cluster.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the name of the database in its cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    async fn copy_of(template: Template) -> TestDatabase {
        let (name, url) = Admin::of_this_process().create(template).await;
        TestDatabase { name, url }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        Admin::of_this_process().drop_later(self.name.clone());
    }
}
