//! Tests of what the poller delivers when the log shows a commit before its writer hands it over.

use std::{sync::Arc, task::Poll, time::Duration};

use chrono::TimeDelta;
use test_support::TestDatabase;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{Client, NoTls, types::ToSql};

use crate::{
    config::Config,
    live::{
        event::LiveEvent,
        filter::Filter,
        handover::{HandedOver, Handover},
        poller::Poller,
        ring::{Membership, Ring},
    },
    sample::{Readings, Sample, Source, Steps, UserId},
    store::{
        commit_log::{
            APPEND, COMMIT_LOCK, CommitRecord, newest,
            row_keys::{self, RowKey},
        },
        connection::Session,
        micros::Micros,
        readers::readers,
        required_version::KNOWN_VERSION,
    },
};

const WRITER: i64 = 7;

/// Much longer than a delivery takes. The machine may be busy with other tests.
const TIMEOUT: Duration = Duration::from_secs(90);

async fn connect(database: &TestDatabase) -> Client {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn sample(steps: i64) -> Sample {
    let readings = Readings {
        steps: Some(Steps::new(steps).unwrap()),
        ..Readings::default()
    };
    let time = Sample::EARLIEST + TimeDelta::days(1);
    Sample::new(UserId::new(1).unwrap(), time, Source::default(), readings).unwrap()
}

/// Writes the sample as its writer does, up to the commit.
async fn write(client: &Client, steps: i32) -> CommitRecord {
    write_by(client, WRITER, 1, steps).await
}

/// Writes a sample of a user as a writer does, up to the commit.
async fn write_by(client: &Client, writer_id: i64, user: i64, steps: i32) -> CommitRecord {
    let batch = "SELECT nextval('health_batch_numbers')";
    let batch: i64 = client.query_one(batch, &[]).await.unwrap().get(0);
    let upsert = "INSERT INTO health_metrics (id, user_id, timestamp, source, steps) VALUES ($1, $4, $2, '', $3) \
        ON CONFLICT (user_id, timestamp, source) DO UPDATE SET id = excluded.id, steps = excluded.steps";
    let time = sample(1).timestamp();
    let params: [&(dyn ToSql + Sync); 4] = [&(batch << 20), &time, &steps, &user];
    client.execute(upsert, &params).await.unwrap();
    client.batch_execute(COMMIT_LOCK).await.unwrap();
    let row_keys = row_keys::encode([RowKey {
        user_id: user,
        timestamp: time.timestamp_micros(),
    }]);
    let record = client
        .query_one(
            APPEND,
            &[&batch, &writer_id, &1_i32, &None::<Micros>, &KNOWN_VERSION, &row_keys],
        )
        .await;
    CommitRecord {
        number: record.unwrap().get(0),
        batch_number: batch,
        writer_id,
        rows: 1,
        is_erasure: false,
    }
}

async fn receive(member: &Membership) -> i32 {
    let receiving = std::future::poll_fn(|context| member.poll_take(context));
    let event = timeout(TIMEOUT, receiving).await.expect("an event in time");
    match event {
        Some(LiveEvent::Sample { published, .. }) => published.sample().steps().map(Steps::get).unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

fn run_poller(
    config: &Config,
    ring: &Arc<Ring>,
    handed_over: mpsc::UnboundedReceiver<HandedOver>,
    end: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let poller = Poller::new(
        config.clone(),
        readers(config),
        Arc::clone(ring),
        handed_over,
        Arc::default(),
        end,
    );
    tokio::spawn(poller.run())
}

#[tokio::test]
async fn a_commit_whose_row_changes_while_it_is_read_back_is_delivered_as_it_was_handed_over() {
    let database = TestDatabase::new().await;
    let config = Config::from_url(database.url()).unwrap();
    let start = newest(&mut Session::writer(&config).await.unwrap()).await.unwrap();
    let ring = Arc::new(Ring::new(start, &config.limits));
    let (handover, handed_over) = Handover::new(Arc::clone(&ring));
    let (ending, end) = watch::channel(false);
    let early = ring.subscribe(&Filter::all());
    let poller = run_poller(&config, &ring, handed_over, end);
    let (client, observer) = (connect(&database).await, connect(&database).await);
    client.batch_execute("BEGIN").await.unwrap();
    let first = write(&client, 1).await;
    client
        .batch_execute("COMMIT; BEGIN; LOCK TABLE health_metrics")
        .await
        .unwrap();
    // The poller finds the first commit in the log and wants to read its row. If it has done so already, nothing waits,
    // and the test shows nothing. A table has the same number in the databases of other tests.
    let waits = "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database \
                 WHERE datname = current_database() AND NOT granted AND relation = 'health_metrics'::regclass)";
    while ring.position() == start && !observer.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {}
    let was_read = ring.position() != start;
    // Meanwhile its writer hands it over and acknowledges it, a client subscribes, and another commit changes the row.
    handover.hand_over(first, start.number, std::iter::once(sample(1)));
    let late = ring.subscribe(&Filter::all());
    let second = write(&client, 2).await;
    client.batch_execute("COMMIT").await.unwrap();
    handover.hand_over(second, WRITER, std::iter::once(sample(2)));
    assert_eq!([receive(&early).await, receive(&early).await], [1, 2]);
    assert_eq!(receive(&late).await, 2, "read before: {was_read}");
    assert!(matches!((early.take(), late.take()), (Poll::Pending, Poll::Pending)));
    ending.send_replace(true);
    poller.await.unwrap();
}

#[tokio::test]
async fn a_commit_that_was_handed_over_without_listeners_is_heard_by_replays_and_not_by_later_subscribers() {
    let database = TestDatabase::new().await;
    let config = Config::from_url(database.url()).unwrap();
    let start = newest(&mut Session::writer(&config).await.unwrap()).await.unwrap();
    let ring = Arc::new(Ring::new(start, &config.limits));
    let (handover, handed_over) = Handover::new(Arc::clone(&ring));
    let (ending, end) = watch::channel(false);
    let client = connect(&database).await;
    client.batch_execute("BEGIN").await.unwrap();
    let record = write(&client, 1).await;
    client.batch_execute("COMMIT").await.unwrap();
    // There is no listener, so the samples are not kept. Listeners come before the poller has delivered the commit.
    handover.hand_over(record, 0, std::iter::once(sample(1)));
    let replay = ring.listen(false);
    let mark = ring.mark();
    let late = ring.subscribe(&Filter::all());
    let poller = run_poller(&config, &ring, handed_over, end);
    let joined = ring.join(&Filter::all(), mark, false).unwrap();
    drop(replay);
    assert_eq!(receive(&joined).await, 1);
    client.batch_execute("BEGIN").await.unwrap();
    let record = write(&client, 2).await;
    client.batch_execute("COMMIT").await.unwrap();
    handover.hand_over(record, WRITER, std::iter::once(sample(2)));
    assert_eq!([receive(&joined).await, receive(&late).await], [2, 2]);
    ending.send_replace(true);
    poller.await.unwrap();
}

/// A statement takes a round trip. A poller that sent one for each commit of another server would fall behind.
#[tokio::test]
async fn commits_of_another_server_between_own_ones_are_read_from_the_table_at_once() {
    const OTHER_WRITER: i64 = 8;
    const PAIRS: i32 = 20;
    // The table becomes a view, which no distributed table can.
    let database = TestDatabase::undistributed().await;
    let config = Config::from_url(database.url()).unwrap();
    let start = newest(&mut Session::writer(&config).await.unwrap()).await.unwrap();
    let ring = Arc::new(Ring::new(start, &config.limits));
    let (handover, handed_over) = Handover::new(Arc::clone(&ring));
    let (ending, end) = watch::channel(false);
    let member = ring.subscribe(&Filter::all());
    let client = connect(&database).await;
    for pair in 0..PAIRS {
        for (writer_id, steps) in [(OTHER_WRITER, 2 * pair), (WRITER, 2 * pair + 1)] {
            client.batch_execute("BEGIN").await.unwrap();
            let record = write_by(&client, writer_id, i64::from(steps) + 1, steps).await;
            client.batch_execute("COMMIT").await.unwrap();
            if writer_id == WRITER {
                handover.hand_over(record, OTHER_WRITER, std::iter::once(sample(i64::from(steps))));
            }
        }
    }
    // The view notes the statements that read it.
    let count = "CREATE TABLE reads (at timestamptz); CREATE FUNCTION note() RETURNS integer LANGUAGE sql AS \
        'INSERT INTO reads VALUES (statement_timestamp()) RETURNING 1'; ALTER TABLE health_metrics RENAME TO counted; \
        CREATE VIEW health_metrics AS SELECT counted.* FROM (SELECT note() OFFSET 0) AS read, counted";
    client.batch_execute(count).await.unwrap();
    let poller = run_poller(&config, &ring, handed_over, end);
    for steps in 0..2 * PAIRS {
        assert_eq!(receive(&member).await, steps);
    }
    let reads: i64 = client
        .query_one("SELECT count(DISTINCT at) FROM reads", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(reads, 1);
    ending.send_replace(true);
    poller.await.unwrap();
}
