//! How many connections this server may have, compared to how many it opens.

use std::fmt;

use crate::{
    config::Limits,
    store::{connection::Session, error::StoreError},
};

/// The limits of the role, the database and the server. -1 is no limit. A setting that this version of PostgreSQL does
/// not have is 0.
const LIMITS: &str = "SELECT rolname::text, CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END, \
     datname::text, CASE WHEN rolsuper THEN -1 ELSE datconnlimit END, \
     current_setting('max_connections')::integer - CASE WHEN rolsuper THEN 0 \
     ELSE current_setting('superuser_reserved_connections')::integer \
     + coalesce(current_setting('reserved_connections', true), '0')::integer END \
     FROM pg_roles, pg_database WHERE rolname = session_user AND datname = current_database()";

/// The fewest connections that serve everything: one each to write, to read, for the live feed and for summaries.
pub(crate) const NEEDED_MIN: i64 = 4;

/// How many connections are wanted and allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    role: String,
    role_limit: Option<i64>,
    database: String,
    database_limit: Option<i64>,
    server_limit: i64,
    writers: i64,
    readers: i64,
}

/// Logs a warning if the role, the database or the server allows fewer connections than this server opens.
pub(crate) async fn warn_if_too_small(session: &mut Session, limits: &Limits) -> Result<(), StoreError> {
    if let Some(capacity) = capacity(session, limits).await?
        && capacity.allowed() < capacity.wanted()
    {
        tracing::warn!("{capacity}");
    }
    Ok(())
}

/// Returns how many connections are wanted and allowed, if the database tells.
pub(crate) async fn capacity(session: &mut Session, limits: &Limits) -> Result<Option<Capacity>, StoreError> {
    let statement = session.prepare(LIMITS).await?;
    let Some(row) = session.client().query_opt(&statement, &[]).await? else {
        return Ok(None);
    };
    let limit = |index| u32::try_from(row.get::<_, i32>(index)).ok().map(i64::from);
    Ok(Some(Capacity {
        role: row.get(0),
        role_limit: limit(1),
        database: row.get(2),
        database_limit: limit(3),
        server_limit: row.get::<_, i32>(4).into(),
        // One more for the spare writer.
        writers: i64::try_from(limits.writers.max(1).saturating_add(1)).unwrap_or(i64::MAX),
        readers: limits.readers.into(),
    }))
}

impl Capacity {
    /// The connections of all tasks: writers with the spare one, readers, the poller and the roller.
    pub(crate) fn wanted(&self) -> i64 {
        self.writers.saturating_add(self.readers).saturating_add(2)
    }

    pub(crate) fn allowed(&self) -> i64 {
        let limits = [self.role_limit, self.database_limit].into_iter().flatten();
        limits.min().unwrap_or(i64::MAX).min(self.server_limit)
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |limit: Option<i64>| limit.map_or_else(|| "any number".to_owned(), |limit| limit.to_string());
        write!(
            f,
            "this server opens up to {} connections ({} to write, {} to read, 1 for the live feed, 1 for summaries), but the \
             role {:?} may have {}, the database {:?} {}, and PostgreSQL {} for all programs. ",
            self.wanted(),
            self.writers,
            self.readers,
            self.role,
            text(self.role_limit),
            self.database,
            text(self.database_limit),
            self.server_limit
        )?;
        if self.allowed() < NEEDED_MIN {
            write!(f, "At least {NEEDED_MIN} are needed: raise the limit")
        } else {
            write!(
                f,
                "Its tasks share what they get, at least {NEEDED_MIN}; raise the limit, or lower --readers and --writers"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(role_limit: Option<i64>, database_limit: Option<i64>, server_limit: i64) -> Capacity {
        Capacity {
            role: "health".to_owned(),
            role_limit,
            database: "health_db".to_owned(),
            database_limit,
            server_limit,
            writers: 2,
            readers: 8,
        }
    }

    #[test]
    fn the_lowest_limit_counts_and_the_warning_has_all_numbers() {
        assert_eq!(capacity(None, None, 97).allowed(), 97);
        assert_eq!(capacity(Some(4), Some(9), 97).allowed(), 4);
        assert_eq!(capacity(Some(40), Some(9), 97).allowed(), 9);
        assert_eq!(capacity(Some(0), None, 97).allowed(), 0);
        let text = capacity(Some(4), None, 97).to_string();
        for part in [
            "12 connections",
            "\"health\" may have 4",
            "any number",
            "97",
            "at least 4",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            capacity(Some(3), None, 97)
                .to_string()
                .contains("At least 4 are needed")
        );
    }
}
