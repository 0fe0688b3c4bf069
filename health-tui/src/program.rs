//! What the binary does, from its arguments to its exit status.

use std::{
    error::Error as _,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};

use crate::{
    config, dashboard,
    error::Error,
    options::{Cli, Command},
    plain, record,
};

/// Reads the command line and does what it says.
pub async fn program() -> ExitCode {
    match act(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has had enough (`| head`): that is no failure.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

async fn act(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Some(Command::Record { file }) => record::run(&cli.options, &file).await,
        Some(Command::Replay { file, speed }) => dashboard::replay(cli.options, &file, speed).await,
        Some(Command::Completions { shell }) => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "health-tui", &mut out);
            print(&out)
        }
        Some(Command::Man) => {
            let mut out = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut out)
                .map_err(Error::Output)?;
            print(&out)
        }
        None if cli.print_config => print(config::print().as_bytes()),
        None if cli.plain => plain::run(&cli.options).await,
        None => dashboard::run(cli.options).await,
    }
}

fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::Output)
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
