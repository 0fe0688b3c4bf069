//! The server's process.

use std::{fs::File, net::SocketAddr, path::Path};

use test_support::{Addresses, Signal, TestProcess};

pub(crate) struct Server {
    process: TestProcess,
    addresses: Addresses,
}

impl Server {
    /// Starts a server and waits until it serves. Its log is a file in `directory`.
    pub(crate) async fn start(database_url: &str, directory: &Path) -> Self {
        Self::start_with(&["--database-url", database_url], directory).await
    }

    /// Starts a server with these arguments, which name its database.
    pub(crate) async fn start_with(arguments: &[&str], directory: &Path) -> Self {
        let log = directory.join("server.log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let program = env!("CARGO_BIN_EXE_health-server");
        let (process, addresses) = TestProcess::health_server(program, "127.0.0.1:0", arguments, log).await;
        Self { process, addresses }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.addresses.http
    }

    pub(crate) fn feed(&self) -> SocketAddr {
        self.addresses.feed
    }

    /// Ends the server in order.
    pub(crate) async fn stop(self) {
        assert!(self.process.stop().await.success());
    }

    /// Ends the server as a loss of power does.
    pub(crate) async fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait().await;
    }
}
