//! The command line of `import`.

use std::path::PathBuf;

use chrono_tz::Tz;
use clap::builder::NonEmptyStringValueParser;
use health_core::{
    Source, UserId,
    client::{ApiToken, Credentials},
};

/// Options of `import`.
#[derive(Debug, Clone, clap::Args)]
// Without it, the usage names --server as if it were required if its variable is set.
#[command(override_usage = "health-server import [OPTIONS] <FILE>...")]
pub(crate) struct ImportArgs {
    /// Files of FIT, Apple Health, TCX, Health Auto Export, Fitbit, NDJSON or CSV; also as .gz and .zip.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// URL of the server that stores the records.
    #[arg(
        long,
        env = "HEALTH_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:8000",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) server: String,
    /// User of records that name none, which only NDJSON and CSV can do.
    #[arg(long, value_name = "N", value_parser = parse_user)]
    pub(crate) user: Option<UserId>,
    /// Name of the device: in place of the one in files of one device (FIT, TCX, Fitbit), elsewhere for records that
    /// name none.
    #[arg(long, value_name = "S", value_parser = parse_source)]
    pub(crate) source: Option<Source>,
    /// Time zone of times without an offset, such as Europe/Berlin.
    #[arg(long, value_name = "ZONE", value_parser = parse_zone)]
    pub(crate) tz: Option<Tz>,
    /// Read the files and print the table, without contacting a server.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// API token, if the server requires one; better set the variable, because others can see a command line.
    #[arg(long, env = "HEALTH_TOKEN", value_name = "T", hide_env_values = true)]
    token: Option<ApiToken>,
    /// File with the API token that only its owner can read; --token wins.
    #[arg(long, env = "HEALTH_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the certificate of a private authority that has signed the server's.
    #[arg(long, env = "HEALTH_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Send the token also without TLS to another machine: everybody on the way can read it.
    #[arg(long)]
    allow_plain_token: bool,
}

impl ImportArgs {
    /// Returns the token and the trusted authority.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            token: self.token.clone(),
            token_file: self.token_file.clone(),
            ca: self.ca.clone(),
            allow_plain_token: self.allow_plain_token,
        }
    }
}

fn parse_user(text: &str) -> Result<UserId, &'static str> {
    let user = text.parse().ok().and_then(|id| UserId::new(id).ok());
    user.ok_or("write the number of a user, from 1 on")
}

fn parse_source(text: &str) -> Result<Source, String> {
    Source::new(text).map_err(|fault| format!("the name {fault}"))
}

fn parse_zone(text: &str) -> Result<Tz, &'static str> {
    text.parse()
        .map_err(|_| "write the name of a zone of IANA, such as Europe/Berlin")
}
