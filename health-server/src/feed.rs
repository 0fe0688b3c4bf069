//! The live feed: lines over TCP, so that `nc` is a client.

mod command;
mod session;

use std::sync::Arc;

use tokio::net::TcpStream;

use crate::{app::App, feed::session::Session};

/// What a connection is told that is one too many.
pub(crate) const TOO_MANY_CONNECTIONS: &str = concat!(
    r#"{"event":"error","reason":"too many feed connections are open: try again later"}"#,
    "\n",
    r#"{"event":"bye","reason":"too many feed connections are open"}"#,
    "\n"
);

/// Serves one connection to its end.
pub(crate) async fn serve(stream: TcpStream, app: Arc<App>) {
    let _open = app.metrics.feed_connections.count();
    if let Err(error) = Session::new(stream, &app).run().await {
        tracing::debug!(%error, "a feed connection broke");
    }
}
