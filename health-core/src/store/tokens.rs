//! The table of API tokens.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use tokio_postgres::{Row, error::SqlState};

use crate::{
    sample::UserId,
    store::{connection::Session, error::StoreError, transaction::Transaction},
    token::{NewToken, Scope, Scopes, Token, TokenHash, TokenName},
};

/// A token as servers check it.
pub(crate) struct TokenGrant {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) hash: TokenHash,
    pub(crate) scopes: Scopes,
    pub(crate) users: Option<BTreeSet<UserId>>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

/// The tokens of a database that are not revoked.
pub(crate) struct TokenGrants {
    /// Whether a token was ever created. From then on, servers refuse requests without a token.
    pub(crate) any_created: bool,
    pub(crate) grants: Vec<TokenGrant>,
}

/// Why a token was not created.
pub(crate) enum CreateTokenError {
    NameTaken,
    Store(StoreError),
}

/// The notification that a token was created, changed or revoked. The poller's connection listens for it.
pub(crate) const CHANGED_CHANNEL: &str = "health_tokens";

/// The expiry counts from the clock of the database, as all times of the table do.
const INSERT: &str = "INSERT INTO health_tokens (name, secret_hash, scopes, users, expires_at) \
     VALUES ($1, $2, $3, $4, now() + $5::bigint * interval '1 second')";

/// The row stays, so that the database remembers that tokens were in force.
const REVOKE: &str = "UPDATE health_tokens SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL";

const LIST: &str = "SELECT name, scopes, users, created_at, nullif(expires_at, 'infinity'), last_used_at \
     FROM health_tokens WHERE revoked_at IS NULL ORDER BY name";

/// One row for each token that is not revoked. If there is none, one row that has no id.
///
/// An operator may have written `infinity`, which no time of this program can be.
const LOAD: &str = "SELECT seen.any, t.id, t.name, t.secret_hash, t.scopes, t.users, nullif(t.expires_at, 'infinity') \
     FROM (SELECT EXISTS (SELECT 1 FROM health_tokens) AS any) AS seen \
     LEFT JOIN health_tokens t ON t.revoked_at IS NULL";

/// Another server may have written a later use.
const MARK_USED: &str = "UPDATE health_tokens t SET last_used_at = used.at \
     FROM unnest($1::bigint[], $2::timestamptz[]) AS used (id, at) \
     WHERE t.id = used.id AND (t.last_used_at IS NULL OR t.last_used_at < used.at)";

/// Running servers read the table when they receive this, and every few seconds in case it is lost.
const NOTIFY: &str = "SELECT pg_notify('health_tokens', '')";

/// Stores a token.
pub(crate) async fn create(session: &mut Session, token: &NewToken, hash: TokenHash) -> Result<(), CreateTokenError> {
    let store = |error| CreateTokenError::Store(StoreError::Postgres(error));
    let scopes: Vec<_> = token.scopes.iter().map(Scope::name).collect();
    let users: Option<Vec<_>> = token
        .users
        .as_ref()
        .map(|users| users.iter().map(|user| user.get()).collect());
    let valid_seconds = token
        .valid_for
        .map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let mut transaction = Transaction::begin(session, "BEGIN").await.map_err(store)?;
    let insert = transaction.prepare(INSERT).await.map_err(store)?;
    let inserted = transaction
        .client()
        .execute(
            &insert,
            &[&token.name.as_str(), &hash.as_bytes(), &scopes, &users, &valid_seconds],
        )
        .await;
    if let Err(error) = inserted {
        let is_taken = error.code() == Some(&SqlState::UNIQUE_VIOLATION);
        return Err(if is_taken {
            CreateTokenError::NameTaken
        } else {
            store(error)
        });
    }
    transaction.client().batch_execute(NOTIFY).await.map_err(store)?;
    transaction.commit().await.map_err(store)
}

/// Revokes a token. Returns whether there was one of that name.
pub(crate) async fn revoke(session: &mut Session, name: &str) -> Result<bool, StoreError> {
    let mut transaction = Transaction::begin(session, "BEGIN").await?;
    let revoke = transaction.prepare(REVOKE).await?;
    let revoked = transaction.client().execute(&revoke, &[&name]).await? > 0;
    transaction.client().batch_execute(NOTIFY).await?;
    transaction.commit().await?;
    Ok(revoked)
}

/// Returns the tokens that are not revoked, by name.
pub(crate) async fn list(session: &mut Session) -> Result<Vec<Token>, StoreError> {
    let statement = session.prepare(LIST).await?;
    let rows = session.client().query(&statement, &[]).await?;
    let tokens = rows.iter().map(|row| {
        Ok(Token {
            name: name(row, 0)?,
            scopes: scopes(row, 1)?,
            users: users(row, 2)?,
            created_at: row.try_get(3)?,
            expires_at: row.try_get(4)?,
            last_used_at: row.try_get(5)?,
        })
    });
    tokens.collect()
}

/// Returns the tokens that servers accept.
pub(crate) async fn load(session: &mut Session) -> Result<TokenGrants, StoreError> {
    let statement = session.prepare(LOAD).await?;
    let rows = session.client().query(&statement, &[]).await?;
    Ok(TokenGrants {
        any_created: rows.first().is_some_and(|row| row.get(0)),
        grants: rows.iter().filter_map(grant).collect(),
    })
}

/// Stores when some tokens were used last.
pub(crate) async fn mark_used(session: &mut Session, used: &[(i64, DateTime<Utc>)]) -> Result<(), StoreError> {
    let (ids, times): (Vec<_>, Vec<_>) = used.iter().copied().unzip();
    let statement = session.prepare(MARK_USED).await?;
    session.client().execute(&statement, &[&ids, &times]).await?;
    Ok(())
}

/// Returns `None` for the row that says that there is no token, and for a row that this program cannot have written:
/// such a token opens nothing, and the others stay in force.
fn grant(row: &Row) -> Option<TokenGrant> {
    readable_grant(row).ok().flatten()
}

fn readable_grant(row: &Row) -> Result<Option<TokenGrant>, tokio_postgres::Error> {
    let (Some(id), Some(hash)) = (row.try_get(1)?, row.try_get::<_, Option<&[u8]>>(3)?) else {
        return Ok(None);
    };
    let Some(hash) = TokenHash::from_bytes(hash) else {
        return Ok(None);
    };
    Ok(Some(TokenGrant {
        id,
        name: row.try_get(2)?,
        hash,
        scopes: scopes(row, 4)?,
        users: users(row, 5)?,
        expires_at: row.try_get(6)?,
    }))
}

fn name(row: &Row, column: usize) -> Result<TokenName, StoreError> {
    row.try_get::<_, &str>(column)?
        .parse()
        .map_err(|_| StoreError::InvalidTokenName)
}

/// Leaves out a scope that only a newer version knows, and an element without a value.
fn scopes(row: &Row, column: usize) -> Result<Scopes, tokio_postgres::Error> {
    let names: Vec<Option<&str>> = row.try_get(column)?;
    let known = names.into_iter().flatten().filter_map(Scope::from_name);
    Ok(known.fold(Scopes::NONE, Scopes::with))
}

/// Leaves out what is not an id. A token whose users are all left out may access no user.
fn users(row: &Row, column: usize) -> Result<Option<BTreeSet<UserId>>, tokio_postgres::Error> {
    let ids: Option<Vec<Option<i64>>> = row.try_get(column)?;
    Ok(ids.map(|ids| {
        ids.into_iter()
            .flatten()
            .filter_map(|id| UserId::new(id).ok())
            .collect()
    }))
}
