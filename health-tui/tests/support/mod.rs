//! A fake server that a test controls, and a pseudo-terminal whose screen a test can read.

#![expect(
    dead_code,
    clippy::unwrap_used,
    reason = "support of tests: each file uses its own part, and a failure is a failed test"
)]

pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod stopped_terminal;
pub(crate) mod terminal;

use std::{path::Path, time::Duration};

use portable_pty::CommandBuilder;

/// The longest time that a test waits for anything. The machine may be busy with other tests.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(90);

/// The variables of every program that a test starts. Others, such as the locale, are those of the machine, and not
/// passed on.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    ("TERM", "xterm-256color"),
    ("TZ", "UTC"),
    ("XDG_CONFIG_HOME", "/nonexistent"),
];

/// Returns the command that runs the dashboard, with an environment that is the same on every machine.
pub(crate) fn tui(args: &[&str]) -> CommandBuilder {
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_health-tui"));
    command.args(args);
    command.env_clear();
    for (name, value) in ENVIRONMENT {
        command.env(name, value);
    }
    command.cwd(Path::new(env!("CARGO_TARGET_TMPDIR")));
    command
}
