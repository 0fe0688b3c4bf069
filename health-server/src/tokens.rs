//! The commands `token create`, `token list` and `token revoke`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use chrono::{DateTime, Utc};
use health_core::{
    Config, Limits,
    access::TokenAdmin,
    format_timestamp, migrate,
    token::{NewToken, Token},
};

use crate::{
    args::token::{CreateArgs, TokenCommand},
    audit,
    database::Postgres,
    error::ProgramError,
};

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
            // The secret is printed even if the database is lost by now.
            let tokens = admin.list().await.unwrap_or_default();
            let created = tokens.iter().find(|other| other.name == token.name);
            audit::created_token(&token, created.and_then(|token| token.expires_at));
            print(secret.as_str())
        }
        TokenCommand::List { .. } => {
            let tokens = admin.list().await?;
            tokens_as_table(&tokens, Utc::now())
                .iter()
                .try_for_each(|line| print(line))
        }
        TokenCommand::Revoke { name, .. } => {
            admin.revoke(&name).await?;
            audit::revoked_token(&name);
            Ok(())
        }
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
