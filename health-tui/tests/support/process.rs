//! A program whose standard input and output the test chooses.

use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufRead, Lines},
    process::{Child, Command},
    time::timeout,
};

use super::{ENVIRONMENT, TIMEOUT};

/// Returns the command that runs the program, with an environment that is the same on every machine.
pub(crate) fn health_tui(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_health-tui"));
    command.args(args).env_clear().envs(ENVIRONMENT);
    command
}

/// Waits for the next line of an output. Returns `None` at its end.
pub(crate) async fn next_line<R: AsyncBufRead + Unpin>(lines: &mut Lines<R>) -> Option<String> {
    let line = timeout(TIMEOUT, lines.next_line()).await;
    line.expect("the program writes no line").unwrap()
}

/// A program that ends with its test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        Self(command.kill_on_drop(true).spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.0.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    pub(crate) async fn wait(&mut self) -> ExitStatus {
        timeout(TIMEOUT, self.0.wait())
            .await
            .expect("the program does not end")
            .unwrap()
    }
}
