//! What the binary does, from its arguments to its exit status.

use std::{
    error::Error as _,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use crate::{dashboard, error::Error, options::Cli};

/// Reads the command line and does what it says.
pub async fn program() -> ExitCode {
    let cli = Cli::parse();
    match dashboard::run(cli.options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes in one line on stderr.
fn tell(error: &Error) {
    let mut text = format!("health-tui: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.push('\n');
    // With stderr closed there is nobody to tell.
    _ = io::stderr().write_all(text.as_bytes());
}
