//! The command line.

use clap::{Args, Parser};

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
        default_value = "http://127.0.0.1:8000"
    )]
    pub server: String,
    /// The address of the server's live feed
    #[arg(long, value_name = "ADDR", env = "HEALTH_FEED", default_value = "127.0.0.1:8001")]
    pub feed: String,
    /// The API token, where the server asks for one
    #[arg(long, value_name = "T", env = "HEALTH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The colours; NO_COLOR chooses mono
    #[arg(long, value_name = "NAME")]
    pub theme: Option<ThemeName>,
    /// Draw with ASCII alone
    #[arg(long)]
    pub ascii: bool,
    /// Frames a second at most while data arrives; keys are drawn at once [default: 10, over SSH 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=60))]
    pub fps: Option<u8>,
}

impl Default for Options {
    /// The defaults of the command line, without a look at the environment.
    fn default() -> Self {
        Self {
            server: "http://127.0.0.1:8000".to_owned(),
            feed: "127.0.0.1:8001".to_owned(),
            token: None,
            theme: None,
            ascii: false,
            fps: None,
        }
    }
}

/// The dashboard of Health: everyone's heart rate, steps and calories as they arrive, and statistics over any range
#[derive(Debug, Parser)]
#[command(name = "health-tui", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
}
