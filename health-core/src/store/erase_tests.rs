//! Erasing beside writers, rollers and subscribers: answers are exact, and the feed tells it in the order of the
//! commits.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use test_support::{TestDatabase, earlier};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    config::{Config, Limits},
    erasure::Erasure,
    health::Health,
    live::{event::LiveEvent, filter::Filter, subscription::Subscription},
    range::TimeRange,
    sample::{HeartRate, Readings, Sample, Source, Steps, UserId},
    store::{
        commit_log::{LogPage, LogPosition, maintain, page},
        connection::Session,
        erase::erase_in_steps,
        sealing_tests::{compare, summarise_all},
    },
    wire::Cursor,
};

pub(super) const USERS: i64 = 3;

const DAY: Duration = Duration::from_hours(24);

pub(super) fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub(super) fn at(seconds: i64) -> DateTime<Utc> {
    Sample::EARLIEST + TimeDelta::days(9_000) + TimeDelta::seconds(seconds)
}

pub(super) fn range(from: i64, to: i64) -> TimeRange {
    TimeRange::new(at(from), at(to)).unwrap()
}

pub(super) fn sample(id: i64, second: i64, source: &str, steps: i64) -> Sample {
    let readings = Readings {
        heart_rate: HeartRate::new(f64::from(u8::try_from(60 + steps % 100).unwrap())).ok(),
        steps: Steps::new(steps).ok(),
        calories: None,
    };
    Sample::new(user(id), at(second), Source::new(source).unwrap(), readings).unwrap()
}

fn any_source() -> &'static str {
    ["", "phone", "watch"][fastrand::usize(..3)]
}

/// An erasure of a random range of less than `seconds`, sometimes of one source, and sometimes of the whole user.
fn any_erasure(seconds: i64) -> Erasure {
    let id = user(fastrand::i64(1..=USERS));
    if fastrand::u8(..8) == 0 {
        return Erasure::of_user(id);
    }
    let from = fastrand::i64(0..seconds);
    let range = range(from, from + 1 + fastrand::i64(0..seconds / 3));
    let source = fastrand::bool().then(|| Source::new(any_source()).unwrap());
    Erasure::of_range(id, range, source)
}

pub(super) async fn open(database: &TestDatabase, limits: Limits) -> Health {
    let config = Config::from_url(database.url()).unwrap();
    Health::open(config.limits(limits)).await.unwrap()
}

pub(super) async fn session(database: &TestDatabase) -> Session {
    Session::writer(&Config::from_url(database.url()).unwrap())
        .await
        .unwrap()
}

/// All stored samples, by identity.
pub(super) async fn stored(health: &Health) -> Vec<Sample> {
    let mut all = Vec::new();
    for id in 1..=USERS {
        let mut samples = health.samples(user(id), range(-1_000_000, 1_000_000));
        loop {
            let page = samples.next_page().await.unwrap();
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
    }
    all
}

/// Samples of two days, some of them dense, summarised.
pub(super) async fn store_two_days(database: &TestDatabase) -> Session {
    let health = open(database, Limits::patient()).await;
    for id in 1..=USERS {
        let sparse = (0..800).map(|_| sample(id, fastrand::i64(0..172_800), any_source(), fastrand::i64(0..50)));
        let dense = (0..300).map(|second| sample(id, 40_000 + second, "watch", second % 7));
        health.ingest(sparse.chain(dense)).await.unwrap();
    }
    health.close().await.unwrap();
    let mut session = session(database).await;
    summarise_all(&mut session).await;
    session
}

/// The summaries of a slice, an hour and a day that have lost all samples do not come back, whatever the steps were.
#[tokio::test]
async fn after_an_erasure_in_any_steps_answers_equal_an_aggregate_over_the_samples_that_are_left() {
    for is_distributed in [false, true] {
        let database = TestDatabase::distributed_if(is_distributed).await;
        let mut session = store_two_days(&database).await;
        let days: Vec<_> = (-1..4).map(|day| at(day * 86_400).timestamp_micros()).collect();
        let now = Utc::now().timestamp_micros();
        let dense = Erasure::of_range(user(1), range(40_050, 40_250), None);
        let erasures = (0..15).map(|_| any_erasure(172_800));
        for (index, erasure) in std::iter::once(dense).chain(erasures).enumerate() {
            let before = rows(&session, &erasure).await;
            let step_rows = [1_000_000, 200, 50, 20][index % 4];
            let erased = erase_in_steps(&mut session, &erasure, step_rows, &|_| ())
                .await
                .unwrap();
            assert_eq!(erased, u64::try_from(before).unwrap(), "{erasure:?}");
            assert_eq!(rows(&session, &erasure).await, 0, "{erasure:?}");
            if index % 3 == 0 {
                // Everything is summarised again: nothing that was erased may come back.
                let dirty = "INSERT INTO health_dirty (user_id, slice, epoch) SELECT DISTINCT user_id, start, 0::bigint \
                    FROM health_rollups WHERE minutes = 15";
                session.client().batch_execute(dirty).await.unwrap();
                summarise_all(&mut session).await;
            }
            for id in 1..=USERS {
                compare(&mut session, user(id), &days, now).await;
                let mut cuts: Vec<_> = (0..4)
                    .map(|_| at(fastrand::i64(0..172_800)).timestamp_micros())
                    .collect();
                cuts.sort_unstable();
                cuts.dedup();
                compare(&mut session, user(id), &cuts, now).await;
            }
            assert_summaries_have_samples(&session).await;
        }
    }
}

/// The number of stored samples that an erasure covers.
async fn rows(session: &Session, erasure: &Erasure) -> i64 {
    let count = "SELECT count(*) FROM health_metrics WHERE user_id = $1 AND ($2::timestamptz IS NULL OR timestamp >= $2) \
        AND ($3::timestamptz IS NULL OR timestamp < $3) AND ($4::text IS NULL OR source = $4)";
    let (start, end) = erasure.range().map(|range| (range.start(), range.end())).unzip();
    let source = erasure.source().map(Source::as_str);
    let row = session
        .client()
        .query_one(count, &[&erasure.user_id().get(), &start, &end, &source])
        .await;
    row.unwrap().get(0)
}

/// Each summary of a source has at least one sample.
pub(super) async fn assert_summaries_have_samples(session: &Session) {
    let empty = "SELECT count(*) FROM health_rollups r WHERE NOT EXISTS (SELECT 1 FROM health_metrics m \
        WHERE m.user_id = r.user_id AND m.source = r.source AND m.timestamp >= r.start \
        AND m.timestamp < r.start + r.minutes * interval '1 minute')";
    assert_eq!(
        session.client().query_one(empty, &[]).await.unwrap().get::<_, i64>(0),
        0
    );
}

/// What a client has that applies the events of the feed in their order.
#[derive(Default)]
pub(super) struct Client {
    pub(super) samples: BTreeMap<(i64, DateTime<Utc>, String), Sample>,
    pub(super) erasures: usize,
}

impl Client {
    fn store(&mut self, sample: &Sample) {
        let key = (sample.user_id().get(), sample.timestamp(), sample.source().to_string());
        self.samples.insert(key, sample.clone());
    }

    fn erase(&mut self, erasure: &Erasure) {
        self.erasures += 1;
        self.samples.retain(|_, sample| !erasure.covers(sample));
    }
}

/// The sample that ends a run. Its user is in no erasure.
pub(super) const LAST_USER: i64 = 99;

/// Follows the feed until the last sample. `reconnects`: it drops its subscription now and then, and resumes.
pub(super) async fn follow(health: Health, mut live: Subscription, filter: Filter, reconnects: bool) -> Client {
    let mut client = Client::default();
    loop {
        let event = timeout(Duration::from_secs(90), live.next())
            .await
            .expect("an event in time");
        let resume = |cursor: Cursor| health.subscribe(filter.clone()).resume(cursor);
        match event.expect("the handle is open") {
            LiveEvent::Sample { published, .. } if published.sample().user_id().get() == LAST_USER => return client,
            LiveEvent::Sample { cursor, published } => {
                client.store(published.sample());
                if reconnects && fastrand::u8(..60) == 0 {
                    live = resume(cursor);
                }
            }
            LiveEvent::Erased { cursor, erasure } => {
                client.erase(&erasure);
                if reconnects && fastrand::bool() {
                    live = resume(cursor);
                }
            }
            LiveEvent::Lagged { cursor, .. } => live = resume(cursor),
            LiveEvent::Subscribed { resumed, reason, .. } => assert!(resumed, "{reason:?}"),
        }
    }
}

/// Writers of two servers and erasers work on the same few samples, so that commits overtake each other all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_applies_events_in_their_order_ends_with_what_is_stored() {
    let database = TestDatabase::new().await;
    // The second server has a small ring, so that its subscribers fall off and read from the table.
    let small = Limits {
        subscriber_queue: 32,
        ..Limits::patient()
    };
    let servers = [open(&database, Limits::patient()).await, open(&database, small).await];
    let start = servers[0].cursor();
    let mut clients = JoinSet::new();
    for server in &servers {
        for (filter, reconnects) in [
            (Filter::all(), false),
            (Filter::all(), true),
            (Filter::users((1..=USERS).chain([LAST_USER]).map(user)), true),
        ] {
            let live = server.subscribe(filter.clone()).resume(start.clone());
            clients.spawn(follow(server.clone(), live, filter, reconnects));
        }
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for (index, server) in [0, 1, 0, 1].into_iter().enumerate() {
        let (health, done) = (servers[server].clone(), Arc::clone(&done));
        writers.spawn(async move {
            let mut steps = 0;
            while !done.load(SeqCst) {
                steps += 1;
                let any = |_| {
                    sample(
                        fastrand::i64(1..=USERS),
                        fastrand::i64(0..60),
                        any_source(),
                        steps % 1_000,
                    )
                };
                let samples: Vec<_> = (0..fastrand::usize(1..6)).map(any).collect();
                health.ingest(samples).await.unwrap();
                if index < 2 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    // The writers of a busy machine may store little meanwhile, so it erases more often.
    let (mut erased, mut round) = (0, 0);
    while round < 60 || erased <= 50 {
        let erasure = any_erasure(60);
        let health = &servers[round % 2];
        round += 1;
        assert!(round < 5_000, "only {erased} samples were erased");
        erased += match (erasure.range(), erasure.source().cloned()) {
            (None, _) => health.erase(erasure.user_id()).await.unwrap(),
            (Some(range), source) => health.erase_range(erasure.user_id(), range, source).await.unwrap(),
        };
    }
    done.store(true, SeqCst);
    writers.join_all().await;
    servers[1].ingest([sample(LAST_USER, 0, "", 1)]).await.unwrap();
    let stored = stored(&servers[0]).await;
    let counts = servers.iter().map(Health::counts);
    let (committed, samples) = counts.fold((0, 0), |(commits, samples), counts| {
        (commits + counts.erasures, samples + counts.erased_samples)
    });
    assert_eq!(samples, erased);
    for client in clients.join_all().await {
        let held: Vec<_> = client.samples.into_values().collect();
        assert_eq!(held, stored);
        assert!(client.erasures > 0);
    }
    // A late client gets the same from the log, which holds each erasure once.
    let mut session = session(&database).await;
    maintain(&mut session, DAY).await.unwrap();
    let late = servers[0].subscribe(Filter::all()).resume(start);
    let late = follow(servers[0].clone(), late, Filter::all(), false).await;
    assert_eq!(late.samples.into_values().collect::<Vec<_>>(), stored);
    assert_eq!(u64::try_from(late.erasures).unwrap(), committed);
    for server in servers {
        server.close().await.unwrap();
    }
}

/// Reads the log from the start to its end.
async fn whole_log(session: &mut Session) -> Vec<(i64, Option<Erasure>)> {
    let (mut from, mut all) = (LogPosition::START, Vec::new());
    loop {
        match page(session, from, 3, DAY).await.unwrap() {
            LogPage::Records { records, erasures, .. } => {
                let Some(last) = records.last() else { return all };
                from = last.position();
                let erasure = |number| erasures.get(&number).map(|erasure| (**erasure).clone());
                all.extend(records.iter().map(|record| (record.number, erasure(record.number))));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn erasures_are_packed_and_pruned_with_their_records() {
    let database = TestDatabase::new().await;
    let health = open(&database, Limits::patient()).await;
    let mut session = session(&database).await;
    let watch = Some(Source::new("watch").unwrap());
    let mut expected = Vec::new();
    for round in 0..6 {
        health
            .ingest((0..10).map(|second| sample(1, second, "watch", round + 1)))
            .await
            .unwrap();
        // What is not there is not erased, and the log does not say that it was.
        assert_eq!(health.erase_range(user(1), range(50, 60), None).await.unwrap(), 0);
        assert_eq!(
            health
                .erase_range(user(1), range(0, 10), Some(Source::default()))
                .await
                .unwrap(),
            0
        );
        assert_eq!(health.erase(user(2)).await.unwrap(), 0);
        assert_eq!(
            health.erase_range(user(1), range(0, 4), watch.clone()).await.unwrap(),
            4
        );
        assert_eq!(health.erase(user(1)).await.unwrap(), 6);
        expected.extend([
            Erasure::of_range(user(1), range(0, 4), watch.clone()),
            Erasure::of_user(user(1)),
        ]);
    }
    let log = whole_log(&mut session).await;
    let erasures: Vec<_> = log.iter().filter_map(|(_, erasure)| erasure.clone()).collect();
    assert_eq!((erasures, log.len()), (expected, 1 + 6 * 3));
    let age = format!(
        "UPDATE health_commits SET committed_at = {}",
        earlier("committed_at", "6 minutes")
    );
    session.client().batch_execute(&age).await.unwrap();
    while maintain(&mut session, DAY).await.unwrap() {}
    let count = "SELECT (SELECT count(*) FROM health_commits), (SELECT count(*) FROM health_erasures)";
    let counts = session.client().query_one(count, &[]).await.unwrap();
    assert_eq!((counts.get::<_, i64>(0), counts.get::<_, i64>(1)), (1, 12));
    assert_eq!(whole_log(&mut session).await, log, "packed");
    // An erasure that is missing makes a gap. It is not skipped.
    let delete = "DELETE FROM health_erasures WHERE number = (SELECT min(number) FROM health_erasures)";
    session.client().batch_execute(delete).await.unwrap();
    let answer = page(&mut session, LogPosition::START, 100, DAY).await.unwrap();
    assert!(matches!(answer, LogPage::Pruned), "{answer:?}");
    let old = format!(
        "UPDATE health_commit_packs SET last_committed = {}; UPDATE health_commits SET committed_at = {}",
        earlier("last_committed", "25 hours"),
        earlier("committed_at", "25 hours")
    );
    session.client().batch_execute(&old).await.unwrap();
    maintain(&mut session, DAY).await.unwrap();
    let left: i64 = session
        .client()
        .query_one("SELECT count(*) FROM health_erasures", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 1, "that of the newest record");
}

/// An earlier version reads the number of rows as an integer, and a pack of another version as unreadable. It must stop
/// at an erasure, because it cannot tell its subscribers of it.
#[tokio::test]
async fn a_server_that_knows_no_erasures_stops_at_one() {
    let database = TestDatabase::new().await;
    let health = open(&database, Limits::patient()).await;
    health.ingest([sample(1, 0, "", 1)]).await.unwrap();
    health.erase(user(1)).await.unwrap();
    let session = session(&database).await;
    let newest = "SELECT rows FROM health_commits ORDER BY number DESC LIMIT 1";
    let row = session.client().query_one(newest, &[]).await.unwrap();
    assert!(row.try_get::<_, i32>(0).is_err());
}

/// With an interval, a subscriber gets the newest sample of each user, and every erasure before what was stored after
/// it.
#[tokio::test]
async fn with_an_interval_no_erased_sample_is_sent_after_its_erasure_and_no_erasure_is_left_out() {
    let database = TestDatabase::new().await;
    let health = open(&database, Limits::patient()).await;
    let start = health.cursor();
    let filters = [Filter::all(), Filter::users([user(1), user(2), user(LAST_USER)])];
    let mut lives: Vec<_> = filters
        .iter()
        .map(|filter| health.subscribe(filter.clone()).every(Duration::from_millis(20)))
        .collect();
    for round in 0..30 {
        health
            .ingest([sample(1, round, "", round), sample(2, round, "watch", round)])
            .await
            .unwrap();
        if round % 3 == 0 {
            health
                .erase_range(user(1), range(round, round + 1), None)
                .await
                .unwrap();
        }
        if round % 10 == 9 {
            health.erase(user(2)).await.unwrap();
        }
    }
    health.ingest([sample(LAST_USER, 0, "", 1)]).await.unwrap();
    // The same from the table.
    let resumed = |filter: &Filter| {
        let live = health.subscribe(filter.clone()).every(Duration::from_millis(20));
        live.resume(start.clone())
    };
    lives.extend(filters.iter().map(resumed));
    let stored = stored(&health).await;
    for live in lives {
        let client = follow(health.clone(), live, Filter::all(), false).await;
        // An erasure of the whole user makes the one before it superfluous, if that was not sent yet.
        assert!((10 + 1..=10 + 3).contains(&client.erasures), "{}", client.erasures);
        for sample in client.samples.values() {
            assert!(stored.contains(sample), "{sample:?} was erased");
        }
        assert!(client.samples.values().any(|sample| sample.user_id() == user(1)));
    }
    health.close().await.unwrap();
}
