//! What the start asks of a database: its name, its encoding, the role, and whether it can be written.

use std::sync::Arc;

use tokio_postgres::error::SqlState;

use crate::{
    config::Config,
    error::Error,
    identifier::quoted,
    setup_error::SetupError,
    store::{connect_refusal::classify_connect, connection::Session},
};

/// Reads everything in one round trip.
///
/// During a recovery every transaction is read-only. There is no current schema if the role may use none of those in
/// its search path.
const FACTS: &str = "SELECT current_database()::text, current_user::text, coalesce(current_schema(), 'public')::text, \
     current_setting('server_encoding'), current_setting('transaction_read_only')::boolean, \
     current_setting('server_version')";

/// The database to which sessions connect that create another one. Every PostgreSQL has it, unless someone dropped it.
const MAINTENANCE_DATABASE: &str = "postgres";

/// A locale that fits every encoding. It is used if the default locale of the server fits another encoding only.
const PLAIN_LOCALE: &str = "LC_COLLATE 'C' LC_CTYPE 'C'";

/// What a session has said about its database.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) schema: String,
    pub(crate) encoding: String,
    /// The database is a standby, or was set to read-only.
    pub(crate) is_read_only: bool,
    pub(crate) version: String,
}

/// Asks a session about its database.
pub(crate) async fn facts(session: &Session) -> Result<Facts, tokio_postgres::Error> {
    let row = session.client().query_one(FACTS, &[]).await?;
    Ok(Facts {
        name: row.get(0),
        role: row.get(1),
        schema: row.get(2),
        encoding: row.get(3),
        is_read_only: row.get(4),
        version: row.get(5),
    })
}

impl Facts {
    /// Refuses an encoding that cannot hold every text. `SQL_ASCII` takes any bytes, and this program sends UTF-8 only.
    pub(crate) fn check_encoding(&self) -> Result<(), SetupError> {
        if ["UTF8", "SQL_ASCII"].contains(&self.encoding.as_str()) {
            return Ok(());
        }
        Err(SetupError::Encoding {
            database: self.name.clone(),
            encoding: self.encoding.clone(),
        })
    }
}

/// Connects. If the database is missing, creates it first.
pub(crate) async fn connect_or_create(config: &Config) -> Result<Session, Error> {
    match Session::plain(config).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_DATABASE) => {
            create(config).await?;
            Session::plain(config)
                .await
                .map_err(|error| connect_error(config, error))
        }
        connected => connected.map_err(|error| connect_error(config, error)),
    }
}

/// Sorts an error of connecting: here a missing right is the right to connect.
pub(crate) fn connect_error(config: &Config, error: tokio_postgres::Error) -> Error {
    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return Error::Setup(SetupError::MayNotConnect {
            database: config.database(),
            role: config.role(),
            cause: Arc::new(error),
        });
    }
    classify_connect(error)
}

async fn create(config: &Config) -> Result<(), Error> {
    let name = config.database();
    let refused = |error: tokio_postgres::Error| {
        let refusals = [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::UNDEFINED_DATABASE,
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ];
        if error.code().is_some_and(|code| refusals.contains(code)) {
            return Error::Setup(SetupError::MayNotCreateDatabase {
                database: config.database(),
                role: config.role(),
                cause: Arc::new(error),
            });
        }
        classify_connect(error)
    };
    let mut maintenance = config.clone();
    maintenance.postgres.dbname(MAINTENANCE_DATABASE);
    let session = Session::plain(&maintenance).await.map_err(refused)?;
    // template0 can be copied with another encoding than its own, and while others create databases.
    let create = format!("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", quoted(&name));
    let created = match session.client().batch_execute(&create).await {
        // The default locale does not fit UTF8.
        Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
            session
                .client()
                .batch_execute(&format!("{create} {PLAIN_LOCALE}"))
                .await
        }
        created => created,
    };
    match created {
        Ok(()) => {
            tracing::info!(database = name, "created the database");
            Ok(())
        }
        // Another program has created it meanwhile. PostgreSQL reports either code, depending on the moment.
        Err(error)
            if [Some(&SqlState::DUPLICATE_DATABASE), Some(&SqlState::UNIQUE_VIOLATION)].contains(&error.code()) =>
        {
            Ok(())
        }
        Err(error) => Err(refused(error)),
    }
}
