//! The live feed: one implementation of subscribing, resuming, lagging and ending, with two encodings.
//!
//! JSON lines over TCP, so that `nc` is a client, are served here. Server-sent events, so that a browser is one, are
//! served by `http/feed.rs`.

pub(crate) mod access;
mod command;
pub(crate) mod encoding;
mod lines;
mod login;
pub(crate) mod outbox;
mod session;
pub(crate) mod subscribe;

use std::{sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::{
    acceptor::peer_ip,
    app::App,
    connection_slots::{ConnectionLimit, ConnectionSlot},
    feed::session::Session,
    tls::{Port, secure},
};

/// The system's send buffer of one connection; the system uses about twice as much memory.
///
/// By default the buffer of a client that does not read would grow to several megabytes: gigabytes for a thousand
/// such clients, and as many samples to write before they stall. With 64 KiB and a round trip of 100 ms, some 5000
/// samples a second still reach a client.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// How long a client may take to read its last events.
pub(crate) const BYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Limits the system's send buffer of a connection.
pub(crate) fn limit_send_buffer(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_send_buffer_size(SEND_BUFFER_BYTES) {
        tracing::debug!(%error, "cannot limit the send buffer of a feed connection");
    }
}

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
pub(crate) async fn serve(stream: TcpStream, _slot: ConnectionSlot, app: Arc<App>) {
    let _connection = app.metrics.feed_connections.increment();
    limit_send_buffer(&stream);
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
