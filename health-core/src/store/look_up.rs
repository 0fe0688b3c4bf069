//! Looks up the stored rows with the identities of a batch, before the batch is written.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use tokio_postgres::{Row, Statement, types::ToSql};

use crate::{
    batch::Batch,
    sample::Readings,
    store::{
        client::SessionClient,
        columns::{IdentityColumns, at, distinct},
        connection::Session,
        ctid::Ctid,
        newest_timestamps::{LookUp, NewestTimestamps, Novelty},
        shards::by_shard,
        tables::Tables,
    },
};

/// Finds each user's newest timestamp. The lateral subquery with `LIMIT 1` reads one entry of the primary key a user; a
/// `GROUP BY` would read all entries of every user.
const NEWEST_LOCAL: &str = "SELECT users.user_id, newest.timestamp FROM unnest($1::bigint[]) AS users (user_id) \
     CROSS JOIN LATERAL (SELECT timestamp FROM health_metrics m WHERE m.user_id = users.user_id \
     ORDER BY timestamp DESC LIMIT 1) AS newest";

/// The same for the users of one shard. The statement names these users, so that Citus asks only this shard. For users
/// of several shards, Citus would refuse the limit.
pub(super) const NEWEST_OF_SHARD: &str = "SELECT users.user_id, newest.timestamp FROM unnest($1::bigint[]) AS users (user_id) \
     CROSS JOIN LATERAL (SELECT timestamp FROM health_metrics m WHERE m.user_id = ANY($1::bigint[]) \
     AND m.user_id = users.user_id ORDER BY timestamp DESC LIMIT 1) AS newest";

/// Finds the rows of many identities in one round trip. The ordinality tells which identity a row belongs to, since the
/// join returns only rows that exist. The `ctid` lets an update go to the row without a second search of the key.
const LOOK_UP_LOCAL: &str = "SELECT keys.position, m.heart_rate, m.steps, m.calories, m.ctid \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) WITH ORDINALITY \
     AS keys (user_id, timestamp, source, position) \
     JOIN health_metrics m ON m.user_id = keys.user_id AND m.timestamp = keys.timestamp AND m.source = keys.source";

/// The same for the users of one shard, without `ctid`. The statement names these users, so that Citus asks only this
/// shard.
const LOOK_UP_OF_SHARD: &str = "SELECT keys.position, m.heart_rate, m.steps, m.calories \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) WITH ORDINALITY \
     AS keys (user_id, timestamp, source, position) \
     JOIN health_metrics m ON m.user_id = keys.user_id AND m.timestamp = keys.timestamp AND m.source = keys.source \
     WHERE m.user_id = ANY($4::bigint[])";

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
    if session.tables() == Tables::Local {
        let statement = session.prepare(NEWEST_LOCAL).await?;
        let rows = session.client().query(&statement, &[&users]).await?;
        return Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect());
    }
    let groups = by_shard(session, users).await?;
    let statement = session.prepare(NEWEST_OF_SHARD).await?;
    let client = session.client();
    let of_shards: Vec<_> = groups.iter().map(|group| at(users, group)).collect();
    let mut asking = Vec::new();
    for users in &of_shards {
        asking.push(newest_of_shard(client, &statement, users));
    }
    let found = try_join_all(asking).await?;
    Ok(found.iter().flatten().map(|row| (row.get(0), row.get(1))).collect())
}

/// Returns the stored row of each identity of the batch, in the order of [`Batch::by_identity`].
///
/// With [`LookUp::UnlessNew`], identities that are new according to the cache count as absent and are not looked up.
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
    let place = |row: &Row, column: usize| {
        // The ordinality counts from 1.
        usize::try_from(row.get::<_, i64>(column) - 1).ok()
    };
    let readings = |row: &Row| Readings::from_row(row.get(1), row.get(2), row.get(3));
    if session.tables() == Tables::Local {
        let statement = session.prepare(LOOK_UP_LOCAL).await?;
        let params: [&(dyn ToSql + Sync); 3] = [&keys.user_id, &keys.timestamp, &keys.source];
        for row in session.client().query(&statement, &params).await? {
            if let Some(position) = place(&row, 0).and_then(|key| positions.get(key)) {
                stored[*position] = Some(StoredReadings {
                    readings: readings(&row),
                    ctid: Some(row.get(4)),
                });
            }
        }
        return Ok(stored);
    }
    for (group, rows) in look_up_by_shard(session, &keys).await? {
        for row in rows {
            let key = place(&row, 0).and_then(|key| group.get(key));
            if let Some(position) = key.and_then(|key| positions.get(*key)) {
                stored[*position] = Some(StoredReadings {
                    readings: readings(&row),
                    ctid: None,
                });
            }
        }
    }
    Ok(stored)
}

/// Looks identities up in distributed tables. Returns the indices of the identities of each shard, and the rows found
/// there, whose ordinality refers to these indices.
async fn look_up_by_shard(
    session: &mut Session,
    keys: &IdentityColumns<'_>,
) -> Result<Vec<(Vec<usize>, Vec<Row>)>, tokio_postgres::Error> {
    let groups = by_shard(session, &keys.user_id).await?;
    let statement = session.prepare(LOOK_UP_OF_SHARD).await?;
    let client = session.client();
    let of_shards: Vec<_> = groups.iter().map(|group| keys.at(group)).collect();
    let mut asking = Vec::new();
    for keys in &of_shards {
        asking.push(look_up_of_shard(client, &statement, keys));
    }
    let found = try_join_all(asking).await?;
    Ok(groups.into_iter().zip(found).collect())
}

async fn newest_of_shard(
    client: &SessionClient,
    statement: &Statement,
    users: &[i64],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    client.query(statement, &[&users]).await
}

async fn look_up_of_shard(
    client: &SessionClient,
    statement: &Statement,
    keys: &IdentityColumns<'_>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let named = distinct(&keys.user_id);
    let params: [&(dyn ToSql + Sync); 4] = [&keys.user_id, &keys.timestamp, &keys.source, &named];
    client.query(statement, &params).await
}
