//! Where the rows of users are, which decides the shape of some statements.
//!
//! [Citus](https://www.citusdata.com) is an extension that distributes tables over several PostgreSQL servers. It
//! splits a table into shards by a column, here `user_id`, and plans each statement as one task for each shard that it
//! needs. It refuses some statements that PostgreSQL runs, and returns the rows of others in another order. Most
//! statements have one shape that runs on both. A statement has two shapes if the
//! common one would be more than 5 % slower on PostgreSQL:
//!
//! * A constant whose name ends in `_LOCAL` runs only if the tables are local.
//! * A constant whose name ends in `_OF_SHARD` runs only if they are distributed, once for each shard, see
//!   [`shards`](crate::store::shards).
//! * Every other constant keeps the rules of `shape_rules.rs`, which a test checks. If a `_LOCAL` shape exists, its
//!   counterpart runs only if the tables are distributed.

use tokio_postgres::{Client, SimpleQueryMessage};

/// The tables with a `user_id`, which Citus can distribute by it. A test compares them with the schema. The first is
/// distributed first, and the others beside it: all rows of one user are on one server.
pub(crate) const DISTRIBUTED_TABLES: [&str; 3] = ["health_metrics", "health_rollups", "health_dirty"];

/// The tables without a `user_id`, which stay in the coordinator's database. A test compares them with the schema.
pub(crate) const LOCAL_TABLES: [&str; 5] = [
    "health_commit_packs",
    "health_commits",
    "health_erasures",
    "health_sealing",
    "health_tokens",
];

/// Where the rows of the tables with a `user_id` are. Each session finds out once, when it connects.
///
/// That stays true as long as the session is open: it holds [`PLACE_LOCK_SHARED`], and tables are distributed under the
/// same lock, taken exclusively.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// In the database itself.
    Local,
    /// In the shards of Citus, by `user_id`. The other tables are in the database of the coordinator.
    Distributed,
}

/// Keeps the tables where they are until the session ends. Part of the query that opens every session.
pub(super) const PLACE_LOCK_SHARED: &str = "SELECT pg_advisory_lock_shared(hashtext('health distribution'))";

/// Takes the same lock exclusively, until the session ends, if no other session holds it. Then no other session of this
/// program relies on where the tables are, and a new session waits.
pub(super) const TRY_PLACE_LOCK_EXCLUSIVE: &str = "SELECT pg_try_advisory_lock(hashtext('health distribution'))";

/// Tells whether Citus is installed: the catalog of distributed tables belongs to it. Part of the query that opens a
/// session, after [`PLACE_LOCK_SHARED`].
pub(super) const IS_CITUS_INSTALLED: &str =
    "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL AS is_citus_installed";

/// Tells whether the samples are distributed. The other tables with a `user_id` must then be distributed as well, so
/// that all rows of one user are on one server. The method is `h` for tables that are distributed by a column.
const IS_DISTRIBUTED: &str = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_dist_partition \
     WHERE logicalrelid = to_regclass('health_metrics') AND partmethod = 'h') AS is_distributed";

/// A generic plan saves planning: each statement has one good plan, whatever its parameters. Part of the query that
/// opens a session that reads or writes these tables.
pub(super) const SETTINGS_LOCAL: &str = "SET plan_cache_mode = force_generic_plan";

/// Citus finds the shards of a statement from the values of its parameters, so it cannot use a generic plan. In the
/// mode `sequential`, a transaction of many users opens one connection to each server instead of one for each shard.
/// They replace [`SETTINGS_LOCAL`] if the tables are distributed.
pub(super) const SETTINGS: &str = "SET plan_cache_mode = auto; SET citus.multi_shard_modify_mode = 'sequential'";

impl Tables {
    /// Reads the answers to the query that opened a session. Asks once more if Citus is installed.
    pub(super) async fn of(client: &Client, opened: &[SimpleQueryMessage]) -> Result<Self, tokio_postgres::Error> {
        let is_citus_installed = opened.iter().any(|message| is_true(message, "is_citus_installed"));
        if !is_citus_installed {
            return Ok(Self::Local);
        }
        let messages = client.simple_query(IS_DISTRIBUTED).await?;
        let is_distributed = messages.iter().any(|message| is_true(message, "is_distributed"));
        Ok(if is_distributed { Self::Distributed } else { Self::Local })
    }

    /// Chooses between the two shapes of a statement.
    pub(super) fn shape(self, local: &'static str, distributed: &'static str) -> &'static str {
        match self {
            Self::Local => local,
            Self::Distributed => distributed,
        }
    }
}

/// Returns whether a message is a row in which a column is true.
fn is_true(message: &SimpleQueryMessage, column: &str) -> bool {
    matches!(message, SimpleQueryMessage::Row(row) if row.try_get(column).ok().flatten() == Some("t"))
}
