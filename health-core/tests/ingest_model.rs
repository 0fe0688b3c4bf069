//! Ingest and erasing are linearizable: for any interleaving of requests over two handles there is an order of single
//! samples and single erased samples that gives the same table, the same receipts and the same numbers of erased
//! samples.

#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use chrono::TimeDelta;
use health_core::{Config, Health, HeartRate, Limits, Readings, Receipt, Sample, Source, Steps, TimeRange, UserId};
use proptest::{
    prelude::*,
    test_runner::{Config as Cases, TestRunner},
};
use test_support::{TestDatabase, patient_limits};
use tokio::{runtime::Runtime, task::JoinSet};

/// Identities of a case: two of one user and one of another, who has a different writer.
const IDENTITIES: usize = 3;

/// One sample: the index of its identity, and its readings. Without readings it is erased.
type Write = (usize, Option<Readings>);

/// The requests of one client, which sends one after another. Each only writes or only erases.
type Client = Vec<Vec<Write>>;

/// A request with its receipt, and when it began and ended.
#[derive(Debug)]
struct Answered {
    client: usize,
    writes: Vec<Write>,
    began: Instant,
    ended: Instant,
    receipt: [u64; 3],
}

/// The receipts of all requests, in the order of [`Answered`]: inserted, updated, unchanged; of an erasure: erased, 0,
/// 0.
type Receipts = Vec<[u64; 3]>;

fn write() -> impl Strategy<Value = Write> {
    let values = (0..3_usize, 0..3_usize).prop_filter("something is measured", |values| *values != (0, 0));
    (0..IDENTITIES, values).prop_map(|(identity, (rate, steps))| {
        let readings = Readings {
            heart_rate: [None, HeartRate::new(60.0).ok(), HeartRate::new(61.5).ok()][rate],
            steps: [None, Steps::new(0).ok(), Steps::new(5).ok()][steps],
            calories: None,
        };
        (identity, Some(readings))
    })
}

/// Erases one identity, or all of a user.
fn erasure() -> impl Strategy<Value = Vec<Write>> {
    let identities = prop_oneof![Just(vec![0]), Just(vec![1]), Just(vec![0, 1]), Just(vec![2])];
    identities.prop_map(|identities| identities.into_iter().map(|identity| (identity, None)).collect())
}

fn clients() -> impl Strategy<Value = Vec<Client>> {
    let request = prop_oneof![4 => prop::collection::vec(write(), 1..4), 1 => erasure()];
    prop::collection::vec(prop::collection::vec(request, 1..4), 1..5)
}

/// Makes the sample of a write. Each case has identities of its own.
fn sample(case: i64, identity: usize, readings: Readings) -> Sample {
    let time = Sample::EARLIEST + TimeDelta::seconds(second(identity));
    Sample::new(user(case, identity), time, Source::default(), readings).unwrap()
}

fn user(case: i64, identity: usize) -> UserId {
    UserId::new(2 * case + [1, 1, 2][identity]).unwrap()
}

fn second(identity: usize) -> i64 {
    [0, 1, 0][identity]
}

/// Sends one request, and returns its receipt.
async fn request(health: &Health, case: i64, writes: &[Write]) -> [u64; 3] {
    let samples = writes
        .iter()
        .filter_map(|(identity, readings)| Some(sample(case, *identity, (*readings)?)));
    let samples: Vec<_> = samples.collect();
    let (Some((first, _)), Some((last, _))) = (writes.first(), writes.last()) else {
        return [0; 3];
    };
    if samples.is_empty() {
        let erased = if *first == 2 {
            health.erase(user(case, *first)).await
        } else {
            let time = |second| Sample::EARLIEST + TimeDelta::seconds(second);
            let range = TimeRange::new(time(second(*first)), time(second(*last) + 1)).unwrap();
            health.erase_range(user(case, *first), range, None).await
        };
        return [erased.unwrap(), 0, 0];
    }
    let receipt = health.ingest(samples).await.unwrap();
    [receipt.inserted, receipt.updated, receipt.unchanged]
}

async fn open(database: &TestDatabase, batch_rows: usize) -> Health {
    let limits = Limits {
        batch_rows,
        ..patient_limits()
    };
    Health::open(Config::from_url(database.url()).unwrap().limits(limits))
        .await
        .unwrap()
}

/// Runs all clients at the same time. They take turns with the handles.
async fn send(case: i64, handles: &[Health], clients: Vec<Client>) -> Vec<Answered> {
    let mut tasks = JoinSet::new();
    for (client, requests) in clients.into_iter().enumerate() {
        let health = handles[client % handles.len()].clone();
        tasks.spawn(async move {
            let mut answered = Vec::new();
            for writes in requests {
                let began = Instant::now();
                let receipt = request(&health, case, &writes).await;
                answered.push(Answered {
                    client,
                    writes,
                    began,
                    ended: Instant::now(),
                    receipt,
                });
            }
            answered
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// A search for all possible orders of the writes of one identity. It keeps the results of states that it has seen.
struct Search<'a> {
    requests: &'a [Answered],
    /// For each client, the request and the readings of its writes, in order.
    writes: Vec<Vec<(usize, Option<Readings>)>>,
    /// What the table contains in the end.
    stored: Option<Readings>,
    results: HashMap<(Vec<usize>, String), BTreeSet<Receipts>>,
}

impl<'a> Search<'a> {
    fn new(requests: &'a [Answered], identity: usize, stored: Option<Readings>) -> Self {
        let clients = requests.iter().map(|request| request.client + 1).max().unwrap_or(0);
        let mut writes = vec![Vec::new(); clients];
        for (index, request) in requests.iter().enumerate() {
            let of_identity = request.writes.iter().filter(|write| write.0 == identity);
            writes[request.client].extend(of_identity.map(|write| (index, write.1)));
        }
        Self {
            requests,
            writes,
            stored,
            results: HashMap::new(),
        }
    }

    /// Returns the receipts of all orders of the remaining writes that end with the stored readings. `done` counts the
    /// finished writes of each client.
    fn orders(&mut self, done: &[usize], current: Option<Readings>) -> BTreeSet<Receipts> {
        let state = (done.to_vec(), format!("{current:?}"));
        if let Some(result) = self.results.get(&state) {
            return result.clone();
        }
        let mut all = BTreeSet::new();
        let mut is_end = true;
        for client in 0..done.len() {
            let Some(&(request, readings)) = self.writes[client].get(done[client]) else {
                continue;
            };
            is_end = false;
            if self.must_wait(request, done) {
                continue;
            }
            let after = readings.map(|readings| current.unwrap_or_default().merged_with(readings));
            let count = match (current, after) {
                (None, None) => None,
                (None, Some(_)) | (Some(_), None) => Some(0),
                (Some(current), Some(after)) if current != after => Some(1),
                (Some(_), Some(_)) => Some(2),
            };
            let mut next = done.to_vec();
            next[client] += 1;
            for mut receipts in self.orders(&next, after) {
                if let Some(count) = count {
                    receipts[request][count] += 1;
                }
                all.insert(receipts);
            }
        }
        if is_end && current == self.stored {
            all.insert(vec![[0; 3]; self.requests.len()]);
        }
        self.results.insert(state, all.clone());
        all
    }

    /// Returns whether a request with an unfinished write was answered before this request began.
    fn must_wait(&self, request: usize, done: &[usize]) -> bool {
        let began = self.requests[request].began;
        let next = self
            .writes
            .iter()
            .zip(done)
            .filter_map(|(writes, done)| writes.get(*done));
        next.into_iter().any(|(other, _)| self.requests[*other].ended < began)
    }
}

/// Returns whether there is an order for each identity such that together they give every receipt.
fn is_linearizable(requests: &[Answered], table: &[Option<Readings>]) -> bool {
    let actual: Receipts = requests.iter().map(|request| request.receipt).collect();
    let mut sums = BTreeSet::from([vec![[0; 3]; requests.len()]]);
    for (identity, stored) in table.iter().enumerate() {
        let mut search = Search::new(requests, identity, *stored);
        let orders = search.orders(&vec![0; search.writes.len()], None);
        let mut more = BTreeSet::new();
        for (sum, order) in sums.iter().flat_map(|sum| orders.iter().map(move |order| (sum, order))) {
            let sum: Receipts = sum
                .iter()
                .zip(order)
                .map(|(a, b)| [a[0] + b[0], a[1] + b[1], a[2] + b[2]])
                .collect();
            let is_possible = sum
                .iter()
                .flatten()
                .zip(actual.iter().flatten())
                .all(|(sum, actual)| sum <= actual);
            if is_possible {
                more.insert(sum);
            }
        }
        sums = more;
    }
    sums.contains(&actual)
}

/// Returns the stored readings of the identities of a case.
async fn table(client: &tokio_postgres::Client, case: i64) -> Vec<Option<Readings>> {
    let rows = client
        .query(
            "SELECT user_id, timestamp, heart_rate, steps, calories FROM health_metrics \
             WHERE user_id BETWEEN $1 AND $1::bigint + 1",
            &[&(2 * case + 1)],
        )
        .await
        .unwrap();
    let mut table = vec![None; IDENTITIES];
    for row in &rows {
        assert_eq!(row.get::<_, Option<f64>>(4), None);
        let readings = Readings {
            heart_rate: row.get::<_, Option<f64>>(2).map(|rate| HeartRate::new(rate).unwrap()),
            steps: row
                .get::<_, Option<i32>>(3)
                .map(|steps| Steps::new(steps.into()).unwrap()),
            calories: None,
        };
        let key = (row.get(0), row.get(1));
        let identity = (0..IDENTITIES).find(|identity| {
            let sample = sample(case, *identity, readings);
            (sample.user_id().get(), sample.timestamp()) == key
        });
        table[identity.unwrap()] = Some(readings);
    }
    assert_eq!(rows.len(), table.iter().flatten().count());
    table
}

async fn connect(database: &TestDatabase) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

#[test]
fn any_interleaving_equals_some_order_of_single_samples() {
    check_interleavings(false);
}

#[test]
fn any_interleaving_equals_some_order_also_with_the_statements_for_distributed_tables() {
    check_interleavings(true);
}

/// Runs 40 cases; the environment variable `PROPTEST_CASES` sets another number.
fn check_interleavings(is_distributed: bool) {
    let runtime = Runtime::new().unwrap();
    let database = runtime.block_on(TestDatabase::distributed_if(is_distributed));
    let handles = runtime.block_on(async { [open(&database, 20_000).await, open(&database, 2).await] });
    let client = runtime.block_on(connect(&database));
    let upload = |(health, users): (&Health, i64)| runtime.spawn(upload(health.clone(), users * 1_000_000_000));
    let uploads: Vec<_> = handles.iter().zip(1..).map(upload).collect();
    let cases = std::env::var("PROPTEST_CASES").map_or(40, |cases| cases.parse().unwrap());
    let config = Cases {
        cases,
        failure_persistence: None,
        ..Cases::default()
    };
    let case = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config).run(&clients(), |clients| {
        case.set(case.get() + 1);
        let requests = runtime.block_on(send(case.get(), &handles, clients));
        let table = runtime.block_on(table(&client, case.get()));
        prop_assert!(is_linearizable(&requests, &table), "{requests:#?} left {table:#?}");
        Ok(())
    });
    assert!(
        uploads.iter().all(|upload| !upload.is_finished()),
        "an upload has failed"
    );
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Sends large requests of other users without end, so that the spare writers write many of the small requests.
async fn upload(health: Health, first_user: i64) {
    const USERS: i64 = 50;
    for second in 0.. {
        let sample = |index: i64| {
            let readings = Readings {
                steps: Steps::new(1).ok(),
                ..Readings::default()
            };
            let time = Sample::EARLIEST + TimeDelta::seconds(second * 40 + index / USERS);
            Sample::new(
                UserId::new(first_user + index % USERS).unwrap(),
                time,
                Source::default(),
                readings,
            )
            .unwrap()
        };
        health.ingest((0..USERS * 40).map(sample)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_that_copy_the_same_rows_insert_each_row_once() {
    for is_distributed in [false, true] {
        copy_with_two_handles(&TestDatabase::distributed_if(is_distributed).await).await;
    }
}

/// Both handles send enough rows for COPY at the same time. A third of the rows have different values.
async fn copy_with_two_handles(database: &TestDatabase) {
    const USERS: i64 = 20;
    const SECONDS: i64 = 60;
    let handles = [open(database, 20_000).await, open(database, 700).await];
    for round in 0..4_i64 {
        let rows = |rate: fn(i64) -> f64| {
            let keys = (0..USERS).flat_map(|user| (0..SECONDS).map(move |second| (user, second)));
            keys.map(move |(user, second)| {
                let readings = Readings {
                    heart_rate: HeartRate::new(rate(second)).ok(),
                    ..Readings::default()
                };
                let time = Sample::EARLIEST + TimeDelta::seconds(round * SECONDS + second);
                Sample::new(UserId::new(user + 1).unwrap(), time, Source::default(), readings).unwrap()
            })
            .collect::<Vec<_>>()
        };
        let (ours, theirs) = (rows(|_| 60.0), rows(|second| if second % 3 == 0 { 61.0 } else { 60.0 }));
        let [first, second] = &handles;
        let (first, second) = tokio::join!(first.ingest(ours), second.ingest(theirs));
        let mut sum = first.unwrap();
        sum += second.unwrap();
        let rows = u64::try_from(USERS * SECONDS).unwrap();
        let expected = Receipt {
            inserted: rows,
            updated: rows / 3,
            unchanged: rows - rows / 3,
        };
        assert_eq!(sum, expected, "round {round}");
    }
    let stored = "SELECT user_id, count(*) FROM health_metrics GROUP BY user_id";
    let stored = connect(database).await.query(stored, &[]).await.unwrap();
    let stored: BTreeMap<i64, i64> = stored.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(stored, (1..=USERS).map(|user| (user, 4 * SECONDS)).collect());
}
