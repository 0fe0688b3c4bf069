//! A minimal HTTP client for benches: a full client would take CPU time from the server on the same machine.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tokio_util::either::Either;

use crate::Result;

/// A kept-alive connection that sends one request at a time and expects `200 OK`.
#[derive(Debug)]
pub struct Connection {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    /// The header with the token, or nothing.
    authorization: String,
    response: Vec<u8>,
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    /// An I/O error if the server does not accept the connection.
    pub async fn open(http: SocketAddr) -> Result<Self> {
        Ok(Self::over(Either::Left(connect(http).await?)))
    }

    /// Connects to a server with TLS, whose certificate names `localhost`.
    ///
    /// # Errors
    /// An I/O error if the server does not accept the connection, or the handshake fails.
    pub async fn open_tls(http: SocketAddr, config: Arc<ClientConfig>) -> Result<Self> {
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(config).connect(name, connect(http).await?).await?;
        Ok(Self::over(Either::Right(Box::new(stream))))
    }

    /// Sends this token with each request.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.authorization = format!("Authorization: Bearer {token}\r\n");
        self
    }

    fn over(stream: Either<TcpStream, Box<TlsStream<TcpStream>>>) -> Self {
        Self {
            stream,
            authorization: String::new(),
            response: Vec::new(),
        }
    }

    /// Sends a part of a request, as it is.
    ///
    /// # Errors
    /// An I/O error if the connection fails.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        // A TLS stream buffers.
        Ok(self.stream.flush().await?)
    }

    /// Requests a path and waits for the whole response.
    ///
    /// # Errors
    /// See [`Connection::expect_ok`].
    pub async fn get(&mut self, path: &str) -> Result<()> {
        let authorization = &self.authorization;
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
        self.send(head.as_bytes()).await?;
        self.expect_ok().await
    }

    /// Posts a body to `/ingest` and waits for the whole response.
    ///
    /// # Errors
    /// See [`Connection::expect_ok`].
    pub async fn ingest(&mut self, media_type: &str, body: &[u8]) -> Result<()> {
        let head = self.ingest_head(media_type, &format!("Content-Length: {}", body.len()));
        // A small request is one packet, as from any other client.
        if body.len() < 1024 {
            self.send(&[head.as_bytes(), body].concat()).await?;
        } else {
            self.send(head.as_bytes()).await?;
            self.send(body).await?;
        }
        self.expect_ok().await
    }

    /// Posts a body to `/ingest` in chunks, which are made while the body is sent.
    ///
    /// # Errors
    /// See [`Connection::expect_ok`].
    pub async fn ingest_stream(&mut self, media_type: &str, chunks: impl Iterator<Item = String>) -> Result<()> {
        let head = self.ingest_head(media_type, "Transfer-Encoding: chunked");
        self.send(head.as_bytes()).await?;
        for chunk in chunks {
            self.send(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes())
                .await?;
        }
        self.send(b"0\r\n\r\n").await?;
        self.expect_ok().await
    }

    fn ingest_head(&self, media_type: &str, length: &str) -> String {
        let authorization = &self.authorization;
        format!(
            "POST /ingest HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Type: {media_type}\r\n{length}\r\n\r\n"
        )
    }

    /// Waits for a whole response with a `Content-Length`.
    ///
    /// # Errors
    /// An I/O error if the connection fails, or the whole response if it is not `200 OK`.
    async fn expect_ok(&mut self) -> Result<()> {
        self.response.clear();
        let mut length = None;
        while length.is_none_or(|length| self.response.len() < length) {
            if self.stream.read_buf(&mut self.response).await? == 0 {
                return Err("the server closed the connection before its response was complete".into());
            }
            length = length.or_else(|| response_length(&self.response));
        }
        if self.response.starts_with(b"HTTP/1.1 200") {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&self.response).into())
        }
    }
}

async fn connect(http: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(http).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns the length of head and body together, or `None` if the head is not complete.
fn response_length(response: &[u8]) -> Option<usize> {
    let head = response.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(response.get(..head)?);
    let body = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    Some(head + 4 + body.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_response_is_known_once_its_head_is_complete() {
        assert_eq!(response_length(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), None);
        assert_eq!(
            response_length(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
            Some(40)
        );
        assert_eq!(response_length(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(27));
    }
}
