//! What PostgreSQL says about a commit whose answer was lost.

use test_support::TestDatabase;

use super::{
    commit_outcome::{CommitOutcome, CommitRecord, commit_outcome},
    write::INSERT_COMMIT_RECORD,
};
use crate::{config::Config, store::connection::Session};

async fn session(database: &TestDatabase) -> Session {
    let config = Config::from_url(database.url()).unwrap();
    Session::writer(&config).await.unwrap()
}

/// Begins a transaction and inserts a commit record.
async fn begin_with_record(session: &Session) -> CommitRecord {
    let begin = "BEGIN; SELECT nextval('health_metrics_id_seq')";
    session.client().batch_execute(begin).await.unwrap();
    let row = session
        .client()
        .query_one(INSERT_COMMIT_RECORD, &[&1_i64, &1_i64])
        .await
        .unwrap();
    CommitRecord::from_row(&row)
}

#[tokio::test]
async fn a_transaction_is_in_progress_until_it_commits_or_rolls_back() {
    let database = TestDatabase::new().await;
    let (writer, observer) = (session(&database).await, session(&database).await);
    for (end, expected) in [
        ("COMMIT", CommitOutcome::Committed),
        ("ROLLBACK", CommitOutcome::RolledBack),
    ] {
        let record = begin_with_record(&writer).await;
        let outcome = commit_outcome(&observer, &record).await.unwrap();
        assert_eq!(outcome, CommitOutcome::InProgress);
        writer.client().batch_execute(end).await.unwrap();
        assert_eq!(commit_outcome(&observer, &record).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_transaction_lost_in_a_crash_is_not_mistaken_for_one_with_the_same_id() {
    let database = TestDatabase::new().await;
    let writer = session(&database).await;
    let successor = begin_with_record(&writer).await;
    writer.client().batch_execute("COMMIT").await.unwrap();
    let lost = CommitRecord {
        xid: successor.xid.clone(),
        committed_at: "2025-03-02 12:00:00+00".to_owned(),
    };
    let outcome = commit_outcome(&writer, &lost).await.unwrap();
    assert_eq!(outcome, CommitOutcome::RolledBack);
    // Also while PostgreSQL has not given out the number again.
    let lost = CommitRecord {
        xid: (successor.xid.parse::<u64>().unwrap() + 1000).to_string(),
        ..lost
    };
    let outcome = commit_outcome(&writer, &lost).await.unwrap();
    assert_eq!(outcome, CommitOutcome::RolledBack);
}
