//! `distribute` in a database that looks like that of a coordinator, and everything that it refuses.

use test_support::{TestDatabase, is_on_citus};

use crate::{
    cluster::ClusterRefusal,
    config::Config,
    error::Error,
    migration_plan::Trial,
    setup_error::SetupError,
    store::{
        connection::Session,
        distribute::{distribute, distribution_steps},
        dry_run::plan_migration,
        migrate::{migrate, migrate_to},
        schema_version::known_migrations,
        tables::{DISTRIBUTED_TABLES, Tables},
    },
};

/// A database of a coordinator with nothing distributed yet.
async fn coordinator() -> (TestDatabase, Config) {
    let database = TestDatabase::undistributed().await;
    if !is_on_citus() {
        database.pretend_citus().await;
    }
    let config = Config::from_url(database.url()).unwrap();
    (database, config)
}

/// The same, if the test can change the catalog of Citus: not on a real cluster.
async fn changeable_coordinator() -> Option<(TestDatabase, Config)> {
    if is_on_citus() {
        eprintln!("skipped: this test changes the catalog of Citus, which a real cluster does not survive");
        return None;
    }
    Some(coordinator().await)
}

async fn execute(config: &Config, statements: &str) {
    let session = Session::plain(config).await.unwrap();
    session.client().batch_execute(statements).await.unwrap();
}

fn refusal(error: Error) -> ClusterRefusal {
    match error {
        Error::Setup(SetupError::Cluster(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

async fn distributed(config: &Config) -> i64 {
    let session = Session::plain(config).await.unwrap();
    let count = "SELECT count(*) FROM pg_dist_partition";
    session.client().query_one(count, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_tables_are_distributed_once_and_sessions_know_it() {
    let (_database, config) = coordinator().await;
    let planned = distribution_steps(&config).await.unwrap();
    assert_eq!(distributed(&config).await, 0, "a plan changes nothing");
    let done = distribute(&config).await.unwrap();
    assert_eq!(done, planned);
    assert_eq!(Session::plain(&config).await.unwrap().tables(), Tables::Distributed);
    let again = distribute(&config).await.unwrap();
    assert!(again.iter().all(|step| step.statements.is_empty()), "{again:?}");
    for table in DISTRIBUTED_TABLES {
        let outcome = format!("{table} is already distributed by user_id");
        assert!(again.iter().any(|step| step.outcome.starts_with(&outcome)), "{again:?}");
    }
    assert_eq!(distributed(&config).await, 4);
}

/// The first version whose tables could be distributed.
const FIRST_DISTRIBUTED: i32 = 13;

#[tokio::test]
async fn a_distributed_database_of_an_earlier_version_is_migrated() {
    let database = TestDatabase::coordinator().await;
    let config = Config::from_url(database.url()).unwrap();
    let mut session = Session::plain(&config).await.unwrap();
    migrate_to(&mut session, FIRST_DISTRIBUTED).await;
    drop(session);
    for table in DISTRIBUTED_TABLES {
        execute(
            &config,
            &format!("SELECT create_distributed_table('{table}', 'user_id')"),
        )
        .await;
    }
    execute(&config, "SELECT citus_add_local_table_to_metadata('health_commits')").await;
    let plan = plan_migration(&config).await.unwrap();
    assert_eq!((plan.version, plan.trial), (FIRST_DISTRIBUTED, Trial::Distributed));
    assert!(!plan.pending.is_empty());
    migrate(&config).await.unwrap();
    assert!(plan_migration(&config).await.unwrap().pending.is_empty());
    assert_eq!(Session::plain(&config).await.unwrap().tables(), Tables::Distributed);
}

/// Citus refuses a change of a distributed table as one of several statements that are sent together. The statements of
/// a migration are sent together, so only a migration with a single statement needs no block.
#[test]
fn a_migration_changes_what_is_distributed_in_blocks_of_one_statement() {
    let of_citus = [DISTRIBUTED_TABLES.as_slice(), &["health_commits"]].concat();
    for migration in known_migrations() {
        if migration.version() <= FIRST_DISTRIBUTED {
            continue;
        }
        let sql = migration.sql().unwrap().to_lowercase();
        let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
        let script = lines.collect::<Vec<_>>().join("\n");
        // Every second part is the body of a block.
        let outside: String = script.split("$$").step_by(2).collect();
        let statements: Vec<_> = outside.split(';').filter(|text| !text.trim().is_empty()).collect();
        if statements.len() == 1 {
            continue;
        }
        for statement in statements {
            let words: Vec<_> = statement.split_whitespace().collect();
            let is_passed_on = matches!(words.as_slice(), ["drop" | "create", "index" | "unique", ..])
                || words.starts_with(&["alter", "table"]) && !statement.contains("add column");
            let is_of_citus = of_citus.iter().any(|table| statement.contains(table));
            assert!(!is_passed_on || !is_of_citus, "in {migration}: {statement}");
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_said_with_its_remedy() {
    let Some((database, config)) = changeable_coordinator().await else {
        return;
    };
    let name = database.name();
    for (change, undo, expected) in [
        (
            "DELETE FROM pg_extension WHERE extname = 'citus'",
            "",
            "has no extension citus. Run CREATE EXTENSION citus",
        ),
        (
            &format!("ALTER DATABASE {name} RESET citus.version"),
            &format!("ALTER DATABASE {name} SET citus.version = '13.2.2'"),
            "Citus is not installed on this PostgreSQL server",
        ),
        (
            "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) \
             SELECT 1, 'citus', oid, 'pg_catalog'::regnamespace, false, '11.3-1' FROM pg_roles WHERE rolname = current_user",
            "UPDATE pg_extension SET extversion = '13.2-1' WHERE extname = 'citus'",
            "has version 11.3-1, and 12 is the oldest",
        ),
        (
            &format!("ALTER DATABASE {name} RESET citus.version"),
            &format!("ALTER DATABASE {name} SET citus.version = '13.2.2'"),
            "PostgreSQL has not loaded Citus. Set shared_preload_libraries",
        ),
        (
            "UPDATE pg_dist_local_group SET groupid = 1",
            "UPDATE pg_dist_local_group SET groupid = 0",
            "is a worker",
        ),
        (
            "UPDATE pg_dist_node SET groupid = 1",
            "UPDATE pg_dist_node SET groupid = 0",
            "citus_set_coordinator_host",
        ),
        (
            "UPDATE pg_dist_node SET isactive = false",
            "UPDATE pg_dist_node SET isactive = true",
            "no worker that takes shards. Add one: SELECT citus_add_node",
        ),
        (
            "INSERT INTO pg_dist_partition VALUES ('health_metrics', 'h', 'source', 1)",
            "DELETE FROM pg_dist_partition",
            "SELECT undistribute_table('health_metrics')",
        ),
        (
            &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
            &format!("BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT"),
            "the database is read-only",
        ),
    ] {
        execute(&config, change).await;
        for refused in [distribution_steps(&config).await, distribute(&config).await] {
            let message = refusal(refused.unwrap_err()).to_string();
            assert!(message.contains(expected), "{change}: {message}");
        }
        execute(&config, undo).await;
    }
    execute(&config, "DELETE FROM refinery_schema_history WHERE version > 11").await;
    assert_eq!(
        refusal(distribute(&config).await.unwrap_err()),
        ClusterRefusal::SchemaBehind
    );
}

#[tokio::test]
async fn only_the_owner_can_distribute() {
    let (database, config) = coordinator().await;
    let (name, role) = (database.name(), format!("guest_{}", database.name()));
    execute(
        &config,
        &format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"),
    )
    .await;
    let owner = database.url().parse::<tokio_postgres::Config>().unwrap();
    let url = database
        .url()
        .replacen(&format!("//{}@", owner.get_user().unwrap()), &format!("//{role}@"), 1);
    let guest = Config::from_url(&url).unwrap();
    let message = refusal(distribute(&guest).await.unwrap_err()).to_string();
    assert!(
        message.contains(&role) && message.contains("as its owner"),
        "{name}: {message}"
    );
    execute(&config, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn nothing_is_distributed_while_a_session_relies_on_where_the_tables_are() {
    let (_database, config) = coordinator().await;
    let named = config.clone().application("other-server");
    let other = Session::writer(&named.for_sessions("writer")).await.unwrap();
    let message = refusal(distribute(&config).await.unwrap_err()).to_string();
    let process = format!("process {} (application \"other-server writer\"", other.pid());
    assert!(
        message.contains(&process) && message.contains("Stop every server"),
        "{message}"
    );
    assert_eq!(distributed(&config).await, 0);
    drop(other);
    distribute(&config).await.unwrap();
    // Servers of earlier versions hold the lock of the poller only.
    let listener = Session::plain(&config).await.unwrap();
    let as_before = "SELECT pg_advisory_unlock_shared(hashtext('health distribution')); \
                     SELECT pg_advisory_lock_shared(hashtext('health feed'), 0)";
    listener.client().batch_execute(as_before).await.unwrap();
    let message = refusal(distribute(&config).await.unwrap_err()).to_string();
    assert!(message.contains(&format!("process {}", listener.pid())), "{message}");
}

#[tokio::test]
async fn a_start_refuses_a_worker_and_distributes_a_table_that_a_migration_has_added() {
    let Some((_database, config)) = changeable_coordinator().await else {
        return;
    };
    distribute(&config).await.unwrap();
    let forget = "DELETE FROM pg_dist_partition WHERE logicalrelid = 'health_dirty'::regclass";
    execute(&config, forget).await;
    migrate(&config).await.unwrap();
    assert_eq!(distributed(&config).await, 4);
    execute(&config, "UPDATE pg_dist_local_group SET groupid = 2").await;
    assert_eq!(refusal(migrate(&config).await.unwrap_err()), ClusterRefusal::Worker);
}
