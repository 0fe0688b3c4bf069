//! Lists the users who have samples, and how many.

use futures_util::{StreamExt, TryStreamExt, future::ready, stream};
use tokio_postgres::Row;

use crate::{
    error::Error,
    sample::UserId,
    store::{
        connection::Session,
        error::StoreError,
        micros::Micros,
        readers::{Readers, checkout},
        rows,
        tables::Tables,
    },
    wire::{UserEntry, UsersResponse},
};

/// Finds the next users in the order of their ids. There is no table of users, so the recursion goes from user to
/// user by one search of the primary key each (a loose index scan); `SELECT DISTINCT` would read every sample.
const IDS_LOCAL: &str = "WITH RECURSIVE walk (user_id) AS ( \
     (SELECT user_id FROM health_metrics WHERE user_id > $1 ORDER BY user_id LIMIT 1) \
     UNION ALL SELECT (SELECT m.user_id FROM health_metrics m WHERE m.user_id > walk.user_id \
     ORDER BY m.user_id LIMIT 1) \
     FROM walk WHERE walk.user_id IS NOT NULL) \
     SELECT user_id FROM walk WHERE user_id IS NOT NULL LIMIT $2";

/// The same walk through the shard `%1$s`, with places for the id to begin after and for the most ids.
const WALK_OF_SHARD: &str = "(WITH RECURSIVE walk (user_id) AS ( \
     (SELECT m.user_id FROM %1$s AS m WHERE m.user_id > {after} ORDER BY m.user_id LIMIT 1) \
     UNION ALL SELECT (SELECT m.user_id FROM %1$s AS m WHERE m.user_id > walk.user_id ORDER BY m.user_id LIMIT 1) \
     FROM walk WHERE walk.user_id IS NOT NULL) \
     SELECT user_id FROM walk WHERE user_id IS NOT NULL LIMIT {most})";

/// Walks through all shards, with one command for each node. Citus runs no recursion over shards, and
/// `SELECT DISTINCT user_id … LIMIT` would read every sample of as many users in each shard.
const WALK_SHARDS: &str = "WITH nodes AS (SELECT nodename, nodeport::integer AS nodeport, \
     string_agg(format($1, shard_name(shard.logicalrelid, shardid)), ' UNION ALL ') AS walks \
     FROM pg_dist_shard AS shard JOIN pg_dist_placement AS placement USING (shardid) \
     JOIN pg_dist_node AS node ON node.groupid = placement.groupid AND node.noderole = 'primary' \
     WHERE shard.logicalrelid = to_regclass('health_metrics') GROUP BY nodename, nodeport), \
     commands AS (SELECT array_agg(nodename::text) AS names, array_agg(nodeport) AS ports, \
     array_agg(format('SELECT string_agg(user_id::text, '','') FROM (%s) AS users', walks)) AS texts FROM nodes) \
     SELECT answer.success, answer.result FROM commands \
     CROSS JOIN LATERAL master_run_on_worker(names, ports, texts, true) AS answer";

/// Finds the next user, by one search of the primary key in each shard.
const NEXT_ID: &str = "SELECT user_id FROM health_metrics WHERE user_id > $1 ORDER BY user_id LIMIT 1";

/// Describes some users: first and last sample, and the exact number of samples.
///
/// First and last take one search of the primary key each. The number is a sum: whole days from summaries, then
/// slices up to `sealed_before`, then samples after it. The summary of a dirty slice may be out of date, so the
/// difference between its samples and its summary is added. One statement has one snapshot, so the parts agree with
/// each other.
const DETAILS_LOCAL: &str = "SELECT ids.user_id, earliest.timestamp, latest.timestamp, latest.source, latest.heart_rate, \
     latest.steps, latest.calories, (counted.days + counted.slices + counted.raw + counted.dirty)::bigint \
     FROM unnest($1::bigint[]) AS ids (user_id) \
     CROSS JOIN LATERAL (SELECT timestamp FROM health_metrics m WHERE m.user_id = ids.user_id \
     ORDER BY timestamp LIMIT 1) AS earliest \
     CROSS JOIN LATERAL (SELECT timestamp, source, heart_rate, steps, calories FROM health_metrics m \
     WHERE m.user_id = ids.user_id ORDER BY timestamp DESC, source DESC LIMIT 1) AS latest \
     CROSS JOIN (SELECT sealed_before AS before, date_bin('1 day', sealed_before, '2000-01-01T00:00:00Z') AS day \
     FROM health_sealing) AS sealed \
     CROSS JOIN LATERAL (SELECT \
     (SELECT coalesce(sum(samples), 0) FROM health_rollups r WHERE r.user_id = ids.user_id AND minutes = 1440 \
     AND start < sealed.day) AS days, \
     (SELECT coalesce(sum(samples), 0) FROM health_rollups r WHERE r.user_id = ids.user_id AND minutes = 15 \
     AND start >= sealed.day AND start < sealed.before) AS slices, \
     (SELECT count(*) FROM health_metrics m WHERE m.user_id = ids.user_id AND timestamp >= sealed.before) AS raw, \
     (SELECT coalesce(sum((SELECT count(*) FROM health_metrics m WHERE m.user_id = ids.user_id \
     AND timestamp >= d.slice AND timestamp < d.slice + interval '15 minutes') \
     - (SELECT coalesce(sum(samples), 0) FROM health_rollups r WHERE r.user_id = ids.user_id AND minutes = 15 \
     AND start = d.slice)), 0) \
     FROM (SELECT DISTINCT slice FROM health_dirty WHERE user_id = ids.user_id \
     AND slice < sealed.before) AS d) AS dirty) AS counted";

/// Reads the end of the sealed time, and the end of its last whole day.
const SEALED: &str =
    "SELECT sealed_before, date_bin('1 day', sealed_before, '2000-01-01T00:00:00Z') FROM health_sealing";

/// Describes one user in the same way, with the answer of [`SEALED`] as parameters: Citus joins no local table with a
/// distributed one, and no function with several users.
///
/// [`SEALED`] is read first. `sealed_before` only grows, so what was sealed then is sealed or dirty in the later
/// snapshot of this statement.
const DETAILS: &str = "SELECT $1::bigint, earliest.timestamp, latest.timestamp, latest.source, latest.heart_rate, \
     latest.steps, latest.calories, (counted.days + counted.slices + counted.raw + counted.dirty)::bigint \
     FROM (SELECT timestamp FROM health_metrics WHERE user_id = $1 ORDER BY timestamp LIMIT 1) AS earliest \
     CROSS JOIN (SELECT timestamp, source, heart_rate, steps, calories FROM health_metrics \
     WHERE user_id = $1 ORDER BY timestamp DESC, source DESC LIMIT 1) AS latest \
     CROSS JOIN (SELECT \
     (SELECT coalesce(sum(samples), 0) FROM health_rollups WHERE user_id = $1 AND minutes = 1440 \
     AND start < $3::timestamptz) AS days, \
     (SELECT coalesce(sum(samples), 0) FROM health_rollups WHERE user_id = $1 AND minutes = 15 \
     AND start >= $3 AND start < $2::timestamptz) AS slices, \
     (SELECT count(*) FROM health_metrics WHERE user_id = $1 AND timestamp >= $2) AS raw, \
     (SELECT coalesce(sum((SELECT count(*) FROM health_metrics m WHERE m.user_id = $1 \
     AND timestamp >= d.slice AND timestamp < d.slice + interval '15 minutes') \
     - (SELECT coalesce(sum(samples), 0) FROM health_rollups r WHERE r.user_id = $1 AND minutes = 15 \
     AND start = d.slice)), 0) \
     FROM (SELECT DISTINCT slice FROM health_dirty WHERE user_id = $1 AND slice < $2) AS d) AS dirty) AS counted";

/// Statements of one user each that are sent before the answer to the first arrives.
const PIPELINED_USERS: usize = 100;

/// Returns users with an id greater than `after`, by id, at most `limit`.
pub(crate) async fn users(readers: &Readers, limit: usize, after: Option<UserId>) -> Result<UsersResponse, Error> {
    let mut session = checkout(readers).await?;
    // One more than the limit, to know whether there is a next page.
    let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let ids = ids_after(&mut session, after.map_or(0, UserId::get), most).await?;
    Ok(page(details(&mut session, &ids).await?, limit))
}

/// Returns the same for these users only. Those without samples are left out.
pub(crate) async fn users_among(
    readers: &Readers,
    among: &[UserId],
    limit: usize,
    after: Option<UserId>,
) -> Result<UsersResponse, Error> {
    let mut session = checkout(readers).await?;
    let ids = among.iter().filter(|id| after.is_none_or(|after| **id > after));
    let mut ids: Vec<_> = ids.map(|id| id.get()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut users = Vec::new();
    // Some of the users may have no samples, so a page may need several steps.
    for step in ids.chunks(limit.saturating_add(1)) {
        users.extend(details(&mut session, step).await?);
        if users.len() > limit {
            break;
        }
    }
    Ok(page(users, limit))
}

/// Returns the ids of users with samples that are greater than `after`, ascending, at most `most`.
pub(crate) async fn ids_after(session: &mut Session, after: i64, most: i64) -> Result<Vec<i64>, StoreError> {
    if session.tables() == Tables::Local {
        let statement = session.prepare(IDS_LOCAL).await?;
        let rows = session.client().query(&statement, &[&after, &most]).await?;
        return Ok(rows.iter().map(|row| row.get(0)).collect());
    }
    match ids_of_nodes(session, after, most).await? {
        Some(ids) => Ok(ids),
        None => ids_one_by_one(session, after, most).await,
    }
}

/// Asks each node for the next ids of its shards. Returns `None` if a node has not answered.
///
/// The coordinator opens a new connection to each node, which takes some 30 ms. The walk takes about as long for a
/// thousand users.
async fn ids_of_nodes(session: &mut Session, after: i64, most: i64) -> Result<Option<Vec<i64>>, StoreError> {
    let statement = session.prepare(WALK_SHARDS).await?;
    let walk = WALK_OF_SHARD.replace("{after}", &after.to_string());
    let walk = walk.replace("{most}", &most.to_string());
    let answers = session.client().query(&statement, &[&walk]).await?;
    let mut ids = Vec::new();
    for answer in answers {
        let (has_answered, text): (bool, Option<&str>) = (answer.get(0), answer.get(1));
        let found = text.unwrap_or_default().split(',').filter(|id| !id.is_empty());
        match found.map(str::parse).collect::<Result<Vec<i64>, _>>() {
            Ok(found) if has_answered => ids.extend(found),
            _ => return Ok(None),
        }
    }
    ids.sort_unstable();
    // A shard may be on several nodes.
    ids.dedup();
    ids.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(Some(ids))
}

/// Finds each user by a statement of its own over all shards. If a node is away, that statement fails with the error of
/// Citus, which [`classify`](crate::store::refusal::classify) understands.
async fn ids_one_by_one(session: &mut Session, after: i64, most: i64) -> Result<Vec<i64>, StoreError> {
    let statement = session.prepare(NEXT_ID).await?;
    let mut ids = Vec::new();
    for _ in 0..most {
        let last = ids.last().copied().unwrap_or(after);
        let Some(next) = session.client().query_opt(&statement, &[&last]).await? else {
            break;
        };
        ids.push(next.get(0));
    }
    Ok(ids)
}

/// Describes those of the users who have samples, by id.
pub(crate) async fn details(session: &mut Session, ids: &[i64]) -> Result<Vec<UserEntry>, StoreError> {
    let rows = match session.tables() {
        Tables::Local => {
            let statement = session.prepare(DETAILS_LOCAL).await?;
            session.client().query(&statement, &[&ids]).await?
        }
        Tables::Distributed => details_one_by_one(session, ids).await?,
    };
    let mut users = rows.iter().map(user).collect::<Result<Vec<_>, _>>()?;
    users.sort_unstable_by_key(|user| user.user_id);
    Ok(users)
}

async fn details_one_by_one(session: &mut Session, ids: &[i64]) -> Result<Vec<Row>, StoreError> {
    let sealed = session.prepare(SEALED).await?;
    let statement = session.prepare(DETAILS).await?;
    let client = session.client();
    let sealed = client.query_one(&sealed, &[]).await?;
    let (before, day): (Micros, Micros) = (sealed.get(0), sealed.get(1));
    let rows = stream::iter(ids.to_vec()).map(|id| {
        let statement = &statement;
        async move { client.query_opt(statement, &[&id, &before, &day]).await }
    });
    let rows = rows.buffered(PIPELINED_USERS).try_filter_map(|row| ready(Ok(row)));
    Ok(rows.try_collect().await?)
}

fn page(mut users: Vec<UserEntry>, limit: usize) -> UsersResponse {
    let has_more = users.len() > limit;
    users.truncate(limit);
    let next = users.last().map(|user| user.user_id).filter(|_| has_more);
    UsersResponse { users, next }
}

fn user(row: &Row) -> Result<UserEntry, StoreError> {
    let user_id = UserId::new(row.get(0)).map_err(|_| StoreError::InvalidSample)?;
    Ok(UserEntry {
        user_id,
        samples: row.get(7),
        first: row.get(1),
        last: rows::sample(user_id, row, 2)?,
    })
}
