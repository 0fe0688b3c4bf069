//! Two servers over one database, each of which may be down.

use std::time::Duration;

use fastrand::Rng;
use health_core::{Cursor, FeedEvent};
use test_support::Addresses;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::{database::Database, server::Server};

/// Longer than anything takes that the test waits for, also on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(2);

/// A small subscriber queue, so that subscribers miss samples and have to resume.
const SUBSCRIBER_QUEUE: &str = "200";

/// The two servers.
#[derive(Default)]
pub(crate) struct TwoServers {
    servers: [Option<Server>; 2],
    addresses: watch::Sender<[Option<Addresses>; 2]>,
}

/// The addresses of the servers that currently run.
#[derive(Debug, Clone)]
pub(crate) struct RunningServers(watch::Receiver<[Option<Addresses>; 2]>);

impl TwoServers {
    pub(crate) fn running(&self) -> RunningServers {
        RunningServers(self.addresses.subscribe())
    }

    /// Kills a server with SIGKILL, if it runs.
    pub(crate) async fn kill(&mut self, index: usize) {
        if let Some(server) = self.servers[index].take() {
            server.kill().await;
        }
        self.addresses.send_modify(|addresses| addresses[index] = None);
    }

    /// Starts each server that does not run.
    pub(crate) async fn start_missing(&mut self, database: &Database) {
        let log = database.directory().join("server.log");
        let url = database.url();
        let arguments = ["--database-url", &url, "--subscriber-queue", SUBSCRIBER_QUEUE];
        for (index, slot) in self.servers.iter_mut().enumerate() {
            if slot.is_none() {
                let server = slot.insert(Server::start(&arguments, &log).await);
                let running = server.addresses();
                self.addresses.send_modify(|addresses| addresses[index] = Some(running));
            }
        }
    }

    /// Returns the cursor in the `hello` of a server.
    pub(crate) async fn hello_cursor(&self, index: usize) -> Cursor {
        let address = self.servers[index].as_ref().unwrap().addresses().feed;
        let mut feed = BufReader::new(TcpStream::connect(address).await.unwrap());
        let mut line = String::new();
        feed.read_line(&mut line).await.unwrap();
        match serde_json::from_str(&line).unwrap() {
            FeedEvent::Hello { cursor, .. } => cursor,
            other => panic!("expected hello, got {other:?}"),
        }
    }
}

impl RunningServers {
    /// Returns a random running server, as soon as one runs.
    pub(crate) async fn any(&mut self, rng: &mut Rng) -> Addresses {
        let some_run = self.0.wait_for(|servers| servers.iter().any(Option::is_some));
        let servers = *timeout(TIMEOUT, some_run).await.expect("a server in time").unwrap();
        let running: Vec<Addresses> = servers.into_iter().flatten().collect();
        running[rng.usize(..running.len())]
    }
}
