//! What became of a commit whose answer was lost.

use test_support::TestDatabase;

use super::{
    outcome::{Record, outcome},
    write::RECORD,
};
use crate::{config::Config, store::connection::Session};

async fn session(database: &TestDatabase) -> Session {
    let config = Config::from_url(database.url()).unwrap();
    Session::writer(&config).await.unwrap()
}

/// Leaves a record in a transaction that is under way.
async fn record(session: &Session) -> Record {
    let begin = "BEGIN; SELECT nextval('health_metrics_id_seq')";
    session.client().batch_execute(begin).await.unwrap();
    let row = session.client().query_one(RECORD, &[&1_i64, &1_i64]).await.unwrap();
    Record {
        xid: row.get(0),
        committed_at: row.get(1),
    }
}

#[tokio::test]
async fn a_transaction_is_under_way_then_committed_or_not() {
    let database = TestDatabase::new().await;
    let (writer, asking) = (session(&database).await, session(&database).await);
    for (end, expected) in [("COMMIT", true), ("ROLLBACK", false)] {
        let left = record(&writer).await;
        assert_eq!(outcome(&asking, &left).await.unwrap(), None);
        writer.client().batch_execute(end).await.unwrap();
        assert_eq!(outcome(&asking, &left).await.unwrap(), Some(expected));
    }
}

#[tokio::test]
async fn a_transaction_that_a_crash_took_is_not_mistaken_for_its_successor() {
    let database = TestDatabase::new().await;
    let writer = session(&database).await;
    let successor = record(&writer).await;
    writer.client().batch_execute("COMMIT").await.unwrap();
    let lost = Record {
        xid: successor.xid.clone(),
        committed_at: "2025-03-02 12:00:00+00".to_owned(),
    };
    assert_eq!(outcome(&writer, &lost).await.unwrap(), Some(false));
    // And before its number is given out again.
    let lost = Record {
        xid: (successor.xid.parse::<u64>().unwrap() + 1000).to_string(),
        ..lost
    };
    assert_eq!(outcome(&writer, &lost).await.unwrap(), Some(false));
}
