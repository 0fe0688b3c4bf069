//! Who has samples, and how many.

use tokio_postgres::Row;

use crate::{
    error::Error,
    sample::{Readings, Sample, Source, UserId},
    store::{
        connection::{Readers, Session, checkout},
        failure::Failure,
    },
    wire::{UserEntry, UsersResponse},
};

/// Walks from user to user by one probe of the key each: there is no table of users.
const IDS: &str = "WITH RECURSIVE walk (user_id) AS ( \
     (SELECT user_id FROM health_metrics WHERE user_id > $1 ORDER BY user_id LIMIT 1) \
     UNION ALL SELECT (SELECT m.user_id FROM health_metrics m WHERE m.user_id > walk.user_id ORDER BY m.user_id LIMIT 1) \
     FROM walk WHERE walk.user_id IS NOT NULL) \
     SELECT user_id FROM walk WHERE user_id IS NOT NULL LIMIT $2";

/// Samples are counted from summaries: whole days, then slices, then the samples behind them. For dirty slices the
/// difference between what the samples say and what their summaries say is added.
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
     FROM (SELECT DISTINCT slice FROM health_dirty WHERE user_id = ids.user_id AND slice < sealed.before) AS d) AS dirty) AS counted";

/// Users behind `after`, at most `limit`, by id.
pub(crate) async fn users(readers: &Readers, limit: usize, after: Option<UserId>) -> Result<UsersResponse, Error> {
    let mut session = checkout(readers).await?;
    let page = all(&mut session, limit, after).await?;
    Ok(page)
}

/// The same, of these users alone.
pub(crate) async fn users_among(
    readers: &Readers,
    among: &[UserId],
    limit: usize,
    after: Option<UserId>,
) -> Result<UsersResponse, Error> {
    let mut session = checkout(readers).await?;
    let ids = among.iter().filter(|id| after.is_none_or(|after| **id > after));
    let mut ids: Vec<i64> = ids.map(|id| id.get()).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(page(details(&mut session, &ids).await?, limit))
}

async fn all(session: &mut Session, limit: usize, after: Option<UserId>) -> Result<UsersResponse, Failure> {
    // One more than asked for, to know whether that is all.
    let probe = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let statement = session.prepare(IDS).await?;
    let after = after.map_or(0, UserId::get);
    let rows = session.client().query(&statement, &[&after, &probe]).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    Ok(page(details(session, &ids).await?, limit))
}

async fn details(session: &mut Session, ids: &[i64]) -> Result<Vec<UserEntry>, Failure> {
    let statement = session.prepare(DETAILS).await?;
    let rows = session.client().query(&statement, &[&ids]).await?;
    let mut users = rows.iter().map(user).collect::<Result<Vec<_>, _>>()?;
    users.sort_unstable_by_key(|user| user.user_id);
    Ok(users)
}

fn page(mut users: Vec<UserEntry>, limit: usize) -> UsersResponse {
    let more = users.len() > limit;
    users.truncate(limit);
    let next = users.last().map(|user| user.user_id).filter(|_| more);
    UsersResponse { users, next }
}

fn user(row: &Row) -> Result<UserEntry, Failure> {
    let user_id = UserId::new(row.get(0)).map_err(|_| Failure::IllegalSample)?;
    let source = Source::new(row.get::<_, &str>(3)).map_err(|_| Failure::IllegalSample)?;
    let readings = Readings::from_row(row.get(4), row.get(5), row.get(6));
    let last = Sample::new(user_id, row.get(2), source, readings).map_err(|_| Failure::IllegalSample)?;
    Ok(UserEntry {
        user_id,
        samples: row.get(7),
        first: row.get(1),
        last,
    })
}
