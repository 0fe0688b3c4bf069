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

/// Creates the catalog of Citus in which Health looks for its tables, and says there that the samples are distributed.
const PRETEND_DISTRIBUTED: &str = "SET allow_system_table_mods = on; \
     CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partmethod \"char\"); \
     INSERT INTO pg_catalog.pg_dist_partition VALUES ('health_metrics', 'h')";

impl TestDatabase {
    /// Creates a database with the schema, as a copy of a database that is migrated once per test process.
    pub async fn new() -> TestDatabase {
        TestDatabase::copy_of(Template::Migrated).await
    }

    /// Creates a database without tables, as a copy of `template1`.
    pub async fn empty() -> TestDatabase {
        TestDatabase::copy_of(Template::Empty).await
    }

    /// Makes Health believe that the tables of this migrated database are distributed by Citus, which is not installed.
    ///
    /// Sessions that connect afterwards use the statements for distributed tables. They run on any PostgreSQL.
    pub async fn pretend_distributed(&self) {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls)
            .await
            .expect("a connection to the test database");
        tokio::spawn(connection);
        let pretended = client.batch_execute(PRETEND_DISTRIBUTED).await;
        pretended.expect("a catalog of distributed tables");
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
