//! The command line of `token create`, `token list` and `token revoke`.

use std::time::Duration;

use clap::{ArgAction, Subcommand};
use health_core::{
    UserId,
    flags::parse_duration,
    token::{Scopes, TokenName},
};

use crate::args::database::DatabaseArgs;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token and print its secret. It cannot be shown again.
    Create(CreateArgs),
    /// List the tokens that are not revoked.
    List {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Revoke a token for ever.
    Revoke {
        /// Name of the token.
        name: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Name of the token, for lists and logs: 1 to 64 bytes without spaces.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: TokenName,
    /// What the token permits: ingest, read, erase, or several with commas between them.
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Scopes,
    /// The only users whom the token may write, read, erase and subscribe to, such as 101,202.
    #[arg(long, value_name = "IDS", value_parser = parse_user, value_delimiter = ',', action = ArgAction::Append)]
    pub(crate) users: Option<Vec<UserId>>,
    /// How long the token is valid, such as 12h or 90d (with s, m, h or d); without it, until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = parse_validity)]
    pub(crate) expires: Option<Duration>,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
}

fn parse_user(text: &str) -> Result<UserId, String> {
    let user = text.trim().parse().ok().and_then(|id| UserId::new(id).ok());
    user.ok_or_else(|| "write user ids with commas between them, such as 101,202".to_owned())
}

fn parse_validity(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "write a length of time of at least a second, such as 90s, 30m, 12h or 90d";
    // Elsewhere it is a number of seconds. Here most people mean days, and would get a token that has expired.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("write a number with a unit, which is s, m, h or d, such as 90d for 90 days");
    }
    let time = parse_duration(text).map_err(|_| FORM)?;
    if text.ends_with("ms") || time.is_zero() {
        Err(FORM)
    } else {
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_validity_of_a_token_is_at_least_a_second() {
        assert_eq!(parse_validity("90d"), Ok(Duration::from_hours(90 * 24)));
        assert_eq!(parse_validity("1s"), Ok(Duration::from_secs(1)));
        for text in [
            "",
            "5",
            "90",
            "0s",
            "500ms",
            "-1d",
            "1w",
            "never",
            "99999999999999999999d",
        ] {
            assert!(parse_validity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn users_are_ids() {
        assert_eq!(parse_user(" 101"), Ok(UserId::new(101).unwrap()));
        for text in ["", "0", "-1", "ana", "1.0", "9223372036854775808"] {
            assert!(parse_user(text).is_err(), "{text}");
        }
    }
}
