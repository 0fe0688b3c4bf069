//! Looks up what the table contains of the samples of a batch, before the batch is written.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, future::ready, stream};
use tokio_postgres::types::ToSql;

use crate::{
    batch::Batch,
    sample::Readings,
    store::{
        columns::{IdentityColumns, distinct},
        connection::Session,
        ctid::Ctid,
        newest_timestamps::{LookUp, NewestTimestamps, Novelty},
        tables::Tables,
    },
};

/// Finds each user's newest timestamp. The lateral subquery with `LIMIT 1` reads one entry of the primary key a user; a
/// `GROUP BY` would read all entries of every user.
const NEWEST_LOCAL: &str = "SELECT users.user_id, newest.timestamp FROM unnest($1::bigint[]) AS users (user_id) \
     CROSS JOIN LATERAL (SELECT timestamp FROM health_metrics m WHERE m.user_id = users.user_id \
     ORDER BY timestamp DESC LIMIT 1) AS newest";

/// Finds one user's newest timestamp; NULL if there is none. Citus runs no statement for many users that reads only one
/// entry of each, so there is one statement a user.
const NEWEST: &str = "SELECT max(timestamp) FROM health_metrics WHERE user_id = $1";

/// Finds the rows of many identities in one round trip. The ordinality tells which identity a row belongs to, since the
/// join returns only rows that exist. The `ctid` lets an update go to the row without a second search of the key.
const LOOK_UP_LOCAL: &str = "SELECT keys.position, m.heart_rate, m.steps, m.calories, m.ctid \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) WITH ORDINALITY \
     AS keys (user_id, timestamp, source, position) \
     JOIN health_metrics m ON m.user_id = keys.user_id AND m.timestamp = keys.timestamp AND m.source = keys.source";

/// The same without `ctid`, and with the users named, so that Citus asks only their shards.
const LOOK_UP: &str = "SELECT keys.position, m.heart_rate, m.steps, m.calories \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) WITH ORDINALITY \
     AS keys (user_id, timestamp, source, position) \
     JOIN health_metrics m ON m.user_id = keys.user_id AND m.timestamp = keys.timestamp AND m.source = keys.source \
     WHERE m.user_id = ANY($4::bigint[])";

/// Statements of one user each that are sent before the answer to the first arrives.
const PIPELINED_USERS: usize = 100;

/// A row as it was when it was looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredReadings {
    pub(crate) readings: Readings,
    /// Known only if the tables are local.
    pub(crate) ctid: Option<Ctid>,
}

/// Adds the (user, source) pairs of a batch to the cache that it does not contain.
pub(crate) async fn fill_cache(
    session: &mut Session,
    cache: &mut NewestTimestamps,
    batch: &Batch,
) -> Result<(), tokio_postgres::Error> {
    let missing: BTreeSet<_> = batch
        .by_identity()
        .map(|writes| writes.first())
        .filter(|sample| cache.novelty(sample.identity()) == Novelty::NotCached)
        .map(|sample| (sample.user_id(), sample.source().clone()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut users: Vec<i64> = missing.iter().map(|(user_id, _)| user_id.get()).collect();
    users.dedup();
    let newest = newest_timestamps(session, &users).await?;
    for (user_id, source) in missing {
        // The newest sample of any source of the user is a bound for each source. The key has no order by source alone.
        let bound = newest.get(&user_id.get()).copied().unwrap_or(DateTime::<Utc>::MIN_UTC);
        cache.insert(user_id, &source, bound);
    }
    Ok(())
}

/// Returns the newest timestamp of each of these users who has samples.
async fn newest_timestamps(
    session: &mut Session,
    users: &[i64],
) -> Result<HashMap<i64, DateTime<Utc>>, tokio_postgres::Error> {
    let tables = session.tables();
    let statement = session.prepare(tables.shape(NEWEST_LOCAL, NEWEST)).await?;
    let client = session.client();
    if tables == Tables::Local {
        let rows = client.query(&statement, &[&users]).await?;
        return Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect());
    }
    let newest = stream::iter(users.to_vec()).map(|user| {
        let statement = &statement;
        async move {
            let row = client.query_one(statement, &[&user]).await?;
            Ok(row.get::<_, Option<_>>(0).map(|newest| (user, newest)))
        }
    });
    let newest = newest
        .buffered(PIPELINED_USERS)
        .try_filter_map(|found| ready(Ok(found)));
    newest.try_collect().await
}

/// Returns the stored row of each identity of the batch, in the order of [`Batch::by_identity`].
///
/// With [`LookUp::UnlessNew`] identities that are new by the cache count as absent and are not looked up.
pub(crate) async fn look_up(
    session: &mut Session,
    cache: &NewestTimestamps,
    batch: &Batch,
    mode: LookUp,
) -> Result<Vec<Option<StoredReadings>>, tokio_postgres::Error> {
    let mut stored = Vec::with_capacity(batch.len());
    // Positions in `stored` of the identities that are looked up.
    let mut positions = Vec::new();
    let mut keys = IdentityColumns::default();
    for writes in batch.by_identity() {
        let sample = writes.first();
        if mode == LookUp::All || cache.novelty(sample.identity()) != Novelty::New {
            positions.push(stored.len());
            keys.push(sample);
        }
        stored.push(None);
    }
    if positions.is_empty() {
        return Ok(stored);
    }
    let tables = session.tables();
    let statement = session.prepare(tables.shape(LOOK_UP_LOCAL, LOOK_UP)).await?;
    let users = match tables {
        Tables::Local => Vec::new(),
        Tables::Distributed => distinct(&keys.user_id),
    };
    let params: [&(dyn ToSql + Sync); 4] = [&keys.user_id, &keys.timestamp, &keys.source, &users];
    let params = match tables {
        Tables::Local => &params[..3],
        Tables::Distributed => &params[..],
    };
    let rows = session.client().query(&statement, params).await?;
    for row in rows {
        // The ordinality counts from 1.
        let position = usize::try_from(row.get::<_, i64>(0) - 1)
            .ok()
            .and_then(|key| positions.get(key));
        if let Some(position) = position {
            stored[*position] = Some(StoredReadings {
                readings: Readings::from_row(row.get(1), row.get(2), row.get(3)),
                ctid: (tables == Tables::Local).then(|| row.get(4)),
            });
        }
    }
    Ok(stored)
}
