//! What the retention asks of the database: its turn, the time, and the users with samples that are too old.

use chrono::{DateTime, Utc};

use crate::{
    sample::UserId,
    store::{connection::Session, error::StoreError, micros::Micros, tables::Tables, users},
};

/// Lets one server at a time erase old samples. The session holds the lock until it ends, for many transactions.
const TRY_LOCK: &str = "SELECT pg_try_advisory_lock(hashtext('health retention'))";

/// PostgreSQL's clock.
const CLOCK: &str = "SELECT clock_timestamp()";

/// Finds the users whose oldest sample is too old, among some users, by one search of the primary key for each user.
const WITH_OLDER_SAMPLES_LOCAL: &str = "SELECT ids.user_id FROM unnest($1::bigint[]) AS ids (user_id) \
     CROSS JOIN LATERAL (SELECT timestamp FROM health_metrics m WHERE m.user_id = ids.user_id \
     ORDER BY timestamp LIMIT 1) AS oldest WHERE oldest.timestamp < $2";

/// Reads the oldest sample of one user. Citus joins no function with a limited subquery of several users.
const OLDEST: &str = "SELECT timestamp FROM health_metrics WHERE user_id = $1 ORDER BY timestamp LIMIT 1";

/// Users that one search looks at. It bounds the array of ids, and how long the search takes: some milliseconds.
const USERS_AT_ONCE_LOCAL: i64 = 1_000;

/// The same if the tables are distributed, where each user takes a round trip or two.
const USERS_AT_ONCE: i64 = 32;

/// Some users who follow each other.
pub(crate) struct UsersPage {
    /// Those with samples that are too old.
    pub(crate) with_older_samples: Vec<UserId>,
    /// The last of all users of the page; `None` if there are no more users.
    pub(crate) last: Option<i64>,
}

/// Takes the lock of the retention if it is free.
pub(crate) async fn try_lock(session: &mut Session) -> Result<bool, StoreError> {
    let statement = session.prepare(TRY_LOCK).await?;
    Ok(session.client().query_one(&statement, &[]).await?.get(0))
}

/// Returns the time by PostgreSQL's clock.
pub(crate) async fn clock(session: &mut Session) -> Result<DateTime<Utc>, StoreError> {
    let statement = session.prepare(CLOCK).await?;
    Ok(session.client().query_one(&statement, &[]).await?.get(0))
}

/// Looks at the next users with an id greater than `after`, and returns those who have samples before a time.
pub(crate) async fn users_after(
    session: &mut Session,
    after: i64,
    before: DateTime<Utc>,
) -> Result<UsersPage, StoreError> {
    let tables = session.tables();
    let users_at_once = match tables {
        Tables::Local => USERS_AT_ONCE_LOCAL,
        Tables::Distributed => USERS_AT_ONCE,
    };
    let ids = users::ids_after(session, after, users_at_once).await?;
    let last = ids.last().copied();
    let statement = session.prepare(tables.shape(WITH_OLDER_SAMPLES_LOCAL, OLDEST)).await?;
    let client = session.client();
    let mut found: Vec<i64> = Vec::new();
    match tables {
        Tables::Local => {
            let rows = client.query(&statement, &[&ids, &before]).await?;
            found.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        }
        Tables::Distributed => {
            for id in ids {
                let oldest = client.query_opt(&statement, &[&id]).await?;
                if oldest.is_some_and(|row| row.get::<_, Micros>(0).0 < before.timestamp_micros()) {
                    found.push(id);
                }
            }
        }
    }
    let users = found.into_iter().map(UserId::new).collect::<Result<_, _>>();
    Ok(UsersPage {
        with_older_samples: users.map_err(|_| StoreError::InvalidSample)?,
        last,
    })
}
