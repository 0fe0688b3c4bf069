//! Nothing is taken for complete while a transaction of a cluster is prepared. One PostgreSQL that seems to be a
//! cluster prepares it here by hand.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use futures_util::FutureExt;
use test_support::TestDatabase;
use tokio::{task::yield_now, time::timeout};

use crate::{
    batch::Batch,
    config::{Config, Limits},
    error::Error,
    health::Health,
    live::{event::LiveEvent, filter::Filter},
    sample::{Readings, Sample, Source, Steps, UserId},
    shard::Shards,
    store::{
        commit_log::{
            CommitRecord,
            row_keys::{self, RowKey},
        },
        connection::Session,
        doorbell::Doorbell,
        error::StoreError,
        feed_rows::first_id,
        newest_timestamps::{LookUp, NewestTimestamps, ShardTimestamps},
        prepared::{self, Rows},
        rollup::{Roller, Step},
        threshold::end_epoch,
        transaction::Transaction,
        write::WriterSession,
    },
};

/// Long enough that what does not wait is over.
const A_MOMENT: Duration = Duration::from_millis(300);

/// Much longer than anything takes that a test waits for. The machine may be busy with other tests.
const TIMEOUT: Duration = Duration::from_secs(90);

const USER: i64 = 7;

/// A database that seems to be distributed. Without a real cluster: there, nobody can prepare a transaction by hand.
async fn cluster() -> Option<(TestDatabase, Config)> {
    if test_support::is_on_citus() {
        eprintln!("skipped: on a real cluster, nobody can prepare a transaction by hand");
        return None;
    }
    let database = TestDatabase::distributed_if(true).await;
    let config = Config::from_url(database.url()).unwrap();
    Some((database, config))
}

/// A sample of an hour ago whose transaction is prepared.
struct PreparedSample {
    name: String,
    session: Session,
    time: DateTime<Utc>,
}

impl PreparedSample {
    async fn new(database: &TestDatabase, config: &Config, id: i64) -> Self {
        let name = format!("citus_0_{}", database.name());
        let session = Session::plain(config).await.unwrap();
        let time = (Utc::now() - TimeDelta::hours(1)).trunc_subsecs(6);
        let prepare = format!(
            "BEGIN; INSERT INTO health_metrics (id, user_id, timestamp, steps) VALUES ({id}, {USER}, '{}', 50); \
             PREPARE TRANSACTION '{name}'",
            time.to_rfc3339()
        );
        session.client().batch_execute(&prepare).await.unwrap();
        Self { name, session, time }
    }

    /// Adds the commit record, with the batch number 1000: the commit is visible, and not complete.
    async fn append(&self, session: &Session) {
        let append = "INSERT INTO health_commits (number, batch, writer, previous_writer, rows, keys) \
                      SELECT number + 1, 1000, 5, writer, 1, $1 FROM health_commits ORDER BY number DESC LIMIT 1";
        let row_keys = row_keys::encode([RowKey {
            user_id: USER,
            timestamp: self.time.timestamp_micros(),
        }]);
        session.client().execute(append, &[&row_keys]).await.unwrap();
    }

    async fn commit(self) {
        let commit = format!("COMMIT PREPARED '{}'", self.name);
        self.session.client().batch_execute(&commit).await.unwrap();
    }
}

#[tokio::test]
async fn the_roller_moves_no_watermark_over_a_sample_that_is_prepared() {
    let Some((database, config)) = cluster().await else {
        return;
    };
    let prepared = PreparedSample::new(&database, &config, 1).await;
    let mut roller = Roller::new(Duration::ZERO, Arc::default());
    roller.epoch_min = Duration::ZERO;
    let mut session = Session::roller(&config).await.unwrap();
    let watermarks = async |session: &Session| -> (String, String) {
        let read = "SELECT sealed_before::text, threshold::text FROM health_sealing";
        let row = session.client().query_one(read, &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    let before = watermarks(&session).await;
    // The first step of a roller looks for what another one may have left.
    let step = roller.step(&mut session).await;
    assert!(matches!(step, Err(StoreError::LeftPrepared)), "{step:?}");
    // Later ones look when they have the lock of the threshold.
    let mut transaction = Transaction::begin(&mut session, "BEGIN").await.unwrap();
    assert!(!end_epoch(&mut transaction).await.unwrap());
    drop(transaction);
    assert_eq!(watermarks(&session).await, before);

    prepared.commit().await;
    while roller.step(&mut session).await.unwrap() != Step::Idle {}
    assert_ne!(watermarks(&session).await, before);
    let summarised = "SELECT sum(samples)::bigint FROM health_rollups WHERE minutes = 15";
    let row = session.client().query_one(summarised, &[]).await.unwrap();
    assert_eq!(row.get::<_, Option<i64>>(0), Some(1));
}

#[tokio::test]
async fn the_feed_waits_for_the_rows_of_a_visible_commit() {
    let Some((database, config)) = cluster().await else {
        return;
    };
    let prepared = PreparedSample::new(&database, &config, first_id(1000)).await;
    let session = Session::plain(&config).await.unwrap();
    prepared.append(&session).await;
    let mut doorbell = Doorbell::open(&config, |_| ()).await.unwrap();
    let record = CommitRecord {
        number: 2,
        batch_number: 1000,
        writer_id: 5,
        rows: 1,
        is_erasure: false,
    };
    assert_eq!(doorbell.newest().await.unwrap(), record.position());
    let records = [record];
    let waiting = timeout(A_MOMENT, doorbell.rows(&records)).await;
    assert!(waiting.is_err(), "{waiting:?}");
    let (rows, ()) = tokio::join!(doorbell.rows(&records), prepared.commit());
    assert_eq!(rows.unwrap().unwrap().len(), 1);

    // A row that a later commit has changed is missing for good.
    let change = "UPDATE health_metrics SET id = id + 1048576";
    session.client().batch_execute(change).await.unwrap();
    assert_eq!(doorbell.rows(&records).await.unwrap().unwrap().len(), 0);
}

/// Without a subscriber, a server passes commits by without their rows, so it does not wait for them either.
#[tokio::test]
async fn a_subscriber_that_resumes_gets_the_rows_of_a_commit_that_was_visible_before_it_was_complete() {
    let Some((database, config)) = cluster().await else {
        return;
    };
    let health = Health::open(config.clone().limits(Limits::patient())).await.unwrap();
    let start = health.cursor();
    let prepared = PreparedSample::new(&database, &config, first_id(1000)).await;
    prepared.append(&Session::plain(&config).await.unwrap()).await;
    while health.cursor() == start {
        yield_now().await;
    }
    let mut live = health.subscribe(Filter::all()).resume(start);
    let mut receive = async || {
        loop {
            match live.next().await.unwrap() {
                LiveEvent::Sample { published, .. } => break published.sample().clone(),
                LiveEvent::Subscribed { resumed: true, .. } => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let early = timeout(A_MOMENT, receive()).await;
    assert!(early.is_err(), "{early:?}");
    let time = prepared.time;
    prepared.commit().await;
    let received = timeout(TIMEOUT, receive()).await.expect("a sample in time");
    assert_eq!((received.user_id().get(), received.timestamp()), (USER, time));
    health.close().await.unwrap();
}

#[tokio::test]
async fn a_commit_with_a_warning_is_acknowledged_after_it_is_complete() {
    let Some((database, config)) = cluster().await else {
        return;
    };
    let session = Session::plain(&config).await.unwrap();
    let warn = "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN RAISE WARNING 'failed to commit transaction on node'; RETURN NULL; END $$; \
                CREATE CONSTRAINT TRIGGER warns AFTER INSERT ON health_commits DEFERRABLE INITIALLY DEFERRED \
                FOR EACH ROW WHEN (NEW.rows > 0) EXECUTE FUNCTION warn()";
    session.client().batch_execute(warn).await.unwrap();
    let prepared = PreparedSample::new(&database, &config, 1).await;
    let health = Health::open(config.clone().limits(Limits::patient())).await.unwrap();
    let mut ack = health.enqueue(vec![sample()]).await.unwrap().receipt().boxed();
    assert!(timeout(A_MOMENT, &mut ack).await.is_err());
    prepared.commit().await;
    let receipt = ack.await.unwrap();
    assert_eq!((receipt.inserted, receipt.updated, receipt.unchanged), (1, 0, 0));
    health.close().await.unwrap();
}

#[tokio::test]
async fn what_a_node_has_lost_of_a_commit_is_stored_before_the_acknowledgement() {
    let Some((_database, config)) = cluster().await else {
        return;
    };
    let session = Session::plain(&config).await.unwrap();
    // Only the first commit of a writer.
    let lose = "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN DELETE FROM health_metrics; RAISE WARNING 'server closed the connection'; RETURN NULL; END $$; \
                CREATE CONSTRAINT TRIGGER loses AFTER INSERT ON health_commits DEFERRABLE INITIALLY DEFERRED \
                FOR EACH ROW WHEN (NEW.number = 2) EXECUTE FUNCTION lose()";
    session.client().batch_execute(lose).await.unwrap();
    let health = Health::open(config.clone().limits(Limits::patient())).await.unwrap();
    let receipt = health.ingest([sample()]).await.unwrap();
    assert_eq!((receipt.inserted, receipt.updated, receipt.unchanged), (1, 0, 0));
    let count = "SELECT count(*) FROM health_metrics";
    let row = session.client().query_one(count, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    health.close().await.unwrap();
}

/// Citus prepares no transaction on a node of which it reads a shard before it inserts there.
#[tokio::test]
async fn a_writer_looks_up_before_its_transaction() {
    let Some((_database, config)) = cluster().await else {
        return;
    };
    let blocker = Session::plain(&config).await.unwrap();
    let lock = "BEGIN; LOCK TABLE health_metrics IN ACCESS EXCLUSIVE MODE";
    blocker.client().batch_execute(lock).await.unwrap();
    let mut writer = WriterSession::new(Session::writer(&config).await.unwrap());
    let pid = writer.pid();
    let writing = tokio::spawn(async move {
        let shards = Shards::new(1);
        let mut cache = NewestTimestamps::new(shards);
        cache.put(0, ShardTimestamps::default());
        let samples = [sample()];
        let batch = Batch::new(std::iter::once(&samples[..]));
        writer.write(&mut cache, &batch, LookUp::UnlessNew).await.unwrap()
    });
    let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE pid = $1 AND NOT granted AND relation = 'health_metrics'::regclass)";
    while !blocker
        .client()
        .query_one(waits, &[&pid])
        .await
        .unwrap()
        .get::<_, bool>(0)
    {}
    let threshold = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND objsubid = 1 \
                     AND (classid::bigint << 32) | objid::bigint = hashtext('health threshold'))";
    let row = blocker.client().query_one(threshold, &[&pid]).await.unwrap();
    assert!(!row.get::<_, bool>(0), "the transaction has begun");
    blocker.client().batch_execute("COMMIT").await.unwrap();
    assert_eq!(writing.await.unwrap().plan.inserts.len(), 1);
}

#[tokio::test]
async fn an_erasure_waits_for_a_sample_that_is_prepared() {
    let Some((database, config)) = cluster().await else {
        return;
    };
    let prepared = PreparedSample::new(&database, &config, 1).await;
    let health = Health::open(config.clone().limits(Limits::patient())).await.unwrap();
    let user = UserId::new(USER).unwrap();
    let refused = health.erase(user).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    prepared.commit().await;
    assert_eq!(health.erase(user).await.unwrap(), 1);
    health.close().await.unwrap();
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named_unless_it_has_no_row_of_the_user() {
    let Some((_database, config)) = cluster().await else {
        return;
    };
    let away = "SET allow_system_table_mods = on; \
                CREATE OR REPLACE FUNCTION pg_catalog.run_command_on_all_nodes(command text) \
                RETURNS TABLE (nodeid integer, success boolean, result text) \
                LANGUAGE sql AS $$ VALUES (1, true, NULL), (2, false, 'connection refused') $$";
    let mut session = Session::plain(&config).await.unwrap();
    session.client().batch_execute(away).await.unwrap();
    let error = prepared::recover(&mut session, Rows::OfAllUsers).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the node 2 of the cluster is away: connection refused"
    );
    assert!(Error::from(error).is_retryable());
    assert!(prepared::have_ended(&mut session, Rows::OfAllUsers).await.is_err());
    let user = Rows::Of(UserId::new(USER).unwrap());
    prepared::recover(&mut session, user).await.unwrap();
    assert!(prepared::have_ended(&mut session, user).await.unwrap());
}

fn sample() -> Sample {
    let readings = Readings {
        steps: Steps::new(3).ok(),
        ..Readings::default()
    };
    Sample::new(UserId::new(8).unwrap(), Utc::now(), Source::default(), readings).unwrap()
}
