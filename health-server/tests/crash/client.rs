//! An HTTP client that expects its server to be killed at any moment.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// Longer than any response takes on a busy machine. A server that is alive but does not respond fails the test.
const TIMEOUT: Duration = Duration::from_mins(2);

/// One keep-alive connection. Its methods return an error if the server is killed or restarts.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Posts a body to `/ingest`. Returns the status and the JSON of the response.
    pub(crate) async fn post(&mut self, media_type: &str, body: &[u8]) -> io::Result<(u16, Value)> {
        let length = body.len();
        let head = format!(
            "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
        );
        self.0.get_mut().write_all(head.as_bytes()).await?;
        self.0.get_mut().write_all(body).await?;
        self.response().await
    }

    /// Returns the status and the JSON of the response.
    pub(crate) async fn get(&mut self, path: &str) -> io::Result<(u16, Value)> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes()).await?;
        self.response().await
    }

    /// Sends a `DELETE`. Returns the status.
    pub(crate) async fn delete(&mut self, path: &str) -> io::Result<u16> {
        let head = format!("DELETE {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes()).await?;
        let response = timeout(TIMEOUT, self.read_response()).await;
        Ok(response.expect("a response in time")?.0)
    }

    /// Returns the body of a response that is not JSON.
    pub(crate) async fn get_text(&mut self, path: &str) -> io::Result<String> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes()).await?;
        let (_, body) = timeout(TIMEOUT, self.read_response())
            .await
            .expect("a response in time")?;
        String::from_utf8(body).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    async fn response(&mut self) -> io::Result<(u16, Value)> {
        let (status, body) = timeout(TIMEOUT, self.read_response())
            .await
            .expect("a response in time")?;
        Ok((status, serde_json::from_slice(&body)?))
    }

    async fn read_response(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let status = self.line().await?.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let mut length = 0;
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            if name == "content-length" {
                length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        Ok((status, body))
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }
}

/// Returns records of a user as NDJSON, one for each second.
pub(crate) fn records(user: i64, count: i64) -> String {
    let record = |second: i64| {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{{\"user_id\":{user},\"timestamp\":\"2025-03-02T{hour:02}:{minute:02}:{second:02}Z\",\"steps\":1}}\n")
    };
    (0..count).map(record).collect()
}
