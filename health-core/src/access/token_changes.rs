//! Audit lines about tokens that appear, change and vanish while a server runs.
//!
//! The program that changed them has written a line too, but perhaps on another machine. These lines say since when
//! this server knows.

use std::{collections::HashMap, sync::Arc};

use crate::access::Access;

/// What happened to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Appeared,
    Changed,
    Vanished,
}

/// Writes an audit line for each token that differs between two readings.
pub(super) fn audit_changes<'a>(
    before: impl Iterator<Item = &'a Arc<Access>>,
    after: impl Iterator<Item = &'a Arc<Access>>,
) {
    for (change, access) in changes(before, after) {
        let (token, scopes, expires_at) = (access.name(), access.scopes, access.expires_at());
        let users = access.users().map(|users| {
            let users: Vec<_> = users.iter().map(ToString::to_string).collect();
            users.join(",")
        });
        let expires_at = expires_at.map(crate::time::format_timestamp);
        match change {
            Change::Appeared => {
                tracing::info!(target: "audit", action = "token_appeared", token, %scopes, users, expires_at, "a new token is in force");
            }
            Change::Changed => {
                tracing::info!(target: "audit", action = "token_changed", token, %scopes, users, expires_at, "a token was changed");
            }
            Change::Vanished => {
                tracing::info!(target: "audit", action = "token_vanished", token, %scopes, users, "a token was revoked or deleted");
            }
        }
    }
}

fn changes<'a>(
    before: impl Iterator<Item = &'a Arc<Access>>,
    after: impl Iterator<Item = &'a Arc<Access>>,
) -> Vec<(Change, &'a Arc<Access>)> {
    let mut before: HashMap<_, _> = before.map(|access| (access.token_id(), access)).collect();
    let mut changes = Vec::new();
    for access in after {
        match before.remove(&access.token_id()) {
            None => changes.push((Change::Appeared, access)),
            // An access that grants the same stays the same value.
            Some(known) if !Arc::ptr_eq(known, access) => changes.push((Change::Changed, access)),
            Some(_) => {}
        }
    }
    changes.extend(before.into_values().map(|access| (Change::Vanished, access)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::tokens::TokenGrant,
        token::{Scopes, TokenHash},
    };

    fn access(id: i64) -> Arc<Access> {
        Arc::new(Access::of_token(TokenGrant {
            id,
            name: format!("token-{id}"),
            hash: TokenHash::from_bytes(&[1; 32]).unwrap(),
            scopes: Scopes::ALL,
            users: None,
            expires_at: None,
        }))
    }

    #[test]
    fn each_token_that_appears_changes_or_vanishes_is_found_once() {
        let (kept, changed, vanished) = (access(1), access(2), access(3));
        let (changed_after, appeared) = (access(2), access(4));
        let (before, after) = ([&kept, &changed, &vanished], [&kept, &changed_after, &appeared]);
        let mut found: Vec<_> = changes(before.into_iter(), after.into_iter())
            .into_iter()
            .map(|(change, access)| (access.name().to_owned(), change))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(
            found,
            [
                ("token-2".to_owned(), Change::Changed),
                ("token-3".to_owned(), Change::Vanished),
                ("token-4".to_owned(), Change::Appeared),
            ]
        );
        assert!(changes(before.into_iter(), before.into_iter()).is_empty());
    }
}
