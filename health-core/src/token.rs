//! API tokens: the secret that a client sends, and what a token permits.
//!
//! These are values only. `store/tokens.rs` keeps tokens in the database, and `access.rs` decides with them who may do
//! what.

mod scope;
mod secret;

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};

use crate::sample::UserId;
pub(crate) use crate::token::secret::TokenHash;
pub use crate::token::{
    scope::{ParseScopesError, Scope, Scopes},
    secret::TokenSecret,
};

/// The name of a token: 1 to 64 bytes of UTF-8 without control characters and spaces.
///
/// It stands in lists and in audit lines. It is not secret.
///
/// ```
/// use health_core::token::TokenName;
///
/// let name: TokenName = "kitchen-scale".parse()?;
/// assert_eq!(name.as_str(), "kitchen-scale");
/// assert!("two words".parse::<TokenName>().is_err());
/// # Ok::<(), health_core::token::InvalidTokenName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenName(String);

/// The text is not a [`TokenName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token's name has 1 to {MAX_NAME_BYTES} bytes without spaces and control characters, such as kitchen-scale")]
pub struct InvalidTokenName;

/// What to create a token with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// No other token that is not revoked has this name.
    pub name: TokenName,
    /// What the token permits.
    pub scopes: Scopes,
    /// The only users whom the token may write, read, erase and subscribe to; `None` means all users.
    pub users: Option<BTreeSet<UserId>>,
    /// How long the token is valid; `None` means until it is revoked.
    pub valid_for: Option<Duration>,
}

/// A stored token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// The name.
    pub name: TokenName,
    /// What the token permits.
    pub scopes: Scopes,
    /// The only users whom the token may write, read, erase and subscribe to; `None` means all users.
    pub users: Option<BTreeSet<UserId>>,
    /// When the token was created.
    pub created_at: DateTime<Utc>,
    /// When the token stops being valid; `None` means never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the token was used last, to about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// As long as the name of a source.
const MAX_NAME_BYTES: usize = 64;

impl TokenName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = InvalidTokenName;

    fn from_str(text: &str) -> Result<Self, InvalidTokenName> {
        let is_valid = (1..=MAX_NAME_BYTES).contains(&text.len())
            && !text
                .chars()
                .any(|character| character.is_control() || character.is_whitespace());
        is_valid.then(|| Self(text.to_owned())).ok_or(InvalidTokenName)
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_has_no_spaces_or_control_characters() {
        for valid in ["a", "Ana's-watch", "⌚", &"x".repeat(64)] {
            assert_eq!(valid.parse::<TokenName>().unwrap().as_str(), valid);
        }
        for invalid in [
            "",
            " ",
            "two words",
            "line\nbreak",
            "tab\t",
            "nul\0",
            "\u{a0}",
            &"x".repeat(65),
        ] {
            assert_eq!(invalid.parse::<TokenName>(), Err(InvalidTokenName), "{invalid:?}");
        }
    }
}
