//! The databases tests get.

use crate::admin::{Admin, Template};

/// A database of one test's own. It is dropped with the value, connections and all.
#[derive(Debug)]
#[must_use = "the database is dropped with this value"]
pub struct TestDatabase {
    name: String,
    url: String,
}

impl TestDatabase {
    /// A database with the schema, copied from one that was migrated once for the whole process.
    pub async fn new() -> TestDatabase {
        TestDatabase::copy_of(Template::Migrated).await
    }

    /// A database without any tables, copied from `template1`.
    pub async fn empty() -> TestDatabase {
        TestDatabase::copy_of(Template::Empty).await
    }

    /// The URL to connect by, as the cluster's superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The name of the database in its cluster.
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
