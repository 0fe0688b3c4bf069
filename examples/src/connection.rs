//! A minimal HTTP client for benches: a full client would take CPU time from the server on the same machine.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::Result;

/// A kept-alive connection that sends one request at a time and expects `200 OK`.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    response: Vec<u8>,
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    /// An I/O error if the server does not accept the connection.
    pub async fn open(http: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(http).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            response: Vec::new(),
        })
    }

    /// Sends a part of a request, as it is.
    ///
    /// # Errors
    /// An I/O error if the connection fails.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Requests a path and waits for the whole response.
    ///
    /// # Errors
    /// See [`Connection::expect_ok`].
    pub async fn get(&mut self, path: &str) -> Result<()> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
            .await?;
        self.expect_ok().await
    }

    /// Posts a body to `/ingest` and waits for the whole response.
    ///
    /// # Errors
    /// See [`Connection::expect_ok`].
    pub async fn ingest(&mut self, media_type: &str, body: &[u8]) -> Result<()> {
        let head = ingest_head(media_type, &format!("Content-Length: {}", body.len()));
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
        self.send(ingest_head(media_type, "Transfer-Encoding: chunked").as_bytes())
            .await?;
        for chunk in chunks {
            self.send(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes())
                .await?;
        }
        self.send(b"0\r\n\r\n").await?;
        self.expect_ok().await
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

fn ingest_head(media_type: &str, length: &str) -> String {
    format!("POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n{length}\r\n\r\n")
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
