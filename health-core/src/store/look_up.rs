//! What is stored of the samples of a batch, before it is written.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::{
    batch::Batch,
    sample::Readings,
    store::{
        columns::Columns,
        connection::Session,
        ctid::Ctid,
        known::{Known, Novelty, Trust},
    },
};

/// The newest sample of each user: one probe of the key a user.
const NEWEST: &str = "SELECT users.user_id, newest.timestamp FROM unnest($1::bigint[]) AS users (user_id) \
     CROSS JOIN LATERAL (SELECT timestamp FROM health_metrics m WHERE m.user_id = users.user_id \
     ORDER BY timestamp DESC LIMIT 1) AS newest";

/// What is stored of these identities, and where: what differs is found again by that.
const LOOK_UP: &str = "SELECT keys.place, m.heart_rate, m.steps, m.calories, m.ctid \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) WITH ORDINALITY AS keys (user_id, timestamp, source, place) \
     JOIN health_metrics m ON m.user_id = keys.user_id AND m.timestamp = keys.timestamp AND m.source = keys.source";

/// Fetches what is known of users that no batch has met before.
pub(crate) async fn learn(
    session: &mut Session,
    known: &mut Known,
    batch: &Batch,
) -> Result<(), tokio_postgres::Error> {
    let unknown = |known: &Known| {
        let samples = batch
            .by_identity()
            .filter(|writes| known.novelty(writes.first().identity()) == Novelty::Unknown);
        samples
            .map(|writes| (writes.first().user_id(), writes.first().source().clone()))
            .collect::<BTreeSet<_>>()
    };
    let pairs = unknown(known);
    if pairs.is_empty() {
        return Ok(());
    }
    let mut users: Vec<i64> = pairs.iter().map(|(user_id, _)| user_id.get()).collect();
    users.dedup();
    let statement = session.prepare(NEWEST).await?;
    let newest: HashMap<i64, DateTime<Utc>> = session
        .client()
        .query(&statement, &[&users])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    for (user_id, source) in pairs {
        // The newest of any source is a bound for each of them.
        let last = newest.get(&user_id.get()).copied().unwrap_or(DateTime::<Utc>::MIN_UTC);
        known.learn(user_id, &source, last);
    }
    Ok(())
}

/// A row as it was looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) readings: Readings,
    pub(crate) ctid: Ctid,
}

/// What is stored of each identity of the batch, in its order.
pub(crate) async fn look_up(
    session: &mut Session,
    known: &Known,
    batch: &Batch,
    trust: Trust,
) -> Result<Vec<Option<Stored>>, tokio_postgres::Error> {
    let mut stored = Vec::new();
    let mut places = Vec::new();
    let mut keys = Columns::default();
    for writes in batch.by_identity() {
        let identity = writes.first().identity();
        if trust == Trust::Nothing || known.novelty(identity) != Novelty::New {
            places.push(stored.len());
            keys.push_identity(writes.first());
        }
        stored.push(None);
    }
    if places.is_empty() {
        return Ok(stored);
    }
    let statement = session.prepare(LOOK_UP).await?;
    let rows = session
        .client()
        .query(&statement, &[&keys.user_id, &keys.timestamp, &keys.source])
        .await?;
    for row in rows {
        let place = usize::try_from(row.get::<_, i64>(0) - 1)
            .ok()
            .and_then(|place| places.get(place));
        if let Some(place) = place {
            stored[*place] = Some(Stored {
                readings: Readings::from_row(row.get(1), row.get(2), row.get(3)),
                ctid: row.get(4),
            });
        }
    }
    Ok(stored)
}
