//! Distributes the tables of users with Citus.
//!
//! Everything is one transaction, so no session finds some tables distributed and others not. A session remembers where
//! the tables are, so no server may have a session open meanwhile, see [`tables`](crate::store::tables).
//!
//! A table that a later migration adds is distributed by the start that applies the migration.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;
use tokio_postgres::Row;

use crate::{
    cluster::{ClusterRefusal, DistributionStep},
    config::Config,
    error::Error,
    setup_error::SetupError,
    store::{
        connect_refusal::classify_connect,
        connection::Session,
        database::{self, Facts},
        refusal::classify,
        schema_version,
        tables::{DISTRIBUTED_TABLES, LOCAL_TABLES, TRY_PLACE_LOCK_EXCLUSIVE, Tables},
    },
};

/// The oldest major version of Citus that has everything that this program uses.
pub(super) const VERSION_MIN: u32 = 12;

/// The table that stays on the coordinator and is in the metadata of Citus all the same. So Citus takes a transaction
/// that changes it for one on several nodes and commits it in two phases: the commit record and the rows become durable
/// together or not at all.
const TABLE_OF_COMMITS: &str = "health_commits";

/// What PostgreSQL knows of Citus. The setting exists if the library is loaded.
const CITUS: &str = "SELECT (SELECT extversion::text FROM pg_extension WHERE extname = 'citus'), \
     current_setting('citus.version', true) IS NOT NULL, \
     EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'citus')";

/// The number of the node's group.
const GROUP: &str = "SELECT groupid FROM pg_dist_local_group";

/// What the node knows of its cluster. Group 0 is the coordinator.
const NODE: &str = "SELECT coalesce((SELECT groupid FROM pg_dist_local_group LIMIT 1), 0), \
     EXISTS (SELECT 1 FROM pg_dist_node WHERE groupid = 0), \
     (SELECT count(*) FROM pg_dist_node WHERE noderole = 'primary' AND isactive AND shouldhaveshards)";

/// Where each table is. The method is `h` for a table that is distributed by a column.
const PLACES: &str = "SELECT relation.relname::text, part.partmethod::text, \
     CASE WHEN part.partmethod = 'h' THEN column_to_column_name(part.logicalrelid, part.partkey) END, part.colocationid, \
     pg_has_role(relation.relowner, 'USAGE'), pg_get_userbyid(relation.relowner)::text \
     FROM pg_class AS relation LEFT JOIN pg_dist_partition AS part ON part.logicalrelid = relation.oid \
     WHERE relation.oid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS names (name))";

/// Counts the tables that are distributed by a column.
const COUNT_DISTRIBUTED: &str = "SELECT count(*) FROM pg_dist_partition WHERE partmethod = 'h' \
     AND logicalrelid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS names (name))";

/// Until the session ends, keeps away the pollers of servers of earlier versions, which hold no other lock.
const TRY_FEED_LOCK: &str = "SELECT pg_try_advisory_lock(hashtext('health feed'), 0)";

/// The sessions that hold one of the two locks.
const HOLDERS: &str = "SELECT DISTINCT 'process ' || held.pid || coalesce(' (application ' || to_json(session.application_name) \
     || ', role ' || to_json(session.usename::text) || ')', '') \
     FROM pg_locks AS held LEFT JOIN pg_stat_activity AS session ON session.pid = held.pid \
     WHERE held.locktype = 'advisory' AND held.granted AND held.pid <> pg_backend_pid() \
     AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND ((held.objsubid = 1 AND (held.classid::bigint << 32) | held.objid::bigint = hashtext('health distribution')) \
     OR (held.objsubid = 2 AND held.classid = hashtext('health feed')::bigint::bit(32)::bigint AND held.objid = 0)) ORDER BY 1";

/// Begins the transaction. No statement has a time limit, because moving all samples may take long. The lock lets
/// migrations wait. In the mode `sequential`, Citus permits changes of several tables in one transaction.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '1min'; \
     SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL citus.multi_shard_modify_mode = 'sequential'; \
     SELECT pg_advisory_xact_lock(hashtext('health migrations'))";

/// How often the locks are tried. A command that was just ended may still hold one.
const LOCK_ATTEMPTS: u32 = 20;

/// The pause between two attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Where a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Local,
    /// Distributed by `user_id`, with the number of the group of tables that it is beside.
    ByUser(i32),
    /// On the coordinator, and known to Citus.
    InMetadata,
    /// In another way.
    Other,
}

/// Returns what [`distribute`] would do, and changes nothing.
///
/// # Errors
/// Those of [`distribute`], except that a running server does not matter.
pub async fn distribution_steps(config: &Config) -> Result<Vec<DistributionStep>, Error> {
    let (session, facts) = open(config).await?;
    steps(&session, &facts).await
}

/// Distributes the tables of users over the workers of a Citus cluster, by user. The database must be that of the
/// coordinator. Tables that are distributed already stay as they are, so a second call is harmless. Returns what is
/// true afterwards.
///
/// Every server must be stopped meanwhile, because a session finds out where the tables are only when it connects.
///
/// # Errors
/// [`Error::Setup`] with what is missing, or with the sessions that use the database.
pub async fn distribute(config: &Config) -> Result<Vec<DistributionStep>, Error> {
    let (session, facts) = open(config).await?;
    steps(&session, &facts).await?;
    lock(&session).await?;
    within_transaction(&session, &facts).await
}

/// Returns false if some tables of users are distributed and others are not. Unlike [`steps`], it needs no rights on
/// the tables.
pub(super) async fn is_complete(session: &Session) -> Result<bool, Error> {
    if session.tables() == Tables::Local {
        return Ok(true);
    }
    let tables = DISTRIBUTED_TABLES.as_slice();
    let row = session.client().query_one(COUNT_DISTRIBUTED, &[&tables]).await;
    let distributed: i64 = row.map_err(classify)?.get(0);
    Ok(usize::try_from(distributed) == Ok(DISTRIBUTED_TABLES.len()))
}

/// Distributes the tables that a migration has added, if the others are distributed. The caller holds the lock of
/// migrations.
pub(super) async fn distribute_added(session: &Session, facts: &Facts) -> Result<(), Error> {
    if session.tables() == Tables::Local || !has_citus(session).await? {
        return Ok(());
    }
    let steps = steps(session, facts).await?;
    for step in steps.iter().filter(|step| !step.statements.is_empty()) {
        let statements = step.statements.join("; ");
        let client = session.client();
        client.batch_execute(&statements).await.map_err(classify)?;
        tracing::info!("{}", step.outcome);
    }
    Ok(())
}

async fn open(config: &Config) -> Result<(Session, Facts), Error> {
    let config = config.for_sessions("distribution");
    let session = Session::plain(&config).await.map_err(classify_connect)?;
    let facts = database::facts(&session).await.map_err(classify)?;
    if facts.is_read_only {
        return Err(refused(ClusterRefusal::ReadOnly));
    }
    if has_citus(&session).await? {
        // A worker has no table of migrations.
        check_node(&session).await?;
    }
    if !schema_version::is_current(&session, &facts).await? {
        return Err(refused(ClusterRefusal::SchemaBehind));
    }
    Ok((session, facts))
}

/// Takes the locks that show that no other session relies on where the tables are.
async fn lock(session: &Session) -> Result<(), Error> {
    let client = session.client();
    for lock in [TRY_PLACE_LOCK_EXCLUSIVE, TRY_FEED_LOCK] {
        let mut attempts = 1;
        while !client.query_one(lock, &[]).await.map_err(classify)?.get::<_, bool>(0) {
            if attempts == LOCK_ATTEMPTS {
                let holders = client.query(HOLDERS, &[]).await.map_err(classify)?;
                let holders = holders.iter().map(|row| row.get(0)).collect();
                return Err(refused(ClusterRefusal::InUse { holders }));
            }
            attempts += 1;
            sleep(LOCK_PAUSE).await;
        }
    }
    Ok(())
}

async fn within_transaction(session: &Session, facts: &Facts) -> Result<Vec<DistributionStep>, Error> {
    session.client().batch_execute(BEGIN).await.map_err(classify)?;
    // Another program may have distributed the tables before this one got the locks.
    let steps = steps(session, facts).await?;
    for statement in steps.iter().flat_map(|step| &step.statements) {
        session.client().batch_execute(statement).await.map_err(classify)?;
    }
    // After an error above, the caller drops the session, which rolls the transaction back.
    session.client().batch_execute("COMMIT").await.map_err(classify)?;
    Ok(steps)
}

/// Returns what to do, or why it cannot be done.
pub(super) async fn steps(session: &Session, facts: &Facts) -> Result<Vec<DistributionStep>, Error> {
    check_citus(session, facts).await?;
    check_node(session).await?;
    let places = places(session, facts).await?;
    plan(&places).map_err(refused)
}

/// Returns whether the database has the extension, and PostgreSQL has loaded it.
pub(super) async fn has_citus(session: &Session) -> Result<bool, Error> {
    let row = session.client().query_one(CITUS, &[]).await.map_err(classify)?;
    Ok(row.get::<_, Option<&str>>(0).is_some() && row.get(1))
}

/// Refuses to serve from a worker: it sees all tables, but has its own ids, locks and notifications.
pub(super) async fn refuse_worker(session: &Session) -> Result<(), Error> {
    if session.tables() == Tables::Local {
        return Ok(());
    }
    let rows = session.client().query(GROUP, &[]).await.map_err(classify)?;
    if rows.iter().any(|row| row.get::<_, i32>(0) != 0) {
        return Err(refused(ClusterRefusal::Worker));
    }
    Ok(())
}

/// Returns the version of the extension.
pub(super) async fn check_citus(session: &Session, facts: &Facts) -> Result<String, Error> {
    let row = session.client().query_one(CITUS, &[]).await.map_err(classify)?;
    let (version, is_loaded, is_available): (Option<String>, bool, bool) = (row.get(0), row.get(1), row.get(2));
    let database = facts.name.clone();
    let version = match (version, is_loaded) {
        (Some(version), true) => version,
        (Some(_), false) => {
            return Err(refused(ClusterRefusal::NotPreloaded {
                without_extension: None,
            }));
        }
        (None, true) => return Err(refused(ClusterRefusal::NoExtension { database })),
        (None, false) if is_available => {
            return Err(refused(ClusterRefusal::NotPreloaded {
                without_extension: Some(database),
            }));
        }
        (None, false) => {
            return Err(refused(ClusterRefusal::NotInstalled {
                database,
                oldest: VERSION_MIN,
            }));
        }
    };
    if is_too_old(&version) {
        return Err(refused(ClusterRefusal::TooOld {
            found: version,
            oldest: VERSION_MIN,
        }));
    }
    Ok(version)
}

/// Returns whether a version such as `13.2-1` is older than [`VERSION_MIN`].
fn is_too_old(version: &str) -> bool {
    let major = version.split(['.', '-']).next();
    major
        .and_then(|major| major.parse::<u32>().ok())
        .is_none_or(|major| major < VERSION_MIN)
}

async fn check_node(session: &Session) -> Result<(), Error> {
    let row = session.client().query_one(NODE, &[]).await.map_err(classify)?;
    let (group, has_coordinator, workers): (i32, bool, i64) = (row.get(0), row.get(1), row.get(2));
    match () {
        () if group != 0 => Err(refused(ClusterRefusal::Worker)),
        () if workers == 0 => Err(refused(ClusterRefusal::NoWorker)),
        () if !has_coordinator => Err(refused(ClusterRefusal::NoCoordinatorHost)),
        () => Ok(()),
    }
}

/// Finds out where the tables are that a cluster has in another place than one PostgreSQL.
async fn places(session: &Session, facts: &Facts) -> Result<BTreeMap<String, Place>, Error> {
    let mut tables = DISTRIBUTED_TABLES.to_vec();
    tables.push(TABLE_OF_COMMITS);
    let rows = session.client().query(PLACES, &[&tables]).await.map_err(classify)?;
    rows.iter().map(|row| place(row, facts)).collect()
}

fn place(row: &Row, facts: &Facts) -> Result<(String, Place), Error> {
    let (table, method): (String, Option<&str>) = (row.get(0), row.get(1));
    let (column, group): (Option<&str>, Option<i32>) = (row.get(2), row.get(3));
    let place = match (method, column, group) {
        (None, ..) => Place::Local,
        (Some("h"), Some("user_id"), Some(group)) => Place::ByUser(group),
        (Some("n"), ..) => Place::InMetadata,
        _ => Place::Other,
    };
    if !row.get::<_, bool>(4) {
        return Err(refused(ClusterRefusal::NotOwner {
            role: facts.role.clone(),
            table,
            owner: row.get(5),
        }));
    }
    Ok((table, place))
}

/// Returns the steps that lead from these places to the right ones.
fn plan(places: &BTreeMap<String, Place>) -> Result<Vec<DistributionStep>, ClusterRefusal> {
    let place_of = |table: &str| places.get(table).unwrap_or(&Place::Local);
    let other = |table: &str| ClusterRefusal::OtherDistribution {
        table: table.to_owned(),
    };
    let [first, ..] = DISTRIBUTED_TABLES;
    let mut steps = Vec::new();
    for table in DISTRIBUTED_TABLES {
        let beside = if table == first {
            String::new()
        } else {
            format!(", beside {first}")
        };
        let (done, statements) = match place_of(table) {
            Place::ByUser(group) if table == first || *place_of(first) == Place::ByUser(*group) => ("already ", vec![]),
            Place::Local => ("", distributing(table, first)),
            Place::ByUser(_) | Place::InMetadata | Place::Other => return Err(other(table)),
        };
        steps.push(DistributionStep {
            outcome: format!("{table} is {done}distributed by user_id{beside}"),
            statements,
        });
    }
    let (done, statements) = match place_of(TABLE_OF_COMMITS) {
        Place::InMetadata => ("already ", vec![]),
        Place::Local => (
            "",
            vec![format!(
                "SELECT citus_add_local_table_to_metadata('{TABLE_OF_COMMITS}')"
            )],
        ),
        Place::ByUser(_) | Place::Other => return Err(other(TABLE_OF_COMMITS)),
    };
    steps.push(DistributionStep {
        outcome: format!(
            "{TABLE_OF_COMMITS} stays on the coordinator and is {done}in the metadata of Citus, so that every commit has two phases"
        ),
        statements,
    });
    let others: Vec<_> = LOCAL_TABLES
        .into_iter()
        .filter(|table| *table != TABLE_OF_COMMITS)
        .collect();
    steps.push(DistributionStep {
        outcome: format!("{} stay on the coordinator", others.join(", ")),
        statements: Vec::new(),
    });
    Ok(steps)
}

/// Returns the statements that distribute a table. The first leaves its rows in the coordinator's table as well, where
/// no statement finds them any more; the second removes them.
fn distributing(table: &str, first: &str) -> Vec<String> {
    let beside = if table == first {
        String::new()
    } else {
        format!(", colocate_with => '{first}'")
    };
    vec![
        format!("SELECT create_distributed_table('{table}', 'user_id'{beside})"),
        format!("SELECT truncate_local_data_after_distributing_table('{table}')"),
    ]
}

fn refused(refusal: ClusterRefusal) -> Error {
    Error::Setup(SetupError::Cluster(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(places: &[(&str, Place)]) -> BTreeMap<String, Place> {
        places
            .iter()
            .map(|(table, place)| ((*table).to_owned(), place.clone()))
            .collect()
    }

    fn statements(steps: &[DistributionStep]) -> Vec<&str> {
        steps
            .iter()
            .flat_map(|step| &step.statements)
            .map(String::as_str)
            .collect()
    }

    #[test]
    fn every_table_is_distributed_beside_the_first_or_stays() {
        let steps = plan(&places(&[])).unwrap();
        let statements = statements(&steps);
        assert_eq!(
            statements[0],
            "SELECT create_distributed_table('health_metrics', 'user_id')"
        );
        for table in DISTRIBUTED_TABLES {
            let distributed = format!("SELECT create_distributed_table('{table}', 'user_id'");
            let truncated = format!("SELECT truncate_local_data_after_distributing_table('{table}')");
            assert!(
                statements.iter().any(|statement| statement.starts_with(&distributed)),
                "{table}"
            );
            assert!(statements.contains(&truncated.as_str()), "{table}");
        }
        for table in &statements[2..statements.len() - 1] {
            assert!(
                table.contains("truncate") || table.contains("colocate_with => 'health_metrics'"),
                "{table}"
            );
        }
        assert_eq!(
            statements.last(),
            Some(&"SELECT citus_add_local_table_to_metadata('health_commits')")
        );
        let outcomes: Vec<_> = steps.iter().map(|step| step.outcome.as_str()).collect();
        for table in DISTRIBUTED_TABLES.iter().chain(&LOCAL_TABLES) {
            assert!(
                outcomes.iter().any(|outcome| outcome.contains(table)),
                "{table}: {outcomes:?}"
            );
        }
    }

    #[test]
    fn what_is_done_is_not_done_again_and_a_table_of_a_later_migration_is_added() {
        let mut now = places(&[
            ("health_metrics", Place::ByUser(3)),
            ("health_rollups", Place::ByUser(3)),
            ("health_dirty", Place::ByUser(3)),
            ("health_commits", Place::InMetadata),
        ]);
        assert_eq!(statements(&plan(&now).unwrap()), Vec::<&str>::new());
        now.insert("health_rollups".to_owned(), Place::Local);
        let steps = plan(&now).unwrap();
        assert_eq!(
            statements(&steps),
            [
                "SELECT create_distributed_table('health_rollups', 'user_id', colocate_with => 'health_metrics')",
                "SELECT truncate_local_data_after_distributing_table('health_rollups')"
            ]
        );
    }

    #[test]
    fn tables_that_are_distributed_in_another_way_are_refused() {
        for (table, place) in [
            ("health_metrics", Place::Other),
            ("health_rollups", Place::ByUser(4)),
            ("health_dirty", Place::InMetadata),
            ("health_commits", Place::ByUser(3)),
        ] {
            let mut now = places(&[("health_metrics", Place::ByUser(3))]);
            now.insert(table.to_owned(), place);
            let refusal = plan(&now).unwrap_err();
            assert_eq!(
                refusal,
                ClusterRefusal::OtherDistribution {
                    table: table.to_owned()
                }
            );
        }
    }

    #[test]
    fn a_version_is_compared_as_a_number() {
        for (version, is_old) in [
            ("13.2-1", false),
            ("12.0-1", false),
            ("9.5-2", true),
            ("11.3-1", true),
            ("x", true),
        ] {
            assert_eq!(is_too_old(version), is_old, "{version}");
        }
    }
}
