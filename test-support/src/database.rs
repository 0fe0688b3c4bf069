//! Databases for tests.

use std::time::Duration;

use health_core::{Config as HealthConfig, Error, Health, Limits};
use tokio_postgres::NoTls;

use crate::{admin::Admin, template::Template};

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

/// Returns the default limits for a machine that is busy with other tests: nothing fails because the machine is slow.
pub fn patient_limits() -> Limits {
    const LONG: Duration = Duration::from_secs(90);
    Limits {
        ingest_deadline: LONG,
        statement_timeout: LONG,
        connection_wait: LONG,
        drain_timeout: LONG,
        ..Limits::default()
    }
}

/// Opens a database as `health-server` does: if it does not answer within a short limit of a test, tries again.
pub async fn open_with_retries(config: HealthConfig) -> Health {
    let try_open = async || {
        let health = Health::open(config.clone()).await?;
        health.authenticator().await?;
        Ok::<_, Error>(health)
    };
    loop {
        match try_open().await {
            Err(error) if error.is_retryable() => {}
            opened => return opened.expect("a database that can be opened"),
        }
    }
}

impl TestDatabase {
    /// Creates a database with the schema, as a copy of a database that is migrated once per test process.
    pub async fn new() -> TestDatabase {
        TestDatabase::copy_of(Template::Migrated).await
    }

    /// Creates the same with local tables, also on a cluster of [`CITUS`](crate::CITUS), where it is that of a
    /// coordinator.
    pub async fn undistributed() -> TestDatabase {
        TestDatabase::copy_of(if crate::is_on_citus() {
            Template::Undistributed
        } else {
            Template::Migrated
        })
        .await
    }

    /// Creates a database in which Health uses its statements for distributed tables, or those for local ones.
    pub async fn distributed_if(is_distributed: bool) -> TestDatabase {
        if !is_distributed {
            return TestDatabase::undistributed().await;
        }
        let database = TestDatabase::new().await;
        if !crate::is_on_citus() {
            database.distribute().await;
        }
        database
    }

    /// Creates a database without tables that is that of a coordinator of Citus, or seems so, see
    /// [`pretend_citus`](Self::pretend_citus).
    pub async fn coordinator() -> TestDatabase {
        if crate::is_on_citus() {
            return TestDatabase::copy_of(Template::Coordinator).await;
        }
        let database = TestDatabase::empty().await;
        database.pretend_citus().await;
        database
    }

    /// Creates a database without tables, as a copy of `template1`.
    pub async fn empty() -> TestDatabase {
        TestDatabase::copy_of(Template::Empty).await
    }

    /// Makes Health believe that the database is that of a coordinator of Citus, which is not installed. Sessions that
    /// connect afterwards see it.
    pub async fn pretend_citus(&self) {
        self.execute(PRETEND_CITUS).await;
    }

    /// Distributes the tables of an undistributed database of a cluster of [`CITUS`](crate::CITUS). Elsewhere, makes
    /// Health believe that the tables are distributed by Citus, which is not installed. No session of Health may be
    /// open.
    ///
    /// Sessions that connect afterwards use the statements for distributed tables. They run on any PostgreSQL.
    pub async fn distribute(&self) {
        if crate::is_on_citus() {
            let config = HealthConfig::from_url(&self.url).expect("a valid URL");
            let distributed = health_core::distribute(&config).await;
            distributed.unwrap_or_else(|error| panic!("the tables are not distributed: {error:?}"));
        } else {
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

    /// Returns the URL of another database of the same server, which need not exist.
    pub fn url_of(&self, other: &str) -> String {
        // The URL of the throw-away PostgreSQL encodes the name, that of a cluster does not.
        let encoded = self.name.replace('_', "%5F");
        let name = if self.url.contains(&encoded) {
            &encoded
        } else {
            &self.name
        };
        self.url.replacen(name, other, 1)
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
