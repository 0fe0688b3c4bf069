//! Minimal clients for HTTP and the feed.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// Longer than any response takes on a busy machine, so that a test whose response never comes fails instead of
/// hanging.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A keep-alive HTTP connection.
pub(crate) struct HttpConnection(BufReader<TcpStream>);

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A feed connection.
pub(crate) struct FeedConnection(BufReader<TcpStream>);

/// A stream of server-sent events, with what was read of it already.
pub(crate) struct EventStream {
    connection: HttpConnection,
    pub(crate) head: Response,
    unread: String,
}

/// A server-sent event.
#[derive(Debug, PartialEq)]
pub(crate) struct StreamEvent {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl HttpConnection {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends bytes that the server may refuse before all of them have arrived.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref()).await
    }

    /// Sends a chunk of a body in the chunked transfer coding.
    pub(crate) async fn send_chunk(&mut self, text: &str) {
        self.send(format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    /// Closes the sending side of the connection.
    pub(crate) async fn finish(&mut self) {
        self.0.get_mut().shutdown().await.unwrap();
    }

    /// Sends a request and returns its response.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let declares_length = headers.iter().any(|(name, _)| *name == "content-length");
        if !declares_length && (method == "POST" || !body.is_empty()) {
            head.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
        }
        self.send(head + "\r\n").await;
        self.send(body).await;
        if method == "HEAD" {
            self.response_head().await
        } else {
            self.response().await
        }
    }

    /// Returns the next response.
    pub(crate) async fn response(&mut self) -> Response {
        let mut response = self.response_head().await;
        let mut body = Vec::new();
        if let Some(length) = response.header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            timeout(TIMEOUT, self.0.read_exact(&mut body)).await.unwrap().unwrap();
        } else if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    break;
                }
                body.extend_from_slice(&chunk);
            }
        }
        response.body = String::from_utf8(body).unwrap();
        response
    }

    /// Returns the head of the next response. A response to HEAD has no body, whatever its `content-length`.
    pub(crate) async fn response_head(&mut self) -> Response {
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
        Response {
            status,
            headers,
            body: String::new(),
        }
    }

    /// Returns the next chunk of a chunked body. The last one is empty.
    async fn chunk(&mut self) -> Vec<u8> {
        let size = usize::from_str_radix(self.line().await.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        timeout(TIMEOUT, self.0.read_exact(&mut chunk)).await.unwrap().unwrap();
        chunk.truncate(size);
        chunk
    }

    /// Reads until the connection ends.
    pub(crate) async fn read_rest(&mut self, rest: &mut Vec<u8>) -> std::io::Result<usize> {
        timeout(TIMEOUT, self.0.read_to_end(rest)).await.unwrap()
    }

    /// Waits for the server, and returns whether it closed the connection without sending another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        // A reset connection is closed, too.
        timeout(TIMEOUT, self.0.fill_buf())
            .await
            .unwrap()
            .map_or(true, <[u8]>::is_empty)
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(TIMEOUT, self.0.read_line(&mut line))
            .await
            .expect("a response in time")
            .unwrap();
        line
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body, parsed as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the form of a problem response (RFC 9457) and returns its detail.
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

impl EventStream {
    /// Requests a stream and reads the head of the response.
    pub(crate) async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut connection = HttpConnection::connect(address).await;
        let mut head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        connection.send(head + "\r\n").await;
        let head = connection.response_head().await;
        Self::after(connection, head)
    }

    /// The stream of which the head was read.
    pub(crate) fn after(connection: HttpConnection, head: Response) -> Self {
        Self {
            connection,
            head,
            unread: String::new(),
        }
    }

    /// Returns the next block of lines, without the empty line that ends it, or `None` after the last one.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.unread = rest;
                return Some(block);
            }
            let chunk = self.connection.chunk().await;
            if chunk.is_empty() {
                assert_eq!(self.unread, "", "the stream ends with a whole event");
                return None;
            }
            self.unread += &String::from_utf8(chunk).unwrap();
        }
    }

    /// Returns the next event that is no heartbeat, see [`FeedConnection::event`].
    pub(crate) async fn event(&mut self) -> StreamEvent {
        let next = async {
            loop {
                let event = self.event_or_heartbeat().await;
                if event.name != "heartbeat" {
                    return event;
                }
            }
        };
        timeout(TIMEOUT, next).await.expect("an event in time")
    }

    /// Returns the next event.
    pub(crate) async fn event_or_heartbeat(&mut self) -> StreamEvent {
        let block = self.block().await.expect("an event");
        let field = |name: &str| {
            let mut lines = block.lines().filter_map(|line| line.strip_prefix(name));
            let value = lines.next().map(str::to_owned);
            assert_eq!(lines.next(), None, "one {name} in {block}");
            value
        };
        let data = field("data: ").unwrap_or_else(|| panic!("no data in {block}"));
        let event = StreamEvent {
            name: field("event: ").unwrap_or_else(|| panic!("no event in {block}")),
            id: field("id: "),
            data: serde_json::from_str(&data).unwrap(),
        };
        assert_eq!(event.data["event"], event.name.as_str());
        assert_eq!(block.lines().count(), 2 + usize::from(event.id.is_some()), "{block}");
        event
    }

    /// Closes the sending side of the connection.
    pub(crate) async fn finish(&mut self) {
        self.connection.finish().await;
    }

    /// Returns the connection of a stream of which nothing was read after the head.
    pub(crate) fn into_connection(self) -> HttpConnection {
        self.connection
    }

    /// Waits for the server, and returns whether it closed the connection after the end of the stream.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.block().await.is_none() && self.connection.is_closed().await
    }
}

impl FeedConnection {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// Closes the sending side of the connection.
    pub(crate) async fn finish(&mut self) {
        self.0.get_mut().shutdown().await.unwrap();
    }

    /// Returns the next event that is no heartbeat. A heartbeat may come before any other event: on a busy machine, it
    /// can take longer than the 5 seconds between two heartbeats until something happens.
    pub(crate) async fn event(&mut self) -> Value {
        let next = async {
            loop {
                let event = self.event_or_heartbeat().await;
                if event["event"] != "heartbeat" {
                    return event;
                }
            }
        };
        timeout(TIMEOUT, next).await.expect("an event in time")
    }

    /// Returns the next event.
    pub(crate) async fn event_or_heartbeat(&mut self) -> Value {
        let mut line = String::new();
        timeout(TIMEOUT, self.0.read_line(&mut line))
            .await
            .expect("an event in time")
            .unwrap();
        assert!(line.ends_with('\n'), "incomplete line: {line:?}");
        serde_json::from_str(&line).unwrap()
    }

    /// Returns the next event that is no heartbeat, which must be a sample.
    pub(crate) async fn sample(&mut self) -> Value {
        let event = self.event().await;
        assert_eq!(event["event"], "sample");
        event
    }

    /// Returns the name of the next event and its reason, which is empty if it has none.
    pub(crate) async fn event_and_reason(&mut self) -> (String, String) {
        let event = self.event().await;
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        (text("event"), text("reason"))
    }

    /// Waits for the server, and returns whether it closed the connection without sending another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        timeout(TIMEOUT, self.0.fill_buf())
            .await
            .unwrap()
            .map_or(true, <[u8]>::is_empty)
    }
}
