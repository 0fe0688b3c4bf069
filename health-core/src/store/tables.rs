//! Where the rows of users are, which decides the shape of some statements.
//!
//! [Citus](https://www.citusdata.com) is an extension that distributes tables over several PostgreSQL servers. It splits
//! a table into shards by a column, here `user_id`, and plans each statement as one task for each shard that it needs.
//! It refuses some statements that PostgreSQL runs, and returns the rows of others in another order. Most statements
//! have one shape that runs on both. Where that shape would cost PostgreSQL more than 5 %, there are two:
//!
//! * A constant whose name ends in `_LOCAL` runs only if the tables are local.
//! * Every other constant keeps the rules of `shape_rules.rs`, which a test checks. If a `_LOCAL` shape exists, its
//!   counterpart runs only if the tables are distributed.

use tokio_postgres::{Client, SimpleQueryMessage};

/// Where the rows of the tables with a `user_id` are. Each session finds out once, when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// In the database itself.
    Local,
    /// In the shards of Citus, by `user_id`. The other tables are in the database of the coordinator.
    Distributed,
}

/// Tells whether Citus is installed: the catalog of distributed tables belongs to it.
const IS_CITUS_INSTALLED: &str = "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL";

/// Tells whether the samples are distributed. The other tables with a `user_id` must then be distributed as well, so that
/// all rows of one user are on one server. The method `h` is that of tables that are distributed by a column.
const IS_DISTRIBUTED: &str = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_dist_partition \
     WHERE logicalrelid = to_regclass('health_metrics') AND partmethod = 'h')";

/// A generic plan saves planning: each statement has one good plan, whatever its parameters.
const SETTINGS_LOCAL: &str = "SET plan_cache_mode = force_generic_plan";

/// Citus finds the shards of a statement from the values of its parameters, so it cannot use a generic plan. In the mode
/// `sequential`, a transaction of many users opens one connection to each server instead of one for each shard.
const SETTINGS: &str = "SET plan_cache_mode = auto; SET citus.multi_shard_modify_mode = 'sequential'";

impl Tables {
    /// Asks the database of a connection.
    pub(super) async fn of(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let is_distributed = ask(client, IS_CITUS_INSTALLED).await? && ask(client, IS_DISTRIBUTED).await?;
        Ok(if is_distributed { Self::Distributed } else { Self::Local })
    }

    /// Returns the settings for sessions that read or write these tables.
    pub(super) fn settings(self) -> &'static str {
        match self {
            Self::Local => SETTINGS_LOCAL,
            Self::Distributed => SETTINGS,
        }
    }

    /// Chooses between the two shapes of a statement.
    pub(super) fn shape(self, local: &'static str, distributed: &'static str) -> &'static str {
        match self {
            Self::Local => local,
            Self::Distributed => distributed,
        }
    }
}

/// Returns the answer to a question that is sent in one round trip.
async fn ask(client: &Client, question: &str) -> Result<bool, tokio_postgres::Error> {
    let messages = client.simple_query(question).await?;
    Ok(messages
        .iter()
        .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))))
}
