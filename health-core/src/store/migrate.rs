//! Creates the database if it is missing, and brings its schema up to date.

use std::{error::Error as StdError, sync::Arc};

use tokio_postgres::error::SqlState;

use crate::{
    config::Config,
    error::Error,
    setup_error::SetupError,
    store::{
        connect_refusal::classify_connect,
        connection::Session,
        database::{self, Facts},
        distribute,
        lock_wait::{LockWait, report_waits},
        pooler,
        refusal::classify,
        schema_version::{self, is_current},
    },
};

/// Makes two servers that start at the same moment migrate one after the other. Refinery takes no lock of its own.
///
/// The lock ends with its transaction, so no pooler can keep it in a session that it gives to other programs. Refinery
/// runs each migration in a transaction of its own; so the lock has a connection of its own. No timeout of the role may
/// end this transaction, which waits for the lock, and then idles while the migrations run.
const LOCK: &str = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; \
     SELECT set_config('transaction_timeout', '0', true) WHERE current_setting('transaction_timeout', true) <> '0'; \
     SELECT pg_advisory_xact_lock(hashtext('health migrations'))";

/// Brings the schema up to date; creates the database if it is missing and this role may create it.
///
/// If the schema is current, it needs no right but to read. Several programs may call it at the same time: one
/// migrates, the others wait and then find nothing to do.
///
/// # Errors
/// [`Error::Unavailable`] if the database cannot be reached. [`Error::Setup`] if the database, its schema or the role
/// cannot be used as they are. [`Error::Migration`] if a migration fails.
pub async fn migrate(config: &Config) -> Result<(), Error> {
    prepare(config).await.map(|_| ())
}

/// Does what [`migrate`] does, and returns what the session has found out about the database.
pub(crate) async fn prepare(config: &Config) -> Result<Facts, Error> {
    let config = config.for_sessions("migration");
    let is_checked = pooler::check(&config).await?;
    let mut session = database::connect_or_create(&config).await?;
    if !is_checked {
        pooler::check(&config).await?;
    }
    let facts = database::facts(&session).await.map_err(classify)?;
    facts.check_encoding()?;
    distribute::refuse_worker(&session).await?;
    let Facts {
        name, role, version, ..
    } = &facts;
    tracing::info!(database = name, role, version, "connected to PostgreSQL");
    let waits = |wait: Option<&LockWait>, waited| {
        if wait.is_none() {
            tracing::info!(?waited, "the schema is still being checked or brought up to date");
        }
    };
    let (pid, checking) = (session.pid(), is_current(&session, &facts));
    let is_current = report_waits(&config, pid, "the check of the schema", waits, checking).await?;
    if is_current && distribute::is_complete(&session).await? {
        return Ok(facts);
    }
    if facts.is_read_only {
        return Err(Error::Setup(SetupError::ReadOnly { database: facts.name }));
    }
    let lock = Session::plain(&config).await.map_err(classify_connect)?;
    let (lock_pid, locking) = (lock.pid(), take_lock(&lock));
    report_waits(&config, lock_pid, "the migration of the schema", waits, locking).await?;
    let migrating = bring_up_to_date(&mut session, &facts);
    report_waits(&config, pid, "the migration of the schema", waits, migrating).await?;
    // If this fails, the connection is lost, and the lock with it.
    let _ = lock.client().batch_execute("ROLLBACK").await;
    Ok(facts)
}

/// Waits for the lock of the migrations. The session holds it until its transaction ends.
async fn take_lock(session: &Session) -> Result<(), Error> {
    session.client().batch_execute(LOCK).await.map_err(classify)
}

async fn bring_up_to_date(session: &mut Session, facts: &Facts) -> Result<(), Error> {
    // Another server may have migrated meanwhile.
    if !is_current(session, facts).await? {
        run_migrations(session, facts).await?;
    }
    distribute::distribute_added(session, facts).await
}

async fn run_migrations(session: &mut Session, facts: &Facts) -> Result<(), Error> {
    let report = schema_version::runner()
        .run_async(session.client_mut())
        .await
        .map_err(|error| migration_error(error, facts))?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "migrated");
    }
    Ok(())
}

pub(crate) fn migration_error(error: impl StdError + Send + Sync + 'static, facts: &Facts) -> Error {
    // PostgreSQL reports a schema that the role may not use as a schema that does not exist.
    let missing_right = [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::UNDEFINED_SCHEMA,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    if code_of(&error).is_some_and(|code| missing_right.contains(code)) {
        return Error::Setup(SetupError::MayNotMigrate {
            database: facts.name.clone(),
            role: facts.role.clone(),
            schema: facts.schema.clone(),
            cause: Arc::new(error),
        });
    }
    Error::Migration(Arc::new(error))
}

/// Applies the migrations up to a version, as the program of that version did.
#[cfg(test)]
pub(crate) async fn migrate_to(session: &mut Session, version: i32) {
    let runner = schema_version::runner().set_target(refinery::Target::Version(version));
    runner.run_async(session.client_mut()).await.unwrap();
}

/// Returns PostgreSQL's code in the causes of an error.
fn code_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a SqlState> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return error.code();
        }
        cause = error.source();
    }
    None
}
