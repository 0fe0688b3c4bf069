//! What to do if a token may not store the records of a batch.

use std::collections::BTreeSet;

use serde::Deserialize;

/// The users that a sentence names.
const USERS_SHOWN_MAX: usize = 5;

/// Returns the first users of a batch, in ascending order.
pub(super) fn users(body: &[u8]) -> Vec<u64> {
    #[derive(Deserialize)]
    struct Record {
        user_id: u64,
    }
    let mut users = BTreeSet::new();
    for line in body.split(|byte| *byte == b'\n') {
        if let Ok(Record { user_id }) = serde_json::from_slice(line) {
            users.insert(user_id);
        }
        if users.len() > USERS_SHOWN_MAX {
            break;
        }
    }
    users.into_iter().collect()
}

/// Returns `user 5` or `users 5, 6 and others`.
pub(super) fn named(users: &[u64]) -> String {
    match users {
        [] => "these users".to_owned(),
        [user] => format!("user {user}"),
        users => format!("users {}", list(users, ", ", " and others")),
    }
}

/// Returns the remedy for users whom the token may not write.
pub(super) fn may_not_write(users: &[u64]) -> String {
    format!("Use a token that may write {}. {}", named(users), create_token(users))
}

/// Says how a token for these users is created, as a command that works where the server runs.
pub(super) fn create_token(users: &[u64]) -> String {
    let (name, limit) = match users {
        [] => (String::new(), " --users 101".to_owned()),
        [first, ..] => (format!("-{first}"), format!(" --users {}", list(users, ",", ""))),
    };
    let all = if users.len() > USERS_SHOWN_MAX {
        " (add the other users)"
    } else {
        ""
    };
    format!(
        "On the server's machine, `health-server token create --name import{name} --scope ingest{limit}`{all} prints one; pass it \
         on in the variable HEALTH_TOKEN"
    )
}

fn list(users: &[u64], separator: &str, rest: &str) -> String {
    let shown: Vec<_> = users.iter().take(USERS_SHOWN_MAX).map(u64::to_string).collect();
    let rest = if users.len() > USERS_SHOWN_MAX { rest } else { "" };
    shown.join(separator) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_a_batch_are_named_in_a_command_that_creates_their_token() {
        let body = b"{\"user_id\":7,\"steps\":1}\n{\"user_id\":5,\"steps\":1}\n{\"user_id\":7,\"steps\":1}\n";
        let found = users(body);
        assert_eq!(found, [5, 7]);
        let text = may_not_write(&found);
        assert!(text.starts_with("Use a token that may write users 5, 7. "), "{text}");
        assert!(
            text.contains("`health-server token create --name import-5 --scope ingest --users 5,7`"),
            "{text}"
        );
        assert_eq!(named(&[5]), "user 5");
        assert_eq!(named(&[1, 2, 3, 4, 5, 6]), "users 1, 2, 3, 4, 5 and others");
        assert!(create_token(&[]).contains("--name import --scope ingest --users 101`"));
    }
}
