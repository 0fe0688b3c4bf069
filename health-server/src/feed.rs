//! The live feed: JSON lines over TCP, so that `nc` is a client.

mod access;
mod command;
mod lines;
mod session;

use std::sync::Arc;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::{
    acceptor::{ConnectionLimit, peer_ip},
    app::App,
    feed::session::Session,
    tls::{Port, secure},
};

/// The system's send buffer of one connection; the system uses about twice as much memory.
///
/// By default the buffer of a client that does not read would grow to several megabytes: gigabytes for a thousand
/// such clients, and as many samples to write before they stall. With 64 KiB and a round trip of 100 ms, some 5000 samples
/// a second still reach a client.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Returns the lines that a connection over a limit of open connections receives before it is closed.
pub(crate) fn refusal(limit: ConnectionLimit) -> Vec<u8> {
    let reason = match limit {
        ConnectionLimit::Total => "too many feed connections are open",
        ConnectionLimit::OfAddress => "too many feed connections from your network are open",
    };
    last_lines(&format!("{reason}: try again later"), reason)
}

/// Returns the lines for a client that does not speak TLS.
fn plain_text_refusal() -> Vec<u8> {
    let error = "this port speaks TLS: connect with TLS, for example tls://HOST:PORT";
    last_lines(error, "this port speaks TLS")
}

/// Returns an `error` and a `bye`.
fn last_lines(error: &str, bye: &str) -> Vec<u8> {
    let [error, bye] =
        [("error", error), ("bye", bye)].map(|(event, reason)| serde_json::json!({"event": event, "reason": reason}));
    format!("{error}\n{bye}\n").into_bytes()
}

/// Serves one connection until it ends.
pub(crate) async fn serve(stream: TcpStream, app: Arc<App>) {
    let _connection = app.metrics.feed_connections.increment();
    if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES) {
        tracing::debug!(%error, "cannot limit the send buffer of a feed connection");
    }
    let peer = peer_ip(&stream);
    let stream = tokio::select! {
        secured = secure(stream, app.tls.as_deref(), Port::Feed, plain_text_refusal) => match secured {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, %peer, "a feed connection did not complete its TLS handshake");
                return;
            }
        },
        () = app.closing.cancelled() => return,
    };
    if let Err(error) = Session::new(stream, peer, &app).run().await {
        tracing::debug!(%error, "a feed connection failed");
    }
}
