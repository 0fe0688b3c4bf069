//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::theme::ThemeName;

/// How to run the dashboard.
///
/// ```no_run
/// # async fn demo() -> Result<(), health_tui::Error> {
/// use health_tui::Options;
///
/// health_tui::run(Options {
///     server: "http://127.0.0.1:8000".to_owned(),
///     feed: "127.0.0.1:8001".to_owned(),
///     ..Options::default()
/// })
/// .await
/// # }
/// ```
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server's HTTP address
    #[arg(
        long,
        value_name = "URL",
        env = "HEALTH_SERVER",
        default_value = "http://127.0.0.1:8000",
        global = true
    )]
    pub server: String,
    /// The address of the server's live feed
    #[arg(
        long,
        value_name = "ADDR",
        env = "HEALTH_FEED",
        default_value = "127.0.0.1:8001",
        global = true
    )]
    pub feed: String,
    /// The API token, where the server asks for one
    #[arg(long, value_name = "T", env = "HEALTH_TOKEN", hide_env_values = true, global = true)]
    pub token: Option<String>,
    /// Names for users: one a line, the id and then the name
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// The zone of all times, such as Europe/Berlin [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// The colours
    #[arg(
        long,
        value_name = "NAME",
        help = "The colours [default: dark, or mono where NO_COLOR is set]"
    )]
    pub theme: Option<ThemeName>,
    /// Draw with ASCII alone
    #[arg(long)]
    pub ascii: bool,
    /// Frames a second at most while data arrives, 1 to 60; keys are drawn at once [default: 10, over SSH 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=60))]
    pub fps: Option<u8>,
    /// The settings file [default: ~/.config/health/tui.toml, where there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Default for Options {
    /// The defaults of the command line, without a look at the environment.
    fn default() -> Self {
        Self {
            server: "http://127.0.0.1:8000".to_owned(),
            feed: "127.0.0.1:8001".to_owned(),
            token: None,
            names: None,
            tz: None,
            theme: None,
            ascii: false,
            fps: None,
            config: None,
        }
    }
}

/// The dashboard of Health: everyone's heart rate, steps and calories as they arrive, and statistics over any range
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
    /// No dashboard: a line for each reading, for pipes and screen readers
    #[arg(long, conflicts_with = "print_config")]
    pub(crate) plain: bool,
    /// Print a settings file with the defaults, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write every reading of the feed to a file, until interrupted: NDJSON that can be replayed, and posted to /ingest
    Record {
        /// The file; it must not exist yet
        file: PathBuf,
    },
    /// Show a file of readings as if they arrived now: a recording, or what GET /samples gave
    Replay {
        /// NDJSON, one sample a line
        file: PathBuf,
        /// How many times faster than it was
        #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = speed)]
        speed: f64,
    },
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
    /// Print the table of keys for the README
    #[command(hide = true)]
    Keys,
    /// Draw the pictures of the README into a directory
    #[command(hide = true)]
    Pictures {
        /// The directory
        dir: PathBuf,
    },
}

/// From a hundredth to ten thousand times.
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
    fn the_command_line_is_sound_and_its_defaults_are_those_of_the_library() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["health-tui"]);
        // HEALTH_… variables of whoever runs the tests may be set: only what has none is compared.
        assert_eq!(format!("{:?}", cli.options.tz), format!("{:?}", Options::default().tz));
        let cli = Cli::parse_from(["health-tui", "replay", "a.ndjson", "--speed", "60x"]);
        assert!(matches!(cli.command, Some(Command::Replay { speed, .. }) if (speed - 60.0).abs() < 1e-9));
        assert!(Cli::try_parse_from(["health-tui", "--fps", "0"]).is_err());
        assert!(Cli::try_parse_from(["health-tui", "replay", "f", "--speed", "0"]).is_err());
    }
}
