//! The command line.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod database;
pub(crate) mod import;
pub(crate) mod token;

use std::path::PathBuf;

use clap::{Parser, Subcommand, builder::NonEmptyStringValueParser};
use clap_complete::Shell;

use crate::{
    args::{
        backup::{BackupArgs, RestoreArgs},
        check::CheckArgs,
        database::DatabaseArgs,
        import::ImportArgs,
        token::TokenCommand,
    },
    limits::ServerLimits,
    logging::{DEFAULT_FILTER, LogFormat, parse_filter},
};

const AFTER_HELP: &str = "BYTES is written like 65536, 64KiB or 16MiB; TIME like 250ms, 30s, 5m, 24h or 1d.\n\
     Each option can also be set by the environment variable that stands beside it, or in the file of --config: a flag \
     wins over the variable, the variable over the file. `health-server --print-config` prints such a file.";

/// Stores wearable readings in PostgreSQL: accepts them over HTTP, answers queries, and streams new samples over TCP.
#[derive(Debug, Parser)]
#[command(
    name = "health-server",
    version,
    max_term_width = 100,
    after_help = AFTER_HELP
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// TOML file with settings; SIGHUP makes the server read it again.
    #[arg(long, env = "HEALTH_CONFIG", value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Print a file with every setting, its default and its meaning, then exit.
    #[arg(long, global = true)]
    pub(crate) print_config: bool,
    /// What is logged: error, warn, info, debug or trace, also for some modules only, like `info,health_core=debug`.
    #[arg(long, env = "HEALTH_LOG", value_name = "FILTER", value_parser = parse_filter, default_value = DEFAULT_FILTER, global = true)]
    pub(crate) log: String,
    /// Format of log lines.
    #[arg(long, env = "HEALTH_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub(crate) log_format: LogFormat,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Migrate the database schema, then serve (the default without a command).
    Serve(Box<ServeArgs>),
    /// Read files of watches and health apps, and post their records to a running server.
    Import(Box<ImportArgs>),
    /// Create, list and revoke API tokens. From the first token on, every request needs one.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Migrate the database schema, then exit.
    Migrate(MigrateArgs),
    /// Distribute the tables of users over the workers of a Citus cluster, then exit. Stop every server first.
    Distribute(DistributeArgs),
    /// Back up the server's own PostgreSQL, also while a server runs on it.
    Backup(BackupArgs),
    /// Put a backup back into an empty data directory.
    Restore(RestoreArgs),
    /// Say what is wrong or risky with the configuration and the database, each with its remedy; changes nothing.
    Check(Box<CheckArgs>),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

/// Options of `serve`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServeArgs {
    /// Address for HTTP; port 0 takes any free port.
    #[arg(long, env = "HEALTH_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8000", value_parser = parse_address)]
    pub(crate) http: String,
    /// Address for the live feed; port 0 takes any free port.
    #[arg(long, env = "HEALTH_FEED", value_name = "ADDR", default_value = "127.0.0.1:8001", value_parser = parse_address)]
    pub(crate) feed: String,
    /// Serve on addresses that other machines can reach: every client may read, write and erase all data.
    #[arg(long, env = "HEALTH_ALLOW_ANONYMOUS", value_parser = parse_switch)]
    pub(crate) allow_anonymous: bool,
    /// PEM file with the certificate chain; both ports then speak TLS. SIGHUP makes the server read it again.
    #[arg(long, env = "HEALTH_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    #[arg(long, env = "HEALTH_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Name that requests may have in Host while no token exists, beside localhost and addresses; may be repeated.
    #[arg(long, env = "HEALTH_ALLOW_HOST", value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow_host: Vec<String>,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    #[command(flatten)]
    pub(crate) server_limits: ServerLimits,
    #[command(flatten)]
    pub(crate) core_limits: health_core::Limits,
}

/// Options of `migrate`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MigrateArgs {
    /// Then print the statements that give this role every right that a server needs; run them as the owner of the
    /// tables.
    #[arg(long, value_name = "ROLE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) print_grants: Option<String>,
    /// Print the SQL of the migrations that would run and the locks that they take; change nothing. It tries them in a
    /// transaction that it rolls back, so for up to 5 seconds others may wait for these locks.
    #[arg(long, conflicts_with = "print_grants")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
}

/// Options of `distribute`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DistributeArgs {
    /// Print the statements and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
}

/// Refuses an empty address, which comes from a variable that is not set. Others are judged when they are bound.
fn parse_address(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("write a host and a port, such as 127.0.0.1:8000");
    }
    Ok(text.to_owned())
}

/// Reads the variable of a flag that takes no value. An empty variable is the same as none.
fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("write 1, true, yes or on, or else 0, false, no or off"),
    }
}

#[cfg(test)]
mod extreme_tests;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_limit_has_a_variable_with_the_name_of_its_flag() {
        let limits: Vec<_> = Args::command()
            .get_arguments()
            .filter(|argument| argument.get_help_heading() == Some("Limits"))
            .map(|argument| {
                (
                    argument.get_long().unwrap().to_owned(),
                    argument.get_env().unwrap().to_owned(),
                )
            })
            .collect();
        assert_eq!(limits.len(), 28);
        for (flag, variable) in limits {
            let expected = format!("HEALTH_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(variable.to_str(), Some(expected.as_str()), "--{flag}");
        }
    }

    #[test]
    fn the_defaults_of_the_flags_are_the_defaults_of_the_limits() {
        let args = Args::try_parse_from(["health-server"]).unwrap();
        assert_eq!(args.serve.server_limits, ServerLimits::default());
        assert_eq!(args.serve.core_limits, health_core::Limits::default());
    }

    #[test]
    fn the_variable_of_a_switch_turns_it_on_or_off() {
        for text in ["1", "true", "Yes", "on"] {
            assert!(matches!(parse_switch(text), Ok(true)), "{text}");
        }
        for text in ["", "0", "FALSE", "no", "off"] {
            assert!(matches!(parse_switch(text), Ok(false)), "{text}");
        }
        assert!(parse_switch("perhaps").is_err());
        let args = Args::try_parse_from(["health-server", "--allow-anonymous"]).unwrap();
        assert!(args.serve.allow_anonymous);
    }

    #[test]
    fn serve_is_the_default_command() {
        let implied = Args::try_parse_from(["health-server", "--http", "127.0.0.1:0", "--max-body", "1MiB"]).unwrap();
        assert_eq!(implied.serve.http, "127.0.0.1:0");
        assert_eq!(implied.serve.server_limits.max_body, 1 << 20);
        let named = Args::try_parse_from(["health-server", "serve", "--http", "127.0.0.1:0"]).unwrap();
        assert!(matches!(named.command, Some(Command::Serve(serve)) if serve.http == "127.0.0.1:0"));
    }

    #[test]
    fn options_that_cannot_work_are_refused() {
        assert!(Args::try_parse_from(["health-server", "migrate", "--http", "127.0.0.1:0"]).is_err());
        for flag in ["--max-line", "--readers", "--max-connections"] {
            assert!(Args::try_parse_from(["health-server", flag, "0"]).is_err(), "{flag}");
        }
    }
}
