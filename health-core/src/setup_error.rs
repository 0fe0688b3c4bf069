//! Why a database cannot be used as it is, in sentences that lead to the remedy.

use crate::{cause::Cause, cluster::ClusterRefusal, identifier::quoted};

/// Why a database, its schema or its role cannot be used as they are. Each message says what to change.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Some texts of a source have no form in the encoding of the database.
    #[error(
        "the database {database:?} has the encoding {encoding}, in which some names of sources cannot be stored. Use a \
         database with the encoding UTF8: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding {
        /// The name of the database.
        database: String,
        /// The name of its encoding.
        encoding: String,
    },
    /// The tables cannot be distributed by Citus.
    #[error(transparent)]
    Cluster(ClusterRefusal),
    /// The URL leads to a connection pooler that does not keep sessions.
    #[error(
        "the database URL leads to a connection pooler in transaction or statement mode, which may give a connection another \
         session of the database at any time. Connect to PostgreSQL directly, or set the pooler to session mode \
         (PgBouncer: pool_mode = session)"
    )]
    TransactionPooler,
    /// The database is missing, and the role may not create it.
    #[error(
        "the database {database:?} does not exist, and the role {role:?} may not create it. Let an administrator run: \
         CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0",
        quoted(database),
        quoted(role)
    )]
    MayNotCreateDatabase {
        /// The name of the database.
        database: String,
        /// The role of the URL.
        role: String,
        /// The database's own words.
        #[source]
        cause: Cause,
    },
    /// The role may not connect.
    #[error(
        "the role {role:?} may not connect to the database {database:?}. Let its owner run: GRANT CONNECT ON DATABASE {} \
         TO {}",
        quoted(database),
        quoted(role)
    )]
    MayNotConnect {
        /// The name of the database.
        database: String,
        /// The role of the URL.
        role: String,
        /// The database's own words.
        #[source]
        cause: Cause,
    },
    /// The schema is out of date, and the role may not change it.
    #[error(
        "the schema of the database {database:?} is not up to date, and the role {role:?} may not change it in the \
         schema {schema:?}. Run `health-server migrate` as the owner of the tables, and let the owner grant what `health-server \
         migrate --print-grants {role}` prints. If there are no tables yet, the owner of the database can let this role \
         create them: GRANT USAGE, CREATE ON SCHEMA {} TO {}",
        quoted(schema),
        quoted(role)
    )]
    MayNotMigrate {
        /// The name of the database.
        database: String,
        /// The role of the URL.
        role: String,
        /// The schema in which the tables are, or would be created.
        schema: String,
        /// The database's own words.
        #[source]
        cause: Cause,
    },
    /// The role lacks a right without which the server cannot even read.
    #[error(
        "the role {role:?} may not read the tables in the database {database:?}. Let their owner run what \
         `health-server migrate --print-grants {role}` prints"
    )]
    MayNotRead {
        /// The name of the database.
        database: String,
        /// The role of the URL.
        role: String,
        /// The database's own words.
        #[source]
        cause: Cause,
    },
    /// The schema is out of date and cannot be changed here.
    #[error(
        "the schema of the database {database:?} is not up to date, and the database is read-only. Run `health-server \
         migrate` on the primary, or make the database writable, and start the server again"
    )]
    ReadOnly {
        /// The name of the database.
        database: String,
    },
    /// A newer program has migrated the schema.
    #[error(
        "the database {database:?} has schema version {found}, but this program knows versions up to {known} only. Run the \
         newer program, or restore a backup that is older than the migration"
    )]
    NewerSchema {
        /// The name of the database.
        database: String,
        /// The version of the schema.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// A migration was applied in another form than this program has.
    #[error(
        "migration {version} ({name}) of the database {database:?} is not the one that this program has. Another program made \
         these tables: use another database"
    )]
    OtherMigration {
        /// The name of the database.
        database: String,
        /// The version of the migration.
        version: i32,
        /// Its name in the database.
        name: String,
    },
}
