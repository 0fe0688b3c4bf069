//! The binary, from its arguments to its exit status.

use std::{
    error::Error as _,
    io::{self, Write},
    process::ExitCode,
};

use clap::CommandFactory;
use health_core::flags::parse_command_line;
use tokio::runtime::Runtime;

use crate::{
    config, dashboard,
    error::Error,
    options::{Cli, Command},
    plain, record,
};

/// Runs the command of the command line. Returns the exit status.
pub fn program() -> ExitCode {
    let cli: Cli = parse_command_line();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(&Error::Runtime(error));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run_command(cli));
    // Not dropped: that would wait for a host name that is still being looked up, for up to half a minute.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, as `head` does. That is no failure.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run_command(cli: Cli) -> Result<(), Error> {
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

/// Prints the error and its causes in one line on stderr.
fn print_error(error: &Error) {
    let mut text = format!("health-tui: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.push('\n');
    // If stderr is closed, the exit status still reports the failure.
    _ = io::stderr().write_all(text.as_bytes());
}
