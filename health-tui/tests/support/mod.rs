//! A server that says what a test tells it to, and a terminal that remembers what was drawn.

#![expect(
    dead_code,
    clippy::unwrap_used,
    reason = "support of tests: each file uses its own part, and a failure is a failed test"
)]

pub(crate) mod server;
pub(crate) mod terminal;

use std::{path::Path, time::Duration};

use portable_pty::CommandBuilder;

/// How long anything may take before a test fails: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A process that does not outlive its test.
pub(crate) struct Running(pub(crate) std::process::Child);

impl Running {
    /// Asks it to end, and gives its status.
    pub(crate) fn end(&mut self, signal: &str) -> Option<i32> {
        let pid = self.0.id().to_string();
        assert!(
            std::process::Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

pub(crate) fn tui(args: &[&str]) -> CommandBuilder {
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_health-tui"));
    command.args(args);
    command.env("TERM", "xterm-256color");
    command.env("TZ", "UTC");
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command.env_remove("NO_COLOR");
    command.cwd(Path::new(env!("CARGO_TARGET_TMPDIR")));
    command
}
