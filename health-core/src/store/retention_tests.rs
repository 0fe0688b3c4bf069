//! The retention erases exactly what is too old, by one server at a time, and answers, summaries and the feed agree
//! afterwards.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use test_support::TestDatabase;
use tokio::{sync::watch, task::yield_now, time::timeout};

use crate::{
    config::{Config, Limits},
    counters::Counters,
    health::Health,
    live::{event::LiveEvent, filter::Filter, handover::Handover, ring::Ring},
    retention::{Erased, Retention, Run},
    sample::{Readings, Sample, Source, Steps, UserId},
    store::{
        commit_log::LogPosition,
        connection::Session,
        erase_tests::{
            LAST_USER, USERS, assert_summaries_have_samples, at, follow, open, sample, session, store_two_days, stored,
            user,
        },
        retention::try_lock,
        sealing_tests::{compare, summarise_all},
    },
};

const DAY: Duration = Duration::from_hours(24);

/// Longer than any wait takes, so that a test that waits in vain fails.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The task of a server whose handle is open as long as the sender.
fn retention(database: &TestDatabase) -> (Retention, watch::Sender<bool>, Arc<Counters>) {
    let ring = Ring::new(LogPosition::START, &Limits::default());
    let (handover, _) = Handover::new(Arc::new(ring));
    let (counters, (closing, is_closing)) = (Arc::new(Counters::default()), watch::channel(false));
    counters.note_retention_run(Utc::now());
    let config = Config::from_url(database.url()).unwrap();
    let retention = Retention::new(config, DAY, handover, Arc::clone(&counters), is_closing);
    (retention, closing, counters)
}

/// Erases everything before several times, the later ones including what was kept before.
#[tokio::test]
async fn what_is_kept_is_exact_and_answers_summaries_and_the_feed_agree_with_it() {
    for is_distributed in [false, true] {
        let database = TestDatabase::distributed_if(is_distributed).await;
        let mut session = store_two_days(&database).await;
        let health = open(&database, Limits::patient()).await;
        let start = health.cursor();
        let (mut retention, _open, counters) = retention(&database);
        let before = at(90_003);
        let edge = [before - TimeDelta::microseconds(1), before];
        let edges = edge.map(|time| with_time(3, time));
        health.ingest(edges.clone()).await.unwrap();
        let mut expected = stored(&health).await;
        for boundary in [at(-5), at(40_100), before, before] {
            let count = expected.len();
            expected.retain(|sample| sample.timestamp() >= boundary);
            let mut erased = Erased::default();
            let run = retention.erase_before(&mut session, boundary, &mut erased).await;
            assert_eq!(run.unwrap(), Run::Done);
            assert_eq!(erased.samples, u64::try_from(count - expected.len()).unwrap());
            assert_eq!(stored(&health).await, expected);
            assert_eq!(erased.users > 0, erased.samples > 0);
            let days: Vec<_> = (-1..4).map(|day| at(day * 86_400).timestamp_micros()).collect();
            for _ in 0..2 {
                for id in 1..=USERS {
                    compare(&mut session, user(id), &days, Utc::now().timestamp_micros()).await;
                }
                assert_summaries_have_samples(&session).await;
                // The roller makes nothing of what was erased, and leaves no dirty slice of it.
                summarise_all(&mut session).await;
            }
        }
        assert!(expected.contains(&edges[1]) && !expected.contains(&edges[0]));
        let counts = counters.counts(0, 0);
        assert_eq!(counts.retention.unwrap().erased_samples, counts.erased_samples);
        let dirty = "SELECT count(*) FROM health_dirty";
        let dirty: i64 = session.client().query_one(dirty, &[]).await.unwrap().get(0);
        assert_eq!(dirty, 0);

        health.ingest([sample(LAST_USER, 0, "", 1)]).await.unwrap();
        let live = health.subscribe(Filter::all()).resume(start);
        let client = follow(health.clone(), live, Filter::all(), true).await;
        assert!(
            client.erasures >= 2 * usize::try_from(USERS).unwrap(),
            "{}",
            client.erasures
        );
        assert_eq!(client.samples.into_values().collect::<Vec<_>>(), [edges[1].clone()]);
        health.close().await.unwrap();
    }
}

fn with_time(id: i64, time: DateTime<Utc>) -> Sample {
    let readings = Readings {
        steps: Steps::new(7).ok(),
        ..Readings::default()
    };
    Sample::new(user(id), time, Source::new("edge").unwrap(), readings).unwrap()
}

#[tokio::test]
async fn while_another_server_has_its_turn_nothing_is_erased() {
    let database = TestDatabase::new().await;
    let config = Config::from_url(database.url()).unwrap();
    let mut other = Session::roller(&config).await.unwrap();
    assert!(try_lock(&mut other).await.unwrap());
    assert!(!try_lock(&mut session(&database).await).await.unwrap());
    let (mut retention, _open, _) = retention(&database);
    assert_eq!(retention.erase_old().await.unwrap(), Run::NotNow);
    drop(other);
    // PostgreSQL frees the lock when it has noticed the end of the session.
    while retention.erase_old().await.unwrap() != Run::Done {}
}

/// Two servers that start with a retention erase what two servers without one have stored. A sample that arrives when
/// it is already too old is stored, and the next run erases it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_at_once_erase_each_old_sample_once_and_tell_it_on_the_feed() {
    let database = TestDatabase::new().await;
    let plain = open(&database, Limits::patient()).await;
    let now = Utc::now();
    let of = |id: i64, hours: i64| with_time(id, now - TimeDelta::hours(hours));
    let ids = 1..=200_i64;
    plain
        .ingest(ids.clone().flat_map(|id| [of(id, 25), of(id, 49), of(id, 23)]))
        .await
        .unwrap();
    let mut live = plain.subscribe(Filter::all());
    let limits = Limits {
        retain: Some(DAY),
        ..Limits::patient()
    };
    let servers = [open(&database, limits.clone()).await, open(&database, limits).await];
    let mut users: Vec<UserId> = Vec::new();
    while users.len() < 200 {
        let event = timeout(TIMEOUT, live.next()).await.expect("an event in time");
        if let Some(LiveEvent::Erased { erasure, .. }) = event {
            assert!(
                erasure.covers(&of(erasure.user_id().get(), 25)) && !erasure.covers(&of(erasure.user_id().get(), 23))
            );
            users.push(erasure.user_id());
        }
    }
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), 200, "one event for each user");
    // A server counts an erasure after its commit, which the feed of another server may have told already.
    let erased = || servers.iter().map(erased_by_retention).sum::<u64>();
    let counted = async {
        while erased() < 400 {
            yield_now().await;
        }
    };
    timeout(TIMEOUT, counted).await.expect("all erasures are counted");
    assert_eq!(erased(), 400);
    for id in ids {
        let kept = plain.users_among(&[user(id)], 1, None).await.unwrap();
        assert_eq!(kept.users[0].samples, 1, "user {id}");
    }
    // No later run of these servers comes in between.
    for server in servers {
        server.close().await.unwrap();
    }
    plain.ingest([of(1, 30)]).await.unwrap();
    assert_eq!(
        plain.users_among(&[user(1)], 1, None).await.unwrap().users[0].samples,
        2
    );
    plain.close().await.unwrap();
    let (mut retention, _open, _) = retention(&database);
    while retention.erase_old().await.unwrap() != Run::Done {}
    let left = "SELECT count(*) FROM health_metrics WHERE timestamp < now() - interval '24 hours'";
    let session = session(&database).await;
    assert_eq!(session.client().query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

fn erased_by_retention(health: &Health) -> u64 {
    health
        .counts()
        .retention
        .map_or(0, |retention| retention.erased_samples)
}

#[test]
fn a_retention_of_less_than_a_day_or_than_the_replay_window_is_refused() {
    let check = |retain, replay_window| {
        let limits = Limits {
            retain: Some(retain),
            replay_window,
            ..Limits::default()
        };
        limits.check().map_err(|error| error.to_string())
    };
    assert_eq!(check(DAY, DAY), Ok(()));
    let message = check(DAY / 2, DAY / 4).unwrap_err();
    assert!(
        message.contains("retain is 43200s; it must be from 86400s"),
        "{message}"
    );
    let message = check(DAY, DAY * 2).unwrap_err();
    assert!(message.contains("replay window"), "{message}");
}
