//! A line to the database that can fall silent: nothing is lost or closed, nothing comes through.

use std::path::PathBuf;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    sync::watch,
};
use tokio_postgres::config::Host;

/// Passes bytes on between a port and a database's socket.
pub(crate) struct Line {
    /// What to connect to in place of the database.
    pub(crate) url: String,
    silent: watch::Sender<bool>,
}

impl Line {
    pub(crate) async fn to(url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().unwrap();
        let Host::Unix(directory) = &config.get_hosts()[0] else {
            panic!("the tests' cluster listens on a socket");
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
        let (silent, heard) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = UnixStream::connect(&socket).await.unwrap().into_split();
                tokio::spawn(pass_on(near_in, far_out, heard.clone()));
                tokio::spawn(pass_on(far_in, near_out, heard.clone()));
            }
        });
        Self { url, silent }
    }

    pub(crate) fn falls_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }
}

async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut silent: watch::Receiver<bool>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if silent.wait_for(|silent| !silent).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
