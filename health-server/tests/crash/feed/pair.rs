//! Two servers over one database, as those see them who talk to them.

use std::{net::SocketAddr, time::Duration};

use fastrand::Rng;
use health_core::{Cursor, FeedEvent};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::{database::Database, server::Server};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// So few that readers are told that they are too slow.
const QUEUE: &str = "200";

/// Where the two are, of those that are up.
#[derive(Debug, Clone)]
pub(crate) struct Addresses(watch::Receiver<[Option<Address>; 2]>);

/// Where one server is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) http: SocketAddr,
    pub(crate) feed: SocketAddr,
}

#[derive(Default)]
pub(crate) struct Pair {
    servers: [Option<Server>; 2],
    addresses: watch::Sender<[Option<Address>; 2]>,
}

impl Pair {
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses(self.addresses.subscribe())
    }

    /// As a machine does that loses its power.
    pub(crate) async fn kill(&mut self, place: usize) {
        if let Some(server) = self.servers[place].take() {
            server.kill().await;
        }
        self.addresses.send_modify(|addresses| addresses[place] = None);
    }

    /// Starts those that are not there.
    pub(crate) async fn start_missing(&mut self, database: &Database) {
        let log = database.directory().join("server.log");
        for place in 0..2 {
            if self.servers[place].is_none() {
                let url = database.url();
                let arguments = ["--database-url", &url, "--subscriber-queue", QUEUE];
                let server = Server::start(&arguments, &log).await;
                let address = Address {
                    http: server.http(),
                    feed: server.feed(),
                };
                self.servers[place] = Some(server);
                self.addresses.send_modify(|addresses| addresses[place] = Some(address));
            }
        }
    }

    /// The cursor that one of them greets with.
    pub(crate) async fn greeting(&self, place: usize) -> Cursor {
        let address = self.servers[place].as_ref().unwrap().feed();
        let mut hello = String::new();
        let mut lines = BufReader::new(TcpStream::connect(address).await.unwrap());
        lines.read_line(&mut hello).await.unwrap();
        match serde_json::from_str(&hello).unwrap() {
            FeedEvent::Hello { cursor, .. } => cursor,
            other => panic!("no greeting: {other:?}"),
        }
    }
}

impl Addresses {
    /// One of those that are up, as soon as there is one.
    pub(crate) async fn any(&mut self, rng: &mut Rng) -> Address {
        let up = |addresses: &[Option<Address>; 2]| addresses.iter().flatten().copied().collect::<Vec<_>>();
        let some = timeout(PATIENCE, self.0.wait_for(|addresses| !up(addresses).is_empty()));
        let addresses = up(&some.await.expect("a server in time").unwrap());
        addresses[rng.usize(..addresses.len())]
    }
}
