//! Citus, which distributes the tables of users over several PostgreSQL servers: [`distribute`](crate::distribute) and
//! what [`check_database`](crate::check_database) says of the cluster.

use std::fmt;

/// One thing that [`distribute`](crate::distribute) does or finds done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DistributionStep {
    /// What is true afterwards, as a line for a person.
    pub outcome: String,
    /// The statements that make it true; none if it was true before.
    pub statements: Vec<String>,
}

/// Why the tables cannot be distributed. Each message says what to do first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterRefusal {
    /// PostgreSQL has no files of Citus.
    #[error(
        "Citus is not installed on this PostgreSQL server. Install Citus {oldest} or later for its version of PostgreSQL on \
         every node, set shared_preload_libraries = 'citus' there, restart PostgreSQL, and run CREATE EXTENSION citus in the \
         database {database:?} of every node"
    )]
    NotInstalled {
        /// The name of the database.
        database: String,
        /// The oldest version of Citus that will do.
        oldest: u32,
    },
    /// PostgreSQL has not loaded the library of Citus.
    #[error(
        "PostgreSQL has not loaded Citus. Set shared_preload_libraries = 'citus' on every node, with citus before other \
         libraries, and restart PostgreSQL{}",
        .without_extension.as_ref().map_or_else(String::new, |database| format!(
            "; then run CREATE EXTENSION citus in the database {database:?} of every node"
        ))
    )]
    NotPreloaded {
        /// The database that lacks the extension as well.
        without_extension: Option<String>,
    },
    /// The database has no extension `citus`.
    #[error(
        "the database {database:?} has no extension citus. Run CREATE EXTENSION citus in the database of this name on every \
         node"
    )]
    NoExtension {
        /// The name of the database.
        database: String,
    },
    /// The extension is too old.
    #[error(
        "the extension citus has version {found}, and {oldest} is the oldest that will do. Install a newer package on every \
         node, restart PostgreSQL, and run ALTER EXTENSION citus UPDATE"
    )]
    TooOld {
        /// The version of the extension.
        found: String,
        /// The oldest version that will do.
        oldest: u32,
    },
    /// The database is on a worker.
    #[error("this node is a worker of the cluster. Use the database URL of the coordinator, as every server must")]
    Worker,
    /// The cluster does not know the address of the coordinator.
    #[error(
        "the cluster does not know the address of this coordinator. Run SELECT citus_set_coordinator_host('NAME', PORT), with \
         the name under which the workers reach it"
    )]
    NoCoordinatorHost,
    /// There is nowhere to distribute to.
    #[error("the coordinator has no worker that takes shards. Add one: SELECT citus_add_node('NAME', PORT)")]
    NoWorker,
    /// Only the owner of a table can distribute it.
    #[error("the role {role:?} does not own the table {table}. Run `health-server distribute` as its owner, {owner:?}")]
    NotOwner {
        /// The role of the URL.
        role: String,
        /// The table.
        table: String,
        /// Its owner.
        owner: String,
    },
    /// Someone has distributed a table in another way.
    #[error(
        "the table {table} is distributed in another way than by user_id beside health_metrics. Undo it first: SELECT \
         undistribute_table('{table}')"
    )]
    OtherDistribution {
        /// The table.
        table: String,
    },
    /// The schema is out of date.
    #[error("the schema is not up to date. Run `health-server migrate` first")]
    SchemaBehind,
    /// The database is a standby, or set to read-only.
    #[error("the database is read-only. Use the URL of the primary of the coordinator")]
    ReadOnly,
    /// Sessions that have found out where the tables are, or that migrate them.
    #[error(
        "the database is in use by {}. Stop every server on this database, and try again: a server finds out where the tables \
         are when it connects",
        Holders(holders)
    )]
    InUse {
        /// What PostgreSQL says of each session: its process, application and role.
        holders: Vec<String>,
    },
}

/// The cluster that the tables are distributed over, or could be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterCheck {
    /// The version of the extension.
    pub version: String,
    /// Whether the tables of users are distributed.
    pub is_distributed: bool,
    /// Why they could not be distributed, or why a part of them is not.
    pub refusal: Option<ClusterRefusal>,
    /// What `distribute` would do.
    pub missing: Vec<String>,
    /// The nodes: coordinator and workers.
    pub nodes: usize,
    /// The nodes that do not answer, with the reason.
    pub away: Vec<String>,
    /// The nodes that can prepare fewer transactions than the coordinator can have connections, with the number.
    pub few_prepared: Vec<String>,
}

/// Some sessions in a sentence.
struct Holders<'a>(&'a [String]);

impl fmt::Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_first() {
            None => f.write_str("another session"),
            Some((first, [])) => f.write_str(first),
            Some((first, others)) => write!(f, "{first} and {} more", others.len()),
        }
    }
}
