//! Databases for tests.

use crate::admin::{Admin, Template};

/// A database for one test. Dropping the value drops the database and closes its connections.
#[derive(Debug)]
#[must_use = "the database is dropped with this value"]
pub struct TestDatabase {
    name: String,
    url: String,
}

impl TestDatabase {
    /// Creates a database with the schema, as a copy of a database that is migrated once per test process.
    pub async fn new() -> TestDatabase {
        TestDatabase::copy_of(Template::Migrated).await
    }

    /// Creates a database without tables, as a copy of `template1`.
    pub async fn empty() -> TestDatabase {
        TestDatabase::copy_of(Template::Empty).await
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
