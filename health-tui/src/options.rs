//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::NonEmptyStringValueParser};
use clap_complete::Shell;
use health_core::client::{ApiToken, Credentials, FeedAddress};

use crate::theme::ThemeName;

/// The options of the dashboard.
///
/// ```no_run
/// # async fn demo() -> Result<(), health_tui::Error> {
/// use health_tui::Options;
///
/// health_tui::run(Options {
///     server: "http://127.0.0.1:8000".to_owned(),
///     ..Options::default()
/// })
/// .await
/// # }
/// ```
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The HTTP address of the server
    #[arg(
        long,
        value_name = "URL",
        env = "HEALTH_SERVER",
        default_value = "http://127.0.0.1:8000",
        value_parser = NonEmptyStringValueParser::new(),
        global = true
    )]
    pub server: String,
    /// The address of the live feed: HOST:PORT, with tls:// or tcp:// before it if it does not use TLS as --server does
    /// [default: port 8001 of the server]
    #[arg(long, value_name = "ADDR", env = "HEALTH_FEED", global = true)]
    pub feed: Option<FeedAddress>,
    /// The API token, if the server requires one; better set the variable, because others can see a command line
    #[arg(long, value_name = "T", env = "HEALTH_TOKEN", hide_env_values = true, global = true)]
    pub token: Option<ApiToken>,
    /// A file with the API token that only its owner can read; --token wins
    #[arg(long, value_name = "FILE", env = "HEALTH_TOKEN_FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// The certificate of a private authority in PEM that has signed the server's [default: the authorities that this
    /// machine trusts]
    #[arg(long, value_name = "FILE", env = "HEALTH_CA", global = true)]
    pub ca: Option<PathBuf>,
    /// Send the token also without TLS to another machine: everybody on the way can read it
    #[arg(long, global = true)]
    pub allow_plain_token: bool,
    /// A file with names for users: on each line an id and a name
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// The time zone of all times, such as Europe/Berlin [default: the time zone of this machine]
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// The theme
    #[arg(
        long,
        value_name = "NAME",
        help = "The theme [default: dark, or mono if NO_COLOR is set]"
    )]
    pub theme: Option<ThemeName>,
    /// Draw only ASCII characters
    #[arg(long)]
    pub ascii: bool,
    /// The most frames a second while data arrives, from 1 to 60; a key press draws at once [default: 10, over SSH 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=60))]
    pub fps: Option<u8>,
    /// The settings file [default: ~/.config/health/tui.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Default for Options {
    /// Returns the defaults of the command line. It does not read the environment variables.
    fn default() -> Self {
        Self {
            server: "http://127.0.0.1:8000".to_owned(),
            feed: None,
            token: None,
            token_file: None,
            ca: None,
            allow_plain_token: false,
            names: None,
            tz: None,
            theme: None,
            ascii: false,
            fps: None,
            config: None,
        }
    }
}

impl Options {
    /// Returns what the options say about the token and trust.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            token: self.token.clone(),
            token_file: self.token_file.clone(),
            ca: self.ca.clone(),
            allow_plain_token: self.allow_plain_token,
        }
    }
}

/// The dashboard of Health: the heart rate, steps and calories of all users as they arrive, and statistics of any time
/// range
#[derive(Debug, Parser)]
#[command(
    name = "health-tui",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Print one line for each reading in place of the dashboard, for pipes and screen readers
    #[arg(long, conflicts_with = "print_config")]
    pub(crate) plain: bool,
    /// Print a settings file with the defaults and exit
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write all samples of the feed to a file until interrupted: NDJSON that `replay` shows and /ingest accepts
    Record {
        /// The new file; an existing file is not overwritten
        file: PathBuf,
    },
    /// Show the samples of a file as if they arrived now: a recording, or an export of GET /samples
    Replay {
        /// The file: NDJSON, one sample on each line
        file: PathBuf,
        /// The speed: 60 shows a minute in a second
        #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = speed)]
        speed: f64,
    },
    /// Print shell completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// Parses a factor from 0.01 to 10 000, with or without an `x` after it.
fn speed(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('x').parse::<f64>() {
        Ok(x) if (0.01..=10_000.0).contains(&x) => Ok(x),
        _ => Err("write a number from 0.01 to 10000, such as 60".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_the_defaults_of_the_library() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["health-tui"]);
        // HEALTH_… variables may be set when the tests run, so only an option without a variable is compared.
        assert_eq!(format!("{:?}", cli.options.tz), format!("{:?}", Options::default().tz));
        let cli = Cli::parse_from(["health-tui", "replay", "a.ndjson", "--speed", "60x"]);
        assert!(matches!(cli.command, Some(Command::Replay { speed, .. }) if (speed - 60.0).abs() < 1e-9));
        assert!(Cli::try_parse_from(["health-tui", "--fps", "0"]).is_err());
        assert!(Cli::try_parse_from(["health-tui", "replay", "f", "--speed", "0"]).is_err());
    }
}
