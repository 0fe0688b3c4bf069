//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::limits::Limits;

/// Takes wearable readings over HTTP, keeps them in PostgreSQL, answers for them, and streams them live over TCP.
#[derive(Debug, Parser)]
#[command(
    name = "health-server",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring the schema up to date and serve; the same as no command at all
    Serve(Box<Serve>),
    /// Bring the schema up to date and end
    Migrate(Database),
}

/// Where to serve, and what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Serve {
    /// Where to serve HTTP; port 0 takes any that is free
    #[arg(long, env = "HEALTH_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub(crate) http: String,
    /// Where to serve the live feed
    #[arg(long, env = "HEALTH_FEED", value_name = "ADDR", default_value = "127.0.0.1:8001")]
    pub(crate) feed: String,
    /// Serve whoever can reach the addresses, also where they are not loopback
    #[arg(long, env = "HEALTH_ALLOW_ANONYMOUS", value_parser = yes_or_no)]
    pub(crate) allow_anonymous: bool,
    #[command(flatten)]
    pub(crate) database: Database,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// Which database.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Database {
    /// The PostgreSQL to use, such as `postgres://user:password@host/health_db`; without it, one of our own is kept
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// Where the PostgreSQL of our own keeps its data
    #[arg(long, env = "HEALTH_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// What a variable says that stands for a flag; an empty one says nothing.
fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("it is 1, true, yes or on, or else 0, false, no or off"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_limit_has_a_flag_and_a_variable_named_alike() {
        for argument in Args::command()
            .get_arguments()
            .filter(|argument| argument.get_help_heading() == Some("Limits"))
        {
            let flag = argument.get_long().unwrap();
            let variable = format!("HEALTH_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|name| name.to_str()),
                Some(variable.as_str()),
                "--{flag}"
            );
        }
    }

    #[test]
    fn a_flags_variable_says_yes_or_no() {
        for text in ["1", "true", "Yes", "on"] {
            assert!(matches!(yes_or_no(text), Ok(true)), "{text}");
        }
        for text in ["", "0", "FALSE", "no", "off"] {
            assert!(matches!(yes_or_no(text), Ok(false)), "{text}");
        }
        assert!(yes_or_no("perhaps").is_err());
        assert!(
            Args::try_parse_from(["health-server", "--allow-anonymous"])
                .unwrap()
                .serve
                .allow_anonymous
        );
    }

    #[test]
    fn serve_is_what_happens_without_a_command() {
        let bare = Args::try_parse_from(["health-server", "--http", "127.0.0.1:0", "--max-body", "1MiB"]).unwrap();
        assert_eq!(bare.serve.http, "127.0.0.1:0");
        let named = Args::try_parse_from(["health-server", "serve", "--http", "127.0.0.1:0"]).unwrap();
        assert!(matches!(named.command, Some(Command::Serve(serve)) if serve.http == "127.0.0.1:0"));
        assert!(Args::try_parse_from(["health-server", "migrate", "--http", "127.0.0.1:0"]).is_err());
        for flag in ["--max-line", "--readers", "--max-connections"] {
            assert!(Args::try_parse_from(["health-server", flag, "0"]).is_err(), "{flag}");
        }
    }
}
