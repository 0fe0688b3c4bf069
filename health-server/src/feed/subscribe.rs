//! The options of a subscription: those of the command SUBSCRIBE, and the query parameters of `GET /feed`.

use std::{collections::BTreeSet, str::FromStr, time::Duration};

use health_core::{Cursor, UserId};

use crate::quote::quote;

/// The options of a subscription.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscribeOptions {
    /// The users whose samples are sent; `None` means all users.
    pub(crate) users: Option<BTreeSet<UserId>>,
    /// The cursor to resume from.
    pub(crate) after: Option<Cursor>,
    /// The interval in which at most one sample of each user is sent.
    pub(crate) every: Option<Duration>,
}

/// The longest interval of `every=`: one hour. For anything rarer, `GET /metrics` serves better.
const EVERY_MS_MAX: u64 = 60 * 60 * 1000;

/// The longest list of users: as long as a line over TCP may be, because each user of a subscription takes memory.
pub(crate) const USERS_BYTES_MAX: usize = 4 << 10;

/// Reads the value of `users=`.
///
/// # Errors
/// The reason. It continues a sentence that begins with the name of the option. The same holds for [`every`].
pub(crate) fn users(value: &str) -> Result<BTreeSet<UserId>, String> {
    if value.len() > USERS_BYTES_MAX {
        return Err(format!(
            "is longer than {USERS_BYTES_MAX} bytes: leave it out to get all users, or subscribe more than once"
        ));
    }
    let ids = value
        .split(',')
        .map(|id| UserId::new(unsigned(id)?).ok())
        .collect::<Option<_>>();
    ids.ok_or_else(|| format!("{} is not a list of user ids such as 101,202", quote(value)))
}

/// Reads the value of `every=`.
pub(crate) fn every(value: &str) -> Result<Duration, String> {
    let millis = unsigned(value).filter(|millis| (1..=EVERY_MS_MAX).contains(millis));
    millis.map(Duration::from_millis).ok_or_else(|| {
        format!(
            "{} is not a number of milliseconds from 1 to {EVERY_MS_MAX}",
            quote(value)
        )
    })
}

/// Reads a number that consists of digits alone. `str::parse` would also take a sign.
fn unsigned<N: FromStr>(text: &str) -> Option<N> {
    let has_only_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| has_only_digits)
}
