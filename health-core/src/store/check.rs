//! What `health-server check` asks of a database. Nothing here changes anything.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Row, error::SqlState};

use crate::{
    check::{
        Connections, DatabaseCheck, Growth, OpenTransaction, PreparedTransactions, SchemaState, Sealing, Settings,
    },
    config::Config,
    error::Error,
    setup_error::SetupError,
    store::{
        capacity, cluster_check, commit_log::codec, connection::Session, database, pooler, refusal::classify,
        retention, schema_version, sealing_lag, tables::Tables, tokens,
    },
};

/// The longest time between two runs of the retention is a day. Twice as much is too late.
const RETENTION_LATE: Duration = Duration::from_hours(48);

/// The longest time that one of these questions may take, so that a locked table cannot stop the check.
const SETTINGS_OF_THE_SESSION: &str =
    "SET default_transaction_read_only = on; SET statement_timeout = '10s'; SET lock_timeout = '2s'";

/// The settings of the database, as a new session of this role has them. `clock_timestamp` is read last.
const SETTINGS: &str = "SELECT current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean, \
     current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean, \
     current_setting('server_version_num')::integer, pg_is_in_recovery(), \
     pg_database_size(current_database()), clock_timestamp()";

/// The default of new sessions, which this program replaces in its own sessions.
const SYNCHRONOUS_COMMIT: &str = "SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'";

/// Sessions of all roles and databases that count against the limit.
const OPEN_CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";

/// Every right that a server needs and this role lacks.
const MISSING_RIGHTS: &str = "SELECT relation.relname::text || ': ' || string_agg(wanted.privilege, ', ' ORDER BY wanted.privilege) \
     FROM pg_class AS relation, \
     LATERAL (SELECT unnest(CASE WHEN relation.relkind = 'S' THEN ARRAY['USAGE', 'SELECT'] \
     ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END) AS privilege) AS wanted \
     WHERE relation.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('health_metrics')) \
     AND relation.relkind IN ('r', 'p', 'S') AND starts_with(relation.relname::text, 'health_') \
     AND NOT CASE WHEN relation.relkind = 'S' THEN has_sequence_privilege(relation.oid, wanted.privilege) \
     ELSE has_table_privilege(relation.oid, wanted.privilege) END \
     GROUP BY relation.relname ORDER BY relation.relname";

/// The same for the function of Citus that ends prepared transactions.
const MISSING_RIGHT_TO_RECOVER: &str = "SELECT 'recover_prepared_transactions: EXECUTE' \
     WHERE NOT has_function_privilege('recover_prepared_transactions()', 'EXECUTE')";

/// The oldest transaction, and the session that keeps the oldest snapshot: vacuum cannot remove what they may still
/// see. A role without the right to see others' sessions sees the times of its own only.
const OLDEST_TRANSACTION: &str = "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), \
     extract(epoch FROM clock_timestamp() - xact_start)::bigint FROM pg_stat_activity \
     WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker' \
     AND (datname = current_database() OR backend_xmin IS NOT NULL) ORDER BY xact_start LIMIT 1";

const PREPARED: &str = "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(prepared))::bigint, 0), min(gid) \
     FROM pg_prepared_xacts WHERE database = current_database()";

/// Slots keep the WAL that their reader has not read, until the disk is full.
const SLOTS: &str = "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::bigint FROM pg_replication_slots \
     WHERE NOT active AND NOT pg_is_in_recovery()";

/// The newest packs of the commit log, whose records say how many rows were written in which time.
const NEWEST_PACKS: &str = "SELECT first_number, records, last_committed FROM health_commit_packs \
     ORDER BY last_number DESC LIMIT 50";

/// Rows of the newest commits, which are in no pack yet.
const NEWEST_COMMITS: &str = "SELECT coalesce(sum(rows), 0)::bigint, min(committed_at) FROM health_commits";

/// The size of a stored sample with everything that belongs to it: indexes, summaries, free space.
const BYTES_PER_ROW: &str = "SELECT (pg_total_relation_size('health_metrics') + pg_total_relation_size('health_rollups'))::double precision, \
     reltuples::double precision FROM pg_class WHERE oid = 'health_metrics'::regclass";

/// Asks a database everything that an operator should know. It creates, migrates and changes nothing.
///
/// # Errors
/// [`Error::Unavailable`] if the database cannot be reached. [`Error::Setup`] if the role may not connect.
pub async fn check_database(config: &Config) -> Result<DatabaseCheck, Error> {
    let config = config.for_sessions("check");
    let is_pooled = matches!(
        pooler::check(&config).await,
        Err(Error::Setup(SetupError::TransactionPooler))
    );
    let sent_at = Utc::now();
    let mut session = Session::plain(&config)
        .await
        .map_err(|error| database::connect_error(&config, error))?;
    session
        .client()
        .batch_execute(SETTINGS_OF_THE_SESSION)
        .await
        .map_err(classify)?;
    let facts = database::facts(&session).await.map_err(classify)?;
    let schema = match schema_version::is_current(&session, &facts).await {
        Ok(true) => SchemaState::Current,
        Ok(false) => SchemaState::Behind,
        Err(Error::Setup(error)) => SchemaState::Unusable(error),
        Err(error) => return Err(error),
    };
    let (settings, is_standby, clock) = settings(&session).await?;
    let received_at = Utc::now();
    let is_usable = matches!(schema, SchemaState::Current);
    let cluster = cluster_check::check(&session, &facts).await?;
    let mut missing_rights = strings(&session, MISSING_RIGHTS).await?;
    if session.tables() == Tables::Distributed {
        missing_rights.extend(strings(&session, MISSING_RIGHT_TO_RECOVER).await?);
    }
    let mut check = DatabaseCheck {
        is_encoding_supported: facts.check_encoding().is_ok(),
        name: facts.name,
        role: facts.role,
        version: facts.version,
        encoding: facts.encoding,
        is_standby,
        is_pooled,
        schema,
        clock_ahead: clock_ahead(clock, sent_at, received_at),
        connections: connections(&mut session, &config).await?,
        missing_rights,
        cluster,
        oldest_transaction: oldest_transaction(&session).await?,
        prepared: prepared(&session).await?,
        wal_kept_bytes: wal_kept(&session).await,
        sealing: None,
        growth: None,
        users_with_old_samples: None,
        tokens: Vec::new(),
        settings,
    };
    if is_usable && check.missing_rights.is_empty() {
        let lag = sealing_lag::lag(&mut session).await.map_err(Error::from)?;
        check.sealing = Some(Sealing {
            lag: Duration::from_secs(lag.seconds),
            dirty_slices: lag.dirty_slices,
        });
        check.growth = growth(&session).await.map_err(classify)?;
        check.users_with_old_samples = users_with_old_samples(&mut session, config.limits.retain).await?;
        check.tokens = tokens::list(&mut session).await.map_err(Error::from)?;
    }
    Ok(check)
}

/// Returns how many of the first users have samples that the retention should have erased long ago.
async fn users_with_old_samples(session: &mut Session, retain: Option<Duration>) -> Result<Option<usize>, Error> {
    let Some(retain) = retain else { return Ok(None) };
    let age = TimeDelta::from_std(retain + RETENTION_LATE).unwrap_or(TimeDelta::MAX);
    let Some(before) = Utc::now().checked_sub_signed(age) else {
        return Ok(Some(0));
    };
    let page = retention::users_after(session, 0, before).await.map_err(Error::from)?;
    Ok(Some(page.with_older_samples.len()))
}

async fn settings(session: &Session) -> Result<(Settings, bool, DateTime<Utc>), Error> {
    let row = session.client().query_one(SETTINGS, &[]).await.map_err(classify)?;
    let commit = session
        .client()
        .query_opt(SYNCHRONOUS_COMMIT, &[])
        .await
        .map_err(classify)?;
    let settings = Settings {
        fsync: row.get(0),
        full_page_writes: row.get(1),
        autovacuum: row.get(2),
        version_number: row.get(3),
        database_bytes: bytes(&row, 5),
        synchronous_commit: commit.map(|row| row.get(0)).unwrap_or_default(),
    };
    Ok((settings, row.get(4), row.get(6)))
}

/// Returns how far the clock of the database is ahead of this machine's, as far as the round trip lets one tell. The
/// reading lies somewhere between the two moments, so a difference that the round trip explains is none.
fn clock_ahead(clock: DateTime<Utc>, sent_at: DateTime<Utc>, received_at: DateTime<Utc>) -> TimeDelta {
    if clock > received_at {
        clock - received_at
    } else if clock < sent_at {
        clock - sent_at
    } else {
        TimeDelta::zero()
    }
}

async fn connections(session: &mut Session, config: &Config) -> Result<Option<Connections>, Error> {
    let capacity = capacity::capacity(session, &config.limits).await.map_err(Error::from)?;
    let open: i64 = session
        .client()
        .query_one(OPEN_CONNECTIONS, &[])
        .await
        .map_err(classify)?
        .get(0);
    Ok(capacity.map(|capacity| Connections {
        wanted: capacity.wanted(),
        allowed: capacity.allowed(),
        needed: capacity::NEEDED_MIN,
        open,
    }))
}

async fn strings(session: &Session, sql: &'static str) -> Result<Vec<String>, Error> {
    let rows = session.client().query(sql, &[]).await.map_err(classify)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn oldest_transaction(session: &Session) -> Result<Option<OpenTransaction>, Error> {
    let row = session
        .client()
        .query_opt(OLDEST_TRANSACTION, &[])
        .await
        .map_err(classify)?;
    Ok(row.map(|row| OpenTransaction {
        pid: row.get(0),
        role: row.get(1),
        application: row.get(2),
        age: seconds(&row, 3),
    }))
}

async fn prepared(session: &Session) -> Result<PreparedTransactions, Error> {
    let row = session.client().query_one(PREPARED, &[]).await.map_err(classify)?;
    Ok(PreparedTransactions {
        count: row.get(0),
        oldest: seconds(&row, 1),
        name: row.get::<_, Option<String>>(2).unwrap_or_default(),
    })
}

/// Returns the WAL that unused replication slots keep. A role may lack the right to see it, and a standby has none to
/// keep.
async fn wal_kept(session: &Session) -> u64 {
    let row = session.client().query_one(SLOTS, &[]).await;
    row.map(|row| bytes(&row, 0)).unwrap_or_default()
}

/// Estimates how fast the database grows, from the newest part of the commit log. `None` if too little was written to
/// tell.
async fn growth(session: &Session) -> Result<Option<Growth>, tokio_postgres::Error> {
    let client = session.client();
    let (mut rows, mut oldest) = (0_i64, None);
    for pack in client.query(NEWEST_PACKS, &[]).await? {
        let mut records = Vec::new();
        if codec::decode(pack.get(0), pack.get(1), &mut records).is_some() {
            rows += records.iter().map(|record| i64::from(record.rows)).sum::<i64>();
            // The records of the oldest pack are older than its end, so the rate is rather too high.
            oldest = Some(pack.get::<_, DateTime<Utc>>(2));
        }
    }
    let newest = client.query_one(NEWEST_COMMITS, &[]).await?;
    rows += newest.get::<_, i64>(0);
    let oldest = oldest.or(newest.get(1));
    let size = match client.query_one(BYTES_PER_ROW, &[]).await {
        Ok(row) => row,
        // The tables are locked.
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (size, stored): (f64, f64) = (size.get(0), size.get(1));
    let elapsed = oldest.and_then(|oldest| (Utc::now() - oldest).to_std().ok());
    Ok(Growth::estimate(rows, elapsed.unwrap_or_default(), size, stored))
}

fn seconds(row: &Row, column: usize) -> Duration {
    Duration::from_secs(u64::try_from(row.get::<_, i64>(column)).unwrap_or(0))
}

fn bytes(row: &Row, column: usize) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or(0)
}
