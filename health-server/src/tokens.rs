//! The commands `token create`, `token list` and `token revoke`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    time::Duration,
};

use chrono::{DateTime, Utc};
use clap::{ArgAction, Subcommand};
use health_core::{
    Config, Limits, UserId,
    access::TokenAdmin,
    flags::parse_duration,
    format_timestamp, migrate,
    token::{NewToken, Scopes, Token, TokenName},
};

use crate::{args::DatabaseArgs, database::Postgres, error::ProgramError};

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
    name: TokenName,
    /// What the token permits: ingest, read, erase, or several with commas between them.
    #[arg(long, value_name = "SCOPES")]
    scope: Scopes,
    /// The only users whom the token may write, read, erase and hear of, such as 101,202.
    #[arg(long, value_name = "IDS", value_parser = parse_user, value_delimiter = ',', action = ArgAction::Append)]
    users: Option<Vec<UserId>>,
    /// How long the token is valid, such as 12h or 90d; without it, until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = parse_validity)]
    expires: Option<Duration>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Runs a command. It may share the data directory with a running server, which notices the change within seconds.
pub(crate) async fn execute(command: TokenCommand) -> Result<(), ProgramError> {
    let (TokenCommand::Create(CreateArgs { database, .. })
    | TokenCommand::List { database }
    | TokenCommand::Revoke { database, .. }) = &command;
    let postgres = Postgres::for_command(database).await?;
    let outcome = match postgres.config(Limits::default()) {
        Ok(config) => execute_on(&config, command).await,
        Err(error) => Err(error.into()),
    };
    postgres.stop().await?;
    outcome
}

async fn execute_on(config: &Config, command: TokenCommand) -> Result<(), ProgramError> {
    migrate(config).await?;
    let mut admin = TokenAdmin::connect(config).await?;
    match command {
        TokenCommand::Create(args) => {
            let token = NewToken {
                name: args.name,
                scopes: args.scope,
                users: args.users.map(BTreeSet::from_iter),
                valid_for: args.expires,
            };
            let secret = admin.create(&token).await?;
            print(secret.as_str())
        }
        TokenCommand::List { .. } => {
            let tokens = admin.list().await?;
            tokens_as_table(&tokens, Utc::now())
                .iter()
                .try_for_each(|line| print(line))
        }
        TokenCommand::Revoke { name, .. } => Ok(admin.revoke(&name).await?),
    }
}

fn print(line: &str) -> Result<(), ProgramError> {
    writeln!(io::stdout(), "{line}").map_err(ProgramError::System)
}

/// Returns the lines of a table: a head, and one line for each token.
fn tokens_as_table(tokens: &[Token], now: DateTime<Utc>) -> Vec<String> {
    let head = ["NAME", "SCOPE", "USERS", "CREATED", "EXPIRES", "LAST USED"].map(str::to_owned);
    let rows = tokens.iter().map(|token| {
        let users = token.users.as_ref().map_or_else(
            || "all".to_owned(),
            |users| {
                let ids: Vec<_> = users.iter().map(ToString::to_string).collect();
                ids.join(",")
            },
        );
        let expires = match token.expires_at {
            None => "never".to_owned(),
            Some(at) if at <= now => format!("expired {}", to_the_second(at)),
            Some(at) => to_the_second(at),
        };
        [
            token.name.to_string(),
            token.scopes.to_string(),
            users,
            to_the_second(token.created_at),
            expires,
            token.last_used_at.map_or_else(|| "never".to_owned(), to_the_second),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<_> = (0..6)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn to_the_second(at: DateTime<Utc>) -> String {
    format_timestamp(DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at))
}

fn parse_user(text: &str) -> Result<UserId, String> {
    let user = text.trim().parse().ok().and_then(|id| UserId::new(id).ok());
    user.ok_or_else(|| "write user ids with commas between them, such as 101,202".to_owned())
}

fn parse_validity(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "write a length of time of at least a second, such as 90s, 30m, 12h or 90d";
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
        for text in ["", "0s", "500ms", "-1d", "1w", "never", "99999999999999999999d"] {
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
