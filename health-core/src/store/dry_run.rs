//! Tries the migrations that a database lacks, in a transaction that is rolled back, and reads which locks they take.
//!
//! A trial takes the same locks as the migrations, so others wait for it. It waits for each lock for a second at most,
//! and takes five seconds at most. That is less than the ingest deadline, so no client is refused because of it.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

use crate::{
    config::Config,
    error::Error,
    migration_plan::{LockMode, MigrationPlan, PendingMigration, RelationLock, Trial, TriedMigration},
    store::{
        connection::Session,
        database::{self, Facts},
        migrate::migration_error,
        refusal::classify,
        schema_version::{applied_versions, known_migrations},
        tables::Tables,
        transaction::Transaction,
    },
};

/// The longest time of a trial.
const TRIAL_MAX: Duration = Duration::from_secs(5);

/// Begins a trial. No other program may migrate meanwhile. If this program is stopped, PostgreSQL ends the transaction.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '1s'; \
     SET LOCAL idle_in_transaction_session_timeout = '5s'; SELECT pg_advisory_xact_lock(hashtext('health migrations'))";

/// The tables, views and sequences that exist before. Locks on others keep nobody waiting.
const RELATIONS: &str = "SELECT class.oid, class.relname::text FROM pg_class AS class \
     JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace \
     WHERE class.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND namespace.nspname <> 'information_schema' \
     AND NOT starts_with(namespace.nspname::text, 'pg_')";

/// The locks of this session. A table that was dropped has no name any more, but its lock is there.
const LOCKS: &str = "SELECT relation, mode FROM pg_locks WHERE locktype = 'relation' AND pid = pg_backend_pid() AND granted \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// The strongest lock on each relation.
type Locks = BTreeMap<u32, LockMode>;

/// Finds out which migrations a database lacks, and tries them in a transaction that is rolled back. Nothing is
/// changed, and no database is created.
///
/// The trial takes the locks that the migrations take, for at most five seconds. It waits at most a second for each.
///
/// # Errors
/// Those of [`migrate`](crate::migrate), also if a migration fails in the trial.
pub async fn plan_migration(config: &Config) -> Result<MigrationPlan, Error> {
    let config = config.for_sessions("migration");
    let mut session = match Session::plain(&config).await {
        Ok(session) => session,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_DATABASE) => {
            return Ok(plan(config.database(), &[], Trial::NoDatabase));
        }
        Err(error) => return Err(database::connect_error(&config, error)),
    };
    let facts = database::facts(&session).await.map_err(classify)?;
    facts.check_encoding()?;
    let applied = applied_versions(&session, &facts).await?;
    let mut plan = plan(facts.name.clone(), &applied, Trial::Complete);
    plan.trial = if plan.pending.is_empty() {
        Trial::Complete
    } else if facts.is_read_only {
        Trial::ReadOnly
    } else if session.tables() == Tables::Distributed {
        Trial::Distributed
    } else {
        try_all(&mut session, &facts, &mut plan.pending, TRIAL_MAX).await?
    };
    Ok(plan)
}

fn plan(database: String, applied: &[i32], trial: Trial) -> MigrationPlan {
    let pending = known_migrations().into_iter();
    let pending = pending.filter(|migration| !applied.contains(&migration.version()));
    MigrationPlan {
        database,
        version: applied.iter().copied().max().unwrap_or_default(),
        pending: pending
            .map(|migration| PendingMigration {
                version: migration.version(),
                name: migration.name().to_owned(),
                sql: migration.sql().unwrap_or_default().to_owned(),
                tried: None,
            })
            .collect(),
        trial,
    }
}

/// Tries all migrations in one transaction, and rolls it back.
async fn try_all(
    session: &mut Session,
    facts: &Facts,
    pending: &mut [PendingMigration],
    time_max: Duration,
) -> Result<Trial, Error> {
    let deadline = Instant::now() + time_max;
    let mut transaction = match Transaction::begin(session, BEGIN).await {
        Ok(transaction) => transaction,
        Err(error) => return trial_after(error, facts),
    };
    let rows = transaction.client().query(RELATIONS, &[]).await.map_err(classify)?;
    let names: BTreeMap<u32, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut before = Locks::new();
    for migration in pending {
        let began = Instant::now();
        let left = deadline.saturating_duration_since(began).as_millis();
        if left == 0 {
            return Ok(Trial::TooLong);
        }
        if let Err(error) = transaction.client().batch_execute(&as_one(&migration.sql, left)).await {
            return trial_after(error, facts);
        }
        let took = began.elapsed();
        let locks = locks(&mut transaction).await.map_err(classify)?;
        let is_new = |(relation, mode): &(&u32, &LockMode)| before.get(relation) != Some(mode);
        let held = locks.iter().filter(is_new).filter_map(|(relation, mode)| {
            let relation = names.get(relation)?.clone();
            Some(RelationLock { relation, mode: *mode })
        });
        let mut held: Vec<_> = held.collect();
        held.sort_by(|one, other| {
            other
                .mode
                .cmp(&one.mode)
                .then_with(|| one.relation.cmp(&other.relation))
        });
        migration.tried = Some(TriedMigration { took, locks: held });
        before = locks;
    }
    // Not left to the drop, so that the locks are free when this returns.
    transaction.client().batch_execute("ROLLBACK").await.map_err(classify)?;
    transaction.ended();
    Ok(Trial::Complete)
}

/// Makes one statement of a migration, so that the timeout is for all of it: PostgreSQL gives each statement of a query
/// its own.
fn as_one(sql: &str, left_ms: u128) -> String {
    format!(
        "SET LOCAL statement_timeout = {left_ms}; DO $dry_run$ BEGIN EXECUTE $migration${sql}$migration$; END $dry_run$"
    )
}

async fn locks(session: &mut Session) -> Result<Locks, tokio_postgres::Error> {
    let mut locks = Locks::new();
    for row in session.client().query(LOCKS, &[]).await? {
        if let Some(mode) = LockMode::of(row.get(1)) {
            let strongest = locks.entry(row.get(0)).or_insert(mode);
            *strongest = mode.max(*strongest);
        }
    }
    Ok(locks)
}

/// Sorts an error of a trial: to be kept waiting is no failure.
fn trial_after(error: tokio_postgres::Error, facts: &Facts) -> Result<Trial, Error> {
    match error.code() {
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Ok(Trial::Locked),
        Some(code) if *code == SqlState::QUERY_CANCELED => Ok(Trial::TooLong),
        _ => Err(migration_error(error, facts)),
    }
}

#[cfg(test)]
mod tests {
    use test_support::TestDatabase;

    use super::*;
    use crate::store::migrate::migrate_to;

    async fn at_version(database: &TestDatabase, version: i32) -> (Config, Session) {
        let config = Config::from_url(database.url()).unwrap();
        let mut session = Session::plain(&config).await.unwrap();
        migrate_to(&mut session, version).await;
        (config, session)
    }

    #[tokio::test]
    async fn a_current_schema_has_nothing_to_migrate_and_a_missing_database_is_not_created() {
        let database = TestDatabase::new().await;
        let current = plan_migration(&Config::from_url(database.url()).unwrap())
            .await
            .unwrap();
        assert_eq!((current.pending.len(), current.trial), (0, Trial::Complete));
        assert_eq!(current.version, known_migrations().last().unwrap().version());
        let missing = database.url_of("nosuchdatabase");
        let config = Config::from_url(&missing).unwrap();
        for _ in 0..2 {
            let plan = plan_migration(&config).await.unwrap();
            assert_eq!((plan.trial, plan.version), (Trial::NoDatabase, 0));
            assert_eq!(plan.pending.len(), known_migrations().len());
        }
    }

    #[tokio::test]
    async fn a_trial_gives_up_if_a_lock_is_not_free_and_leaves_none() {
        let database = TestDatabase::empty().await;
        let (config, session) = at_version(&database, 8).await;
        session
            .client()
            .batch_execute("BEGIN; LOCK TABLE health_metrics IN ROW EXCLUSIVE MODE")
            .await
            .unwrap();
        let plan = plan_migration(&config).await.unwrap();
        assert_eq!((plan.version, plan.trial), (8, Trial::Locked));
        assert!(
            plan.pending[0].tried.is_none() && plan.pending[0].sql.contains("health_batch_numbers"),
            "{plan:?}"
        );
        session.client().batch_execute("COMMIT").await.unwrap();
        let plan = plan_migration(&config).await.unwrap();
        assert_eq!((plan.version, plan.trial), (8, Trial::Complete));
        let locks =
            "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE relname = 'health_metrics'";
        assert_eq!(
            session.client().query_one(locks, &[]).await.unwrap().get::<_, i64>(0),
            0
        );
    }

    #[tokio::test]
    async fn a_migration_that_takes_longer_than_a_trial_may_is_cancelled_with_all_its_statements() {
        let database = TestDatabase::empty().await;
        let (_, mut session) = at_version(&database, 12).await;
        let facts = database::facts(&session).await.unwrap();
        let migration = |sql: &str| PendingMigration {
            version: 99,
            name: "slow".to_owned(),
            sql: sql.to_owned(),
            tried: None,
        };
        // Each statement alone is fast enough. All together take a minute.
        let nap = "SELECT pg_sleep(0.2);".repeat(300);
        let mut pending = [
            migration("CREATE TABLE quick (); LOCK TABLE health_dirty"),
            migration(&nap),
        ];
        let began = Instant::now();
        let trial = try_all(&mut session, &facts, &mut pending, Duration::from_secs(3))
            .await
            .unwrap();
        assert_eq!(trial, Trial::TooLong);
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
        let quick = pending[0].tried.as_ref().unwrap();
        let lock = RelationLock {
            relation: "health_dirty".to_owned(),
            mode: LockMode::AccessExclusive,
        };
        assert_eq!(quick.locks, [lock]);
        assert!(pending[1].tried.is_none());
        let quick = session
            .client()
            .query_one("SELECT to_regclass('quick') IS NULL", &[])
            .await
            .unwrap();
        assert!(quick.get::<_, bool>(0));
    }

    #[tokio::test]
    async fn a_migration_that_fails_is_an_error() {
        let database = TestDatabase::empty().await;
        let (config, session) = at_version(&database, 11).await;
        session
            .client()
            .batch_execute("CREATE TABLE health_days ()")
            .await
            .unwrap();
        let error = plan_migration(&config).await.unwrap_err();
        assert!(matches!(error, Error::Migration(_)), "{error:?}");
        assert!(error.chain().contains("health_days"), "{}", error.chain());
    }
}
