//! A program whose standard input and output the test chooses.

use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::TIMEOUT;

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
