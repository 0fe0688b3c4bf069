//! A proxy in front of PostgreSQL that can stop forwarding, like a network that drops every packet.

use std::path::PathBuf;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    sync::watch,
};
use tokio_postgres::config::Host;

/// Forwards bytes between a TCP port and the Unix socket of PostgreSQL.
///
/// While it is paused, connections stay open, bytes wait in the buffers, and none is lost.
pub(crate) struct PausableProxy {
    /// The URL of the database through the proxy.
    pub(crate) url: String,
    sender: watch::Sender<bool>,
}

impl PausableProxy {
    /// Starts a proxy in front of the database with this URL.
    pub(crate) async fn start(database_url: &str) -> Self {
        let config: tokio_postgres::Config = database_url.parse().unwrap();
        let Host::Unix(directory) = &config.get_hosts()[0] else {
            panic!("the PostgreSQL of the tests listens on a Unix socket");
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let socket: PathBuf = directory.join(format!(".s.PGSQL.{port}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "postgres://{}@{}/{}",
            config.get_user().unwrap_or("postgres"),
            listener.local_addr().unwrap(),
            config.get_dbname().unwrap()
        );
        let (sender, paused) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (client_read, client_write) = client.into_split();
                let (database_read, database_write) = UnixStream::connect(&socket).await.unwrap().into_split();
                tokio::spawn(forward(client_read, database_write, paused.clone()));
                tokio::spawn(forward(database_read, client_write, paused.clone()));
            }
        });
        Self { url, sender }
    }

    pub(crate) fn pause(&self) {
        self.sender.send_replace(true);
    }

    pub(crate) fn resume(&self) {
        self.sender.send_replace(false);
    }
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut paused: watch::Receiver<bool>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if paused.wait_for(|paused| !paused).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
