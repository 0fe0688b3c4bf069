//! The program `health-server` in a process of its own.

use std::{fs::File, net::SocketAddr, path::Path, process::ExitStatus};

use test_support::{Addresses, TestProcess};

/// A running `health-server` on free ports.
pub(crate) struct Server {
    process: TestProcess,
    addresses: Addresses,
}

impl Server {
    /// Starts the program on free ports and waits until it serves. Its log is appended to a file.
    pub(crate) async fn start(arguments: &[&str], log: &Path) -> Self {
        Self::start_at("127.0.0.1:0", arguments, log).await
    }

    /// Does the same with a given address of HTTP.
    pub(crate) async fn start_at(http: &str, arguments: &[&str], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let program = env!("CARGO_BIN_EXE_health-server");
        let (process, addresses) = TestProcess::health_server(program, http, arguments, log).await;
        Self { process, addresses }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.addresses.http
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Returns the highest amount of memory that the process has used so far, in MiB.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }

    /// Kills the process with SIGKILL: no code of the program runs after it, as if the machine had lost its power.
    pub(crate) async fn kill(self) {
        self.process.kill().await;
    }

    /// Asks the process to end with SIGTERM, and waits for its end.
    pub(crate) async fn stop(self) -> ExitStatus {
        self.process.stop().await
    }

    /// Waits until the process ends by itself.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        self.process.wait().await
    }
}
