//! The other end of the wire, no more than a test needs of it.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything here takes, so that a test that waits in vain fails rather than hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP connection.
pub(crate) struct Http(BufReader<TcpStream>);

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A feed connection.
pub(crate) struct Lines(BufReader<TcpStream>);

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends what may be refused while it is still on its way.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref()).await
    }

    /// No more will come from us.
    pub(crate) async fn finish(&mut self) {
        self.0.get_mut().shutdown().await.unwrap();
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if !body.is_empty() {
            head.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
        }
        self.send(head + "\r\n").await;
        self.send(body).await;
        if method == "HEAD" {
            self.head().await
        } else {
            self.answer().await
        }
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            timeout(PATIENCE, self.0.read_exact(&mut body)).await.unwrap().unwrap();
        } else if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(self.line().await.trim(), 16).unwrap();
                let mut chunk = vec![0; size + 2];
                timeout(PATIENCE, self.0.read_exact(&mut chunk)).await.unwrap().unwrap();
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&chunk[..size]);
            }
        }
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// The next answer to a HEAD: its body does not come, whatever its length.
    pub(crate) async fn head(&mut self) -> Answer {
        let status = self.line().await;
        let status = status
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("no status in {status:?}"))
            .parse()
            .unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_owned(), value.to_owned()));
        }
        Answer {
            status,
            headers,
            body: String::new(),
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn read_rest(&mut self, rest: &mut Vec<u8>) -> std::io::Result<usize> {
        timeout(PATIENCE, self.0.read_to_end(rest)).await.unwrap()
    }

    /// Whether the server has closed, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        // A reset is as closed as it gets.
        timeout(PATIENCE, self.0.fill_buf())
            .await
            .unwrap()
            .map_or(true, <[u8]>::is_empty)
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line))
            .await
            .expect("an answer in time")
            .unwrap();
        line
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The detail of a problem, checked for form.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(problem["type"].is_string() && problem["title"].is_string(), "{self:?}");
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Lines {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// No more will come from us.
    pub(crate) async fn finish(&mut self) {
        self.0.get_mut().shutdown().await.unwrap();
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Value {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line))
            .await
            .expect("an event in time")
            .unwrap();
        assert!(line.ends_with('\n'), "a whole line: {line:?}");
        serde_json::from_str(&line).unwrap()
    }

    /// The name of the next event, and its reason, if it has one.
    pub(crate) async fn told(&mut self) -> (String, String) {
        let event = self.event().await;
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        (text("event"), text("reason"))
    }

    /// Whether the server has closed, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        timeout(PATIENCE, self.0.fill_buf())
            .await
            .unwrap()
            .map_or(true, <[u8]>::is_empty)
    }
}
