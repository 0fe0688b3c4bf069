//! Who may do what to whom: API tokens in force.
//!
//! [`TokenAdmin`] creates, lists and revokes tokens. An [`Authenticator`] tells a server what a request may do: it
//! turns the secret that a client sends into an [`Access`], from memory. An [`Access`] answers whether it permits a
//! scope and a user.
//!
//! A program that embeds this library need not use any of it: a [`Health`](crate::Health) itself asks for no token.

mod admin;
mod authenticator;
mod token_changes;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, Utc};

pub use crate::access::{
    admin::TokenAdmin,
    authenticator::{AccessEnd, Authenticator, NotAuthenticated},
};
use crate::{
    sample::UserId,
    store::tokens::TokenGrant,
    token::{Scope, Scopes, TokenHash},
};

/// What a request or a connection may do, and to which users.
#[derive(Debug)]
pub struct Access {
    token: Option<TokenState>,
    scopes: Scopes,
    users: Option<BTreeSet<UserId>>,
}

/// The token from which an [`Access`] was made.
#[derive(Debug)]
struct TokenState {
    id: i64,
    hash: TokenHash,
    name: String,
    expires_at: Option<DateTime<Utc>>,
    /// Seconds since 1970; 0 if it was not used since the table was read.
    last_used: AtomicI64,
}

/// The reason why an [`Access`] does not permit something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessDenied {
    /// The token lacks a scope.
    #[error("the token {token} has the scope {has}, but this needs {needs}")]
    Scope {
        /// The name of the token.
        token: String,
        /// The scopes of the token.
        has: Scopes,
        /// The scope that is missing.
        needs: Scope,
    },
    /// The token is limited to other users.
    #[error("the token {token} may not access user {user}")]
    User {
        /// The name of the token.
        token: String,
        /// The user whom the token may not access.
        user: UserId,
    },
}

/// The name of an access without a token in logs.
const ANONYMOUS: &str = "anonymous";

impl Access {
    /// Returns an access that permits everything, for a server on which no token was ever created.
    pub fn anonymous() -> Self {
        Self {
            token: None,
            scopes: Scopes::ALL,
            users: None,
        }
    }

    /// Returns an access that permits nothing, for a client that has not shown a token.
    pub fn nothing() -> Self {
        Self {
            token: None,
            scopes: Scopes::NONE,
            users: Some(BTreeSet::new()),
        }
    }

    fn of_token(grant: TokenGrant) -> Self {
        Self {
            token: Some(TokenState {
                id: grant.id,
                hash: grant.hash,
                name: grant.name,
                expires_at: grant.expires_at,
                last_used: AtomicI64::new(0),
            }),
            scopes: grant.scopes,
            users: grant.users,
        }
    }

    /// Returns the name of the token, or `anonymous`.
    pub fn name(&self) -> &str {
        self.token.as_ref().map_or(ANONYMOUS, |token| &token.name)
    }

    /// Returns a number that no other token of the database has. `None` for an access without a token.
    pub fn token_id(&self) -> Option<i64> {
        self.token.as_ref().map(|token| token.id)
    }

    /// Returns the only users that may be accessed. `None` means all users.
    pub fn users(&self) -> Option<&BTreeSet<UserId>> {
        self.users.as_ref()
    }

    /// Returns whether a user may be accessed. A [scope](Self::check_scope) is needed too.
    pub fn allows_user(&self, user: UserId) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(&user))
    }

    /// Checks that the access has a scope.
    ///
    /// # Errors
    /// [`AccessDenied::Scope`].
    pub fn check_scope(&self, scope: Scope) -> Result<(), AccessDenied> {
        if self.scopes.contains(scope) {
            return Ok(());
        }
        Err(AccessDenied::Scope {
            token: self.name().to_owned(),
            has: self.scopes,
            needs: scope,
        })
    }

    /// Checks that a user may be accessed.
    ///
    /// # Errors
    /// [`AccessDenied::User`].
    pub fn check_user(&self, user: UserId) -> Result<(), AccessDenied> {
        if self.allows_user(user) {
            return Ok(());
        }
        Err(AccessDenied::User {
            token: self.name().to_owned(),
            user,
        })
    }

    fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.token.as_ref()?.expires_at
    }

    /// Returns whether a stored token still grants exactly this.
    fn grants_the_same(&self, grant: &TokenGrant) -> bool {
        let is_same_token = |token: &TokenState| token.id == grant.id && token.expires_at == grant.expires_at;
        self.token.as_ref().is_some_and(is_same_token) && self.scopes == grant.scopes && self.users == grant.users
    }

    fn mark_used(&self, now: DateTime<Utc>) {
        if let Some(token) = &self.token {
            token.last_used.store(now.timestamp(), Ordering::Relaxed);
        }
    }

    /// Returns when the token was used last, if it was used since the last call.
    fn take_last_used(&self) -> Option<(i64, DateTime<Utc>)> {
        let token = self.token.as_ref()?;
        let seconds = token.last_used.swap(0, Ordering::Relaxed);
        let at = DateTime::from_timestamp(seconds, 0).filter(|_| seconds != 0)?;
        Some((token.id, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(scopes: &str, users: Option<&[i64]>) -> Access {
        let users = users.map(|users| users.iter().map(|user| UserId::new(*user).unwrap()).collect());
        Access {
            token: Some(TokenState {
                id: 1,
                hash: TokenHash::from_bytes(&[1; 32]).unwrap(),
                name: "watch".to_owned(),
                expires_at: None,
                last_used: AtomicI64::new(0),
            }),
            scopes: scopes.parse().unwrap(),
            users,
        }
    }

    #[test]
    fn a_token_permits_its_scopes_and_users_only() {
        let user = |id| UserId::new(id).unwrap();
        let limited = access("ingest,read", Some(&[101, 202]));
        assert_eq!(limited.check_scope(Scope::Read), Ok(()));
        assert_eq!(
            limited.check_scope(Scope::Erase).unwrap_err().to_string(),
            "the token watch has the scope ingest,read, but this needs erase"
        );
        assert_eq!(limited.check_user(user(202)), Ok(()));
        assert_eq!(
            limited.check_user(user(203)).unwrap_err().to_string(),
            "the token watch may not access user 203"
        );
        assert!(access("read", None).allows_user(user(203)));
        assert!(!access("read", Some(&[])).allows_user(user(203)));
        let anonymous = Access::anonymous();
        assert!(Scope::ALL.into_iter().all(|scope| anonymous.check_scope(scope).is_ok()));
        assert!(anonymous.allows_user(user(1)));
    }

    #[test]
    fn a_use_is_reported_once() {
        let access = access("read", None);
        assert_eq!(access.take_last_used(), None);
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        access.mark_used(now);
        assert_eq!(access.take_last_used(), Some((1, now)));
        assert_eq!(access.take_last_used(), None);
    }
}
