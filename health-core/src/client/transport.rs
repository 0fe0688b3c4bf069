//! Connections to a server. This is the only place that opens one, for the feed and for HTTP.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::tls::{Tls, TlsFault};
use crate::tls_reason::why_failed;

/// The timeout to connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection: bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A connection of any kind.
pub type BoxedStream = Box<dyn ByteStream>;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The operating system reports an error, or there was no answer in time.
    #[error("{}", without_error_code(.0))]
    Io(#[source] io::Error),
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] TlsFault),
}

/// Connects to `host:port`, by TLS if `tls` is given. An IPv6 address stands in brackets.
///
/// # Errors
/// [`ConnectError`], also if the connection or the handshake takes more than [`CONNECT_TIMEOUT`].
pub async fn connect(address: &str, tls: Option<&Tls>) -> Result<BoxedStream, ConnectError> {
    let no_answer = |_| ConnectError::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(no_answer)?
        .map_err(ConnectError::Io)?;
    // Commands and requests are short. The kernel must not wait for more bytes to send with them.
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let stream = timeout(CONNECT_TIMEOUT, tls.handshake(host, stream))
        .await
        .map_err(no_answer)??;
    Ok(Box::new(stream))
}

/// Checks the form of an address, because a typing error should not lead to endless attempts to connect.
///
/// ```
/// assert!(health_core::client::host_and_port("127.0.0.1:8001").is_ok());
/// assert!(health_core::client::host_and_port("127.0.0.1").is_err());
/// ```
///
/// # Errors
/// What to write in place of `text`.
pub fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !host.is_empty() => Ok(text.to_owned()),
        _ => Err("write an address like 127.0.0.1:8001".to_owned()),
    }
}

/// Returns the port in the authority of a URL, such as `127.0.0.1:8000`. `None` if it has none.
///
/// ```
/// use health_core::client::port_of_authority;
///
/// assert_eq!(port_of_authority("health.example"), Ok(None));
/// assert_eq!(port_of_authority("[::1]:8000"), Ok(Some(8000)));
/// assert!(port_of_authority("127.0.0.1:99999").is_err());
/// ```
///
/// # Errors
/// What to write in place of the port, if it is no number from 1 to 65535. Parsers of URLs pass such a port over, and a
/// request with its token would go to the port of the scheme.
pub fn port_of_authority(authority: &str) -> Result<Option<u16>, String> {
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    let after_host = host_and_port.rsplit_once(']').map_or(host_and_port, |(_, rest)| rest);
    let Some((_, port)) = after_host.rsplit_once(':') else {
        return Ok(None);
    };
    match port.parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(format!("`{port}` is not a port: write a number from 1 to 65535")),
    }
}

/// Returns the message of the operating system without `(os error 111)`. An alert of TLS, which may come after the
/// handshake, is explained.
pub fn without_error_code(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return format!("TLS to the server failed: {}", why_failed(error));
    }
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
