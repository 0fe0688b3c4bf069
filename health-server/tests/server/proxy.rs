//! A proxy in front of PostgreSQL that can stop forwarding, like a network that drops every packet, or keep
//! notifications from a server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};
use tokio_postgres::config::Host;

/// Forwards bytes between a TCP port and PostgreSQL.
///
/// While it is paused, connections stay open, bytes wait in the buffers, and none is lost.
pub(crate) struct PausableProxy {
    /// The URL of the database through the proxy.
    pub(crate) url: String,
    sender: watch::Sender<bool>,
    /// How often a server was kept from listening.
    deafened: Arc<AtomicUsize>,
}

/// Text that is replaced on its way to the database.
type Replacement = Option<(&'static [u8], &'static [u8])>;

/// The command that makes a server hear of changed tokens, and one of the same length that does not.
const DEAFEN: Replacement = Some((b"LISTEN health_tokens", b"LISTEN health_nobody"));

impl PausableProxy {
    /// Starts a proxy in front of the database with this URL.
    pub(crate) async fn start(database_url: &str) -> Self {
        Self::replacing(database_url, None).await
    }

    /// Starts a proxy behind which a server gets no notification that tokens have changed.
    pub(crate) async fn deaf_to_tokens(database_url: &str) -> Self {
        Self::replacing(database_url, DEAFEN).await
    }

    async fn replacing(database_url: &str, replacement: Replacement) -> Self {
        let config: tokio_postgres::Config = database_url.parse().unwrap();
        let (host, port) = (
            config.get_hosts()[0].clone(),
            config.get_ports().first().copied().unwrap_or(5432),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "postgres://{}@{}/{}",
            config.get_user().unwrap_or("postgres"),
            listener.local_addr().unwrap(),
            config.get_dbname().unwrap()
        );
        let (sender, paused) = watch::channel(false);
        let deafened = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&deafened);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (client_read, client_write) = client.into_split();
                let (database_read, database_write) = connect(&host, port).await;
                let counter = Arc::clone(&counter);
                let replace = move |bytes: &mut [u8]| replace_in(bytes, replacement, &counter);
                tokio::spawn(forward(client_read, database_write, paused.clone(), replace));
                tokio::spawn(forward(database_read, client_write, paused.clone(), |_| {}));
            }
        });
        Self { url, sender, deafened }
    }

    /// Returns whether the proxy has kept a server from listening. Lets other tasks run first.
    pub(crate) async fn has_deafened(&self) -> bool {
        tokio::task::yield_now().await;
        self.deafened.load(Relaxed) > 0
    }

    pub(crate) fn pause(&self) {
        self.sender.send_replace(true);
    }

    pub(crate) fn resume(&self) {
        self.sender.send_replace(false);
    }
}

/// Connects to the PostgreSQL of the tests: through its Unix socket, or to a coordinator by TCP.
async fn connect(host: &Host, port: u16) -> (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>) {
    match host {
        Host::Unix(directory) => {
            let socket = directory.join(format!(".s.PGSQL.{port}"));
            let (read, write) = UnixStream::connect(socket).await.unwrap().into_split();
            (Box::new(read), Box::new(write))
        }
        Host::Tcp(name) => {
            let (read, write) = TcpStream::connect((name.as_str(), port)).await.unwrap().into_split();
            (Box::new(read), Box::new(write))
        }
    }
}

fn replace_in(bytes: &mut [u8], replacement: Replacement, count: &AtomicUsize) {
    let Some((from, to)) = replacement else { return };
    if let Some(start) = bytes.windows(from.len()).position(|part| part == from) {
        bytes[start..start + to.len()].copy_from_slice(to);
        count.fetch_add(1, Relaxed);
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut paused: watch::Receiver<bool>,
    replace: impl Fn(&mut [u8]),
) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        replace(&mut buffer[..read]);
        if paused.wait_for(|paused| !paused).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
