//! The live feed: lines over TCP, so that `nc` is a client.

mod command;
mod session;

use std::sync::Arc;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::{app::App, feed::session::Session};

/// What a connection is told that is one too many.
pub(crate) const TOO_MANY_CONNECTIONS: &str = concat!(
    r#"{"event":"error","reason":"too many feed connections are open: try again later"}"#,
    "\n",
    r#"{"event":"bye","reason":"too many feed connections are open"}"#,
    "\n"
);

/// Bytes that the system keeps for a client that does not read; it takes about twice as much. By itself it would go up to
/// some megabytes, which a thousand sleeping readers turn into gigabytes, and into as much copying. At 100 ms there and back it
/// lets more than ten thousand samples a second through.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Serves one connection to its end.
pub(crate) async fn serve(stream: TcpStream, app: Arc<App>) {
    let _open = app.metrics.feed_connections.count();
    if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES) {
        tracing::debug!(%error, "a feed connection keeps the system's own buffer");
    }
    if let Err(error) = Session::new(stream, &app).run().await {
        tracing::debug!(%error, "a feed connection broke");
    }
}
