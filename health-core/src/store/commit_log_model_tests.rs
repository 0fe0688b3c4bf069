//! A model of the commit numbers and of the fence: writers that are delayed, rolled back, killed and left alone at
//! every step, and one poller that only asks for the numbers after its position.
//!
//! The same model runs with planted faults, and has to notice each of them.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use test_support::{TestDatabase, earlier, is_on_citus};
use tokio::{
    sync::{Notify, RwLock},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls, error::SqlState};

use crate::{
    config::Config,
    store::{
        batch_key::BatchKey,
        commit_log::{APPEND, COMMIT_LOCK, CommitRecord, LogPage, fence, maintain, newest, page},
        connection::Session,
        micros::Micros,
        prepared::{self, Rows},
        required_version::KNOWN_VERSION,
        tables::Tables,
    },
};

/// How the writers of a run take numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// As the product does, while the records are read by number only.
    Product,
    /// As the product does, while records are packed and the poller reads pages, as the product does.
    ProductWithPacks,
    /// Fault: a number from a sequence at the commit, without a lock.
    NoLock,
    /// Fault: the lock is taken, but the number comes from a sequence at the start of the transaction.
    NumberEarly,
    /// Fault: the lock is taken by the statement that reads the newest record, so its snapshot is older than the lock.
    LockInTheSameStatement,
    /// Fault: (writer, batch) is not unique.
    NoKey,
}

/// The numbers of faults that a run has shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Violations {
    /// Records in the log that the poller has not seen, has seen twice or in another order.
    missed: usize,
    /// Numbers between others that no record has.
    gaps: usize,
    /// Records that the poller saw before their rows.
    without_rows: usize,
    /// Batches that are stored although their writer learned the opposite, or the other way round.
    wrong_outcomes: usize,
    /// Commits that were refused although their writers were not disturbed.
    refused: usize,
}

/// What befalls a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Commits,
    RollsBack,
    /// Its backend is terminated, while the writer goes on.
    IsKilled,
    /// The writer loses it out of sight and asks for its outcome, while it goes on.
    IsLost,
}

/// The steps before which something may befall a transaction: its row, the lock, the record, the commit.
const STEPS: u32 = 4;

/// The step that takes the lock. From then on, a question for the outcome waits for the transaction.
const LOCK_STEP: u32 = 1;

/// Transactions of each writer in each run; the environment variable `HEALTH_TEST_ROUNDS` sets another number.
const ROUNDS: i64 = 40;

const WRITERS: i64 = 6;

const DAY: Duration = Duration::from_hours(24);

/// The longest wait for an answer of the database.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// The model reads records, not rows.
const NO_KEYS: &[u8] = &[];

/// Appends a record without the product's lock: the number comes from a sequence.
const APPEND_FROM_SEQUENCE: &str = "INSERT INTO health_commits (number, batch, writer, previous_writer, rows) \
     SELECT coalesce($4::bigint, nextval('model_numbers')), $1, $2, 0, $3";

/// Appends a record, and takes the lock with a snapshot that may be older than it.
const LOCK_AND_APPEND: &str = "WITH locked AS MATERIALIZED \
     (SELECT pg_advisory_xact_lock(hashtext('health commit order')) AS lock), \
     newest AS (SELECT number, writer FROM health_commits ORDER BY number DESC LIMIT 1) \
     INSERT INTO health_commits (number, batch, writer, previous_writer, rows) \
     SELECT number + 1, $1, $2, writer, $3 FROM locked, newest";

fn rounds() -> i64 {
    let rounds = std::env::var("HEALTH_TEST_ROUNDS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

async fn connect(database: &TestDatabase) -> Client {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn session(url: &str) -> Session {
    Session::writer(&Config::from_url(url).unwrap()).await.unwrap()
}

/// Sometimes waits for some milliseconds, so that transactions overtake each other.
async fn dawdle() {
    match fastrand::u32(0..4) {
        0 | 1 => sleep(Duration::from_micros(fastrand::u64(0..8_000))).await,
        2 => tokio::task::yield_now().await,
        _ => {}
    }
}

/// One writer: a connection, and its next transactions.
struct Writer {
    url: String,
    protocol: Protocol,
    user: i64,
    /// Terminates backends.
    admin: Client,
    /// What the writer learned about each batch: whether it is stored.
    learned: Vec<(BatchKey, bool)>,
    refused: usize,
    packing: Arc<RwLock<()>>,
}

impl Writer {
    async fn run(mut self, rounds: i64) -> Self {
        let mut connected = self.connect().await;
        for round in 0..rounds {
            let (client, writer) = &connected;
            let fate = match fastrand::u32(0..10) {
                0 => Fate::RollsBack,
                1 | 2 if self.asks() => Fate::IsKilled,
                3 | 4 if self.asks() => Fate::IsLost,
                _ => Fate::Commits,
            };
            let at = fastrand::u32(0..STEPS);
            let batch = client.query_one("SELECT nextval('health_batch_numbers')", &[]).await;
            let key = BatchKey {
                writer_id: *writer,
                batch_number: batch.unwrap().get(0),
            };
            // Records are packed only after all transactions of their time have ended.
            let is_disturbed = matches!(fate, Fate::IsKilled | Fate::IsLost);
            let packing = Arc::clone(&self.packing);
            let no_packing = if is_disturbed { Some(packing.read().await) } else { None };
            let stored = self.transaction(client, key, round, fate, at).await;
            let is_stored = match stored {
                Some(stored) => stored,
                None => ask(&self.url, key).await,
            };
            drop(no_packing);
            self.learned.push((key, is_stored));
            if client.is_closed() || matches!(fate, Fate::IsKilled | Fate::IsLost) {
                connected = self.connect().await;
            }
        }
        self
    }

    /// Whether outcomes are asked for. The fence appends as the product does, so only then.
    fn asks(&self) -> bool {
        !matches!(self.protocol, Protocol::NoLock | Protocol::NumberEarly)
    }

    async fn connect(&self) -> (Client, i64) {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        (client, fastrand::i64(1..))
    }

    /// Runs a transaction. Returns whether it was stored, or `None` if the writer does not know.
    async fn transaction(&mut self, client: &Client, key: BatchKey, round: i64, fate: Fate, at: u32) -> Option<bool> {
        if fate == Fate::IsLost {
            // The transaction goes on, whatever the answer is.
            let url = self.url.clone();
            let answered = Notify::new();
            let asking = async {
                sleep(Duration::from_micros(fastrand::u64(0..5_000))).await;
                let answer = ask(&url, key).await;
                answered.notify_one();
                answer
            };
            let (_, answer) = tokio::join!(self.steps(client, key, round, fate, at, &answered), asking);
            // Whatever it was, it is the same the next time.
            assert!(self.protocol == Protocol::NoKey || answer == ask(&self.url, key).await);
            return Some(answer);
        }
        match self.steps(client, key, round, fate, at, &Notify::new()).await {
            Ok(is_stored) => Some(is_stored),
            Err(error) if fate != Fate::IsKilled => {
                // Citus takes a killed session for part of a deadlock, and rolls back who waits for it.
                let is_deadlock = is_on_citus() && error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED);
                let is_refused = error.code() == Some(&SqlState::UNIQUE_VIOLATION);
                assert!(is_refused || is_deadlock, "{error:?}");
                self.refused += usize::from(is_refused);
                let _ = client.batch_execute("ROLLBACK").await;
                Some(false)
            }
            Err(_) => None,
        }
    }

    async fn steps(
        &self,
        client: &Client,
        key: BatchKey,
        round: i64,
        fate: Fate,
        at: u32,
        answered: &Notify,
    ) -> Result<bool, tokio_postgres::Error> {
        let BatchKey {
            writer_id,
            batch_number,
        } = key;
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        let mut early: Option<i64> = None;
        if self.protocol == Protocol::NumberEarly {
            let number = client.query_one("SELECT nextval('model_numbers')", &[]).await?;
            early = Some(number.get(0));
        }
        let rows = 1 + batch_number % 3;
        let rows_written = i32::try_from(rows).unwrap();
        for step in 0..STEPS {
            dawdle().await;
            if step == at && fate == Fate::RollsBack {
                client.batch_execute("ROLLBACK").await?;
                return Ok(false);
            }
            if step == at && fate == Fate::IsLost {
                if step <= LOCK_STEP && fastrand::bool() {
                    // The answer comes while nothing is locked, however fast the machine is.
                    answered.notified().await;
                } else {
                    // About as long as the question for the outcome takes.
                    sleep(Duration::from_millis(fastrand::u64(0..40))).await;
                }
            }
            let working = async {
                match (step, self.protocol) {
                    (0, _) => {
                        let insert = "INSERT INTO health_metrics (id, user_id, timestamp, steps) \
                            SELECT ($1::bigint << 20) + n, $2, '2025-03-02T12:00:00Z'::timestamptz + $3::bigint * interval '1 minute' + n * interval '1 second', 1 \
                            FROM generate_series(0::bigint, $4::bigint - 1) AS n";
                        client
                            .execute(insert, &[&batch_number, &self.user, &round, &rows])
                            .await
                    }
                    (1, Protocol::NoLock | Protocol::LockInTheSameStatement) => Ok(0),
                    (1, _) => client.execute(COMMIT_LOCK, &[]).await,
                    (2, Protocol::NoLock | Protocol::NumberEarly) => {
                        client
                            .execute(
                                APPEND_FROM_SEQUENCE,
                                &[&batch_number, &writer_id, &rows_written, &early],
                            )
                            .await
                    }
                    (2, Protocol::LockInTheSameStatement) => {
                        client
                            .execute(LOCK_AND_APPEND, &[&batch_number, &writer_id, &rows_written])
                            .await
                    }
                    (2, _) => {
                        client
                            .execute(
                                APPEND,
                                &[
                                    &batch_number,
                                    &writer_id,
                                    &rows_written,
                                    &None::<Micros>,
                                    &KNOWN_VERSION,
                                    &NO_KEYS,
                                ],
                            )
                            .await
                    }
                    (_, _) => client.execute("COMMIT", &[]).await,
                }
            };
            let killing = async {
                if step == at && fate == Fate::IsKilled {
                    let terminate = "SELECT pg_terminate_backend($1::integer)";
                    let before = fastrand::u64(0..600);
                    sleep(Duration::from_micros(before)).await;
                    self.admin.execute(terminate, &[&pid]).await.unwrap();
                }
            };
            let (worked, ()) = tokio::join!(working, killing);
            worked?;
        }
        Ok(true)
    }
}

/// Asks for the outcome of a batch until there is an answer.
async fn ask(url: &str, key: BatchKey) -> bool {
    let asking = async {
        loop {
            if let Ok(is_committed) = fence(&mut session(url).await, key).await {
                return is_committed;
            }
        }
    };
    timeout(ANSWER_TIMEOUT, asking).await.expect("an answer in time")
}

/// Reads records after a position until the writers have ended.
struct Poller {
    session: Session,
    protocol: Protocol,
    seen: Vec<CommitRecord>,
    without_rows: usize,
}

impl Poller {
    async fn run(mut self, ended: Arc<AtomicBool>, first: CommitRecord) -> Self {
        let mut last = first;
        loop {
            let is_last = ended.load(SeqCst);
            let records = match self.protocol {
                Protocol::ProductWithPacks => match page(&mut self.session, last.position(), 20, DAY).await.unwrap() {
                    LogPage::Records { records, .. } => records,
                    other => panic!("{other:?}"),
                },
                _ => records_after(&self.session, last.number).await,
            };
            self.without_rows += self.count_incomplete(&records).await;
            last = records.last().copied().unwrap_or(last);
            let is_empty = records.is_empty();
            self.seen.extend(records);
            if is_last && is_empty {
                return self;
            }
        }
    }

    /// Counts the records without all their rows. On a cluster, a record may be visible a moment before its rows, so
    /// this does what the product does there: it looks again after the commits have become complete.
    async fn count_incomplete(&mut self, records: &[CommitRecord]) -> usize {
        let incomplete = incomplete(&self.session, records).await;
        if incomplete == 0 || self.session.tables() == Tables::Local {
            return incomplete;
        }
        complete_commits(&mut self.session).await;
        self::incomplete(&self.session, records).await
    }
}

/// Waits until the commits that are visible are complete on all nodes of a cluster.
async fn complete_commits(session: &mut Session) {
    let completing = async { while prepared::recover(session, Rows::OfAllUsers).await.is_err() {} };
    timeout(ANSWER_TIMEOUT, completing)
        .await
        .expect("complete commits in time");
}

async fn incomplete(session: &Session, records: &[CommitRecord]) -> usize {
    let batches: Vec<i64> = records.iter().map(|record| record.batch_number).collect();
    let rows = rows_of(session, &batches).await;
    let is_incomplete = |record: &&CommitRecord| {
        record.rows > 0 && rows.get(&record.batch_number).copied() != Some(i64::from(record.rows))
    };
    records.iter().filter(is_incomplete).count()
}

/// The number of rows of each batch.
async fn rows_of(session: &Session, batches: &[i64]) -> HashMap<i64, i64> {
    let rows = "SELECT id >> 20, count(*) FROM health_metrics WHERE id >> 20 = ANY($1) GROUP BY 1";
    let rows = session.client().query(rows, &[&batches]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn records_after(session: &Session, number: i64) -> Vec<CommitRecord> {
    let after = "SELECT number, batch, writer, rows FROM health_commits WHERE number > $1 ORDER BY number";
    let rows = session.client().query(after, &[&number]).await.unwrap();
    let record = |row: &tokio_postgres::Row| CommitRecord {
        number: row.get(0),
        batch_number: row.get(1),
        writer_id: row.get(2),
        rows: row.get(3),
        is_erasure: false,
    };
    rows.iter().map(record).collect()
}

async fn prepare(client: &Client, protocol: Protocol) {
    let sql = match protocol {
        Protocol::NoLock | Protocol::NumberEarly => "CREATE SEQUENCE model_numbers START 2",
        Protocol::NoKey => "ALTER TABLE health_commits DROP CONSTRAINT health_commits_writer_batch_key",
        _ => "",
    };
    client.batch_execute(sql).await.unwrap();
}

/// Runs the model, and returns the faults that it has shown.
async fn run(protocol: Protocol) -> Violations {
    let database = TestDatabase::new().await;
    let url = database.url().to_owned();
    prepare(&connect(&database).await, protocol).await;
    let mut observer = session(&url).await;
    assert_eq!(newest(&mut observer).await.unwrap().number, 1);
    let first = records_after(&observer, 0).await[0];
    let ended = Arc::new(AtomicBool::new(false));
    let poller = Poller {
        session: session(&url).await,
        protocol,
        seen: Vec::new(),
        without_rows: 0,
    };
    let poller = tokio::spawn(poller.run(Arc::clone(&ended), first));
    let packing = Arc::new(RwLock::new(()));
    let packer = Packer {
        session: session(&url).await,
        packing: Arc::clone(&packing),
        packs: 0,
    };
    let packer = tokio::spawn(packer.run(protocol, Arc::clone(&ended)));
    let mut writers = JoinSet::new();
    for user in 1..=WRITERS {
        let writer = Writer {
            url: url.clone(),
            protocol,
            user,
            admin: connect(&database).await,
            learned: Vec::new(),
            refused: 0,
            packing: Arc::clone(&packing),
        };
        writers.spawn(writer.run(rounds()));
    }
    let writers = writers.join_all().await;
    ended.store(true, SeqCst);
    let packs = packer.await.unwrap();
    let poller = poller.await.unwrap();
    complete_commits(&mut observer).await;

    let log = match protocol {
        Protocol::ProductWithPacks => {
            assert!(packs > 0, "nothing was packed");
            match page(&mut observer, first.position(), usize::MAX >> 1, DAY)
                .await
                .unwrap()
            {
                LogPage::Records { records, .. } => all_pages(&mut observer, records).await,
                other => panic!("{other:?}"),
            }
        }
        _ => records_after(&observer, 1).await,
    };
    violations(&observer, &log, &poller, &writers).await
}

/// Completes the log from its first page.
async fn all_pages(session: &mut Session, mut records: Vec<CommitRecord>) -> Vec<CommitRecord> {
    while let Some(last) = records.last() {
        match page(session, last.position(), 100, DAY).await.unwrap() {
            LogPage::Records { records: more, .. } if more.is_empty() => break,
            LogPage::Records { records: more, .. } => records.extend(more),
            other => panic!("{other:?}"),
        }
    }
    records
}

/// Makes records old and packs them, all the time.
struct Packer {
    session: Session,
    packing: Arc<RwLock<()>>,
    packs: i64,
}

impl Packer {
    /// Returns how many packs there are in the end.
    async fn run(mut self, protocol: Protocol, ended: Arc<AtomicBool>) -> i64 {
        while protocol == Protocol::ProductWithPacks && !ended.load(SeqCst) {
            let alone = self.packing.write().await;
            let age = format!(
                "UPDATE health_commits SET committed_at = {} WHERE committed_at > now() - interval '6 minutes'",
                earlier("committed_at", "6 minutes")
            );
            self.session.client().batch_execute(&age).await.unwrap();
            maintain(&mut self.session, DAY).await.unwrap();
            let packs = "SELECT count(*) FROM health_commit_packs";
            self.packs = self.session.client().query_one(packs, &[]).await.unwrap().get(0);
            drop(alone);
            sleep(Duration::from_millis(20)).await;
        }
        self.packs
    }
}

async fn violations(observer: &Session, log: &[CommitRecord], poller: &Poller, writers: &[Writer]) -> Violations {
    let mut unseen: HashMap<i64, &CommitRecord> = log.iter().map(|record| (record.number, record)).collect();
    let mut seen_wrongly = 0;
    let mut last = 1;
    for record in &poller.seen {
        let is_known = unseen.remove(&record.number) == Some(record);
        seen_wrongly += usize::from(!is_known || record.number <= last);
        last = record.number;
    }
    let stored = "SELECT DISTINCT id >> 20 FROM health_metrics";
    let rows = observer.client().query(stored, &[]).await.unwrap();
    let with_rows: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    let with_records: HashSet<(i64, i64)> = log
        .iter()
        .filter(|record| record.rows > 0)
        .map(|record| (record.writer_id, record.batch_number))
        .collect();
    let learned = writers.iter().flat_map(|writer| &writer.learned);
    let is_wrong = |(key, is_stored): &&(BatchKey, bool)| {
        let BatchKey {
            writer_id,
            batch_number,
        } = *key;
        with_rows.contains(&batch_number) != *is_stored
            || with_records.contains(&(writer_id, batch_number)) != *is_stored
    };
    Violations {
        missed: unseen.len() + seen_wrongly,
        gaps: log
            .iter()
            .zip(2..)
            .filter(|(record, number)| record.number != *number)
            .count(),
        without_rows: poller.without_rows,
        wrong_outcomes: learned.filter(is_wrong).count(),
        refused: writers.iter().map(|writer| writer.refused).sum(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poller_that_asks_for_later_numbers_misses_nothing_and_a_fence_never_lies() {
    for protocol in [Protocol::Product, Protocol::ProductWithPacks] {
        assert_eq!(run(protocol).await, Violations::default(), "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_notices_each_planted_fault() {
    for (protocol, count) in [
        (Protocol::NoLock, (|found| found.missed) as fn(&Violations) -> usize),
        (Protocol::NumberEarly, |found| found.missed),
        (Protocol::LockInTheSameStatement, |found| found.refused),
        (Protocol::NoKey, |found| found.wrong_outcomes),
    ] {
        // Each needs a race, which nearly every run has.
        let mut runs = 0;
        while count(&run(protocol).await) == 0 {
            runs += 1;
            assert!(runs < 10, "{protocol:?} was not noticed");
        }
    }
}
