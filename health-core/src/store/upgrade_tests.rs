//! Each migration is tried on a database that lived through all releases before it, with data of each.

mod releases;

use chrono::{TimeDelta, Utc};
use test_support::TestDatabase;

use self::releases::{LOG_BEGAN, Model, RELEASES, SECRET, USERS, live_through};
use crate::{
    batch::Receipt,
    config::{Config, Limits},
    health::Health,
    live::{cursor, event::LiveEvent, filter::Filter},
    migration_plan::{LockMode, MigrationPlan, Trial},
    range::TimeRange,
    sample::{HeartRate, Readings, Sample, UserId},
    store::{
        connection::Session,
        dry_run::plan_migration,
        erase_tests::{LAST_USER, assert_summaries_have_samples, follow, sample},
        required_version::KNOWN_VERSION,
        schema_version::known_migrations,
        sealing_tests::{compare, summarise_all},
    },
};

/// Everything that the releases have written.
fn all_time() -> TimeRange {
    TimeRange::new(Sample::EARLIEST, Sample::EARLIEST + TimeDelta::days(10_000)).unwrap()
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

#[test]
fn every_migration_has_a_release_that_wrote_data() {
    let known: Vec<_> = known_migrations().iter().map(refinery::Migration::version).collect();
    let written: Vec<_> = RELEASES.iter().map(|(version, _)| *version).collect();
    assert_eq!(
        known.last(),
        Some(&KNOWN_VERSION),
        "raise KNOWN_VERSION with each migration"
    );
    assert_eq!(
        written, known,
        "describe in RELEASES what the new release leaves in a database"
    );
}

#[tokio::test]
async fn after_an_upgrade_from_any_release_statistics_export_feed_and_summaries_are_those_of_the_samples() {
    for (version, _) in RELEASES {
        let database = TestDatabase::empty().await;
        let config = Config::from_url(database.url()).unwrap();
        let model = live_through(&config, version).await;
        the_trial_names_what_is_missing(&config, version).await;

        let health = Health::open(config.clone().limits(Limits::patient())).await.unwrap();
        let mut session = Session::writer(&config).await.unwrap();
        assert_eq!(
            export(&health).await,
            model.samples.values().cloned().collect::<Vec<_>>(),
            "from {version}"
        );
        answers_are_right(&mut session).await;
        the_feed_resumes(&health, &model, version).await;
        summarise_all(&mut session).await;
        answers_are_right(&mut session).await;
        assert_summaries_have_samples(&session).await;
        summaries_are_those_of_a_new_database(&session, &model, version).await;
        if version >= 10 {
            let tokens = health.authenticator().await.unwrap();
            let access = tokens.authenticate(Some(SECRET)).unwrap();
            assert_eq!((access.name(), access.allows_user(user(3))), ("phone", false));
        }
        it_can_be_written(&health, &model).await;
        health.close().await.unwrap();
    }
}

/// The dry run lists the migrations and changes nothing.
async fn the_trial_names_what_is_missing(config: &Config, version: i32) {
    let plan = plan_migration(config).await.unwrap();
    let pending: Vec<_> = plan.pending.iter().map(|migration| migration.version).collect();
    let missing: Vec<_> = RELEASES
        .iter()
        .map(|(release, _)| *release)
        .filter(|release| *release > version)
        .collect();
    assert_eq!((plan.version, &pending), (version, &missing));
    assert_eq!(plan.trial, Trial::Complete, "{plan:?}");
    assert!(
        plan.pending.iter().all(|migration| migration.tried.is_some()),
        "{plan:?}"
    );
    if version == 8 {
        let locks = &locks_of(&plan, 9);
        for table in ["health_metrics", "health_commits", "health_feed"] {
            assert!(locks.contains(&(table, LockMode::AccessExclusive)), "{locks:?}");
        }
    }
    if version == 11 {
        assert_eq!(locks_of(&plan, 12), [("health_metrics", LockMode::AccessShare)]);
    }
    let again = plan_migration(config).await.unwrap();
    assert_eq!(
        (again.version, again.pending.len()),
        (version, missing.len()),
        "nothing was changed"
    );
}

fn locks_of(plan: &MigrationPlan, version: i32) -> Vec<(&str, LockMode)> {
    let migration = plan.pending.iter().find(|migration| migration.version == version);
    let tried = migration.and_then(|migration| migration.tried.as_ref()).unwrap();
    tried
        .locks
        .iter()
        .map(|lock| (lock.relation.as_str(), lock.mode))
        .collect()
}

async fn export(health: &Health) -> Vec<Sample> {
    let mut all = Vec::new();
    for id in 1..=USERS {
        let mut samples = health.samples(user(id), all_time());
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

/// Compares answers about whole days and about random ranges with plain aggregates.
async fn answers_are_right(session: &mut Session) {
    let first_day = Sample::EARLIEST + TimeDelta::days(9_000);
    let days: Vec<_> = (0..16)
        .map(|day| (first_day + TimeDelta::days(day)).timestamp_micros())
        .collect();
    for id in 1..=USERS {
        compare(session, user(id), &days, Utc::now().timestamp_micros()).await;
        let mut cuts: Vec<_> = (0..6)
            .map(|_| (first_day + TimeDelta::seconds(fastrand::i64(0..16 * 86_400))).timestamp_micros())
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        compare(session, user(id), &cuts, Utc::now().timestamp_micros()).await;
    }
}

/// A client that resumes after a cursor of this release receives everything after it, or learns that it may have missed
/// something. In both cases it receives what is stored from now on.
async fn the_feed_resumes(health: &Health, model: &Model, version: i32) {
    let mut from = health.cursor();
    if let Some(start) = model.start {
        let cursor = cursor::to_cursor(start);
        if version >= LOG_BEGAN {
            from = cursor;
        } else {
            let mut refused = health.subscribe(Filter::all()).resume(cursor);
            match refused.next().await {
                Some(LiveEvent::Subscribed { resumed: false, .. }) => {}
                other => panic!("from {version}: {other:?}"),
            }
        }
    }
    let live = health.subscribe(Filter::all()).resume(from);
    health.ingest([sample(LAST_USER, 0, "", 1)]).await.unwrap();
    let client = follow(health.clone(), live, Filter::all(), false).await;
    assert_eq!(client.samples, model.logged, "from {version}");
    // One for each release that erased.
    let erasing = (LOG_BEGAN..=version).count();
    assert_eq!(client.erasures, erasing, "from {version}");
    health.erase(user(LAST_USER)).await.unwrap();
}

/// All columns of summaries but those of minutes: a slice that was summarised before V7 has none until it changes.
const SUMMARIES: &str = "SELECT user_id, minutes, start::text, source, samples, summary, histogram FROM health_rollups \
    WHERE minutes > 1 ORDER BY user_id, minutes, start, source";

async fn summaries_are_those_of_a_new_database(session: &Session, model: &Model, version: i32) {
    let fresh = TestDatabase::new().await;
    let config = Config::from_url(fresh.url()).unwrap();
    let health = Health::open(config.clone().limits(Limits::patient())).await.unwrap();
    health.ingest(model.samples.values().cloned()).await.unwrap();
    health.close().await.unwrap();
    let mut other = Session::writer(&config).await.unwrap();
    summarise_all(&mut other).await;
    let [found, expected] = [session, &other].map(|session| session.client().query(SUMMARIES, &[]));
    let (found, expected) = (found.await.unwrap(), expected.await.unwrap());
    assert!(expected.len() > 100, "{}", expected.len());
    let row = |row: &tokio_postgres::Row| {
        let key: (i64, i16, String, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
        let value: (i64, Vec<u8>, Vec<u8>) = (row.get(4), row.get(5), row.get(6));
        (key, value)
    };
    let [found, expected] = [found, expected].map(|rows| rows.iter().map(row).collect::<Vec<_>>());
    assert_eq!(found, expected, "from {version}");
}

/// Sending everything again changes nothing, another value changes one row, and everything can be erased.
async fn it_can_be_written(health: &Health, model: &Model) {
    let receipt = health.ingest(model.samples.values().cloned()).await.unwrap();
    let unchanged = u64::try_from(model.samples.len()).unwrap();
    let expected = Receipt {
        unchanged,
        ..Receipt::default()
    };
    assert_eq!(receipt, expected);
    let first = model.samples.values().next().unwrap().clone();
    let changed = first.merged_with(Readings {
        heart_rate: HeartRate::new(200.0).ok(),
        ..Readings::default()
    });
    let receipt = health.ingest([changed]).await.unwrap();
    assert_eq!(receipt.updated, 1);
    for id in 1..=USERS {
        let of_user = model.samples.keys().filter(|(user, ..)| *user == id).count();
        assert_eq!(health.erase(user(id)).await.unwrap(), u64::try_from(of_user).unwrap());
    }
}
