//! Lists the users who have samples, and how many.

use tokio_postgres::Row;

use crate::{
    error::Error,
    sample::UserId,
    store::{
        connection::{Readers, Session, checkout},
        error::StoreError,
        rows,
    },
    wire::{UserEntry, UsersResponse},
};

/// Finds the next users in the order of their ids. There is no table of users, so the recursion goes from user to
/// user by one search of the primary key each (a loose index scan); `SELECT DISTINCT` would read every sample.
const IDS: &str = "WITH RECURSIVE walk (user_id) AS ( \
     (SELECT user_id FROM health_metrics WHERE user_id > $1 ORDER BY user_id LIMIT 1) \
     UNION ALL SELECT (SELECT m.user_id FROM health_metrics m WHERE m.user_id > walk.user_id \
     ORDER BY m.user_id LIMIT 1) \
     FROM walk WHERE walk.user_id IS NOT NULL) \
     SELECT user_id FROM walk WHERE user_id IS NOT NULL LIMIT $2";

/// Describes some users: first and last sample, and the exact number of samples.
///
/// First and last take one search of the primary key each. The number is a sum: whole days from summaries, then
/// slices up to `sealed_before`, then samples after it. The summary of a dirty slice may be out of date, so the
/// difference between its samples and its summary is added. One statement has one snapshot, so the parts agree with
/// each other.
const DETAILS: &str = "SELECT ids.user_id, earliest.timestamp, latest.timestamp, latest.source, latest.heart_rate, \
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
    Ok(page(details(&mut session, &ids).await?, limit))
}

/// Returns the ids of users with samples that are greater than `after`, ascending, at most `most`.
pub(crate) async fn ids_after(session: &mut Session, after: i64, most: i64) -> Result<Vec<i64>, StoreError> {
    let statement = session.prepare(IDS).await?;
    let rows = session.client().query(&statement, &[&after, &most]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn details(session: &mut Session, ids: &[i64]) -> Result<Vec<UserEntry>, StoreError> {
    let statement = session.prepare(DETAILS).await?;
    let rows = session.client().query(&statement, &[&ids]).await?;
    let mut users = rows.iter().map(user).collect::<Result<Vec<_>, _>>()?;
    users.sort_unstable_by_key(|user| user.user_id);
    Ok(users)
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
