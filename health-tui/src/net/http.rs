//! HTTP/1.1 to one server, with no more than the dashboard needs.

use std::time::Duration;

use bytes::Bytes;
use health_core::Problem;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::app::QueryError;

/// To connect.
const CONNECT: Duration = Duration::from_secs(5);

/// The largest answer taken: two hours of one sample a second are below 2 MB.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    host: String,
    port: u16,
    /// A path in front of every other, without the slash at its end.
    prefix: String,
}

/// A text that is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// It cannot be read as a URL.
    #[error("`{0}` is no URL of a server; write for example http://127.0.0.1:8000")]
    Unreadable(String),
    /// It speaks a protocol that this program does not.
    #[error("`{0}` is not http; the dashboard speaks plain http: let a proxy on this machine do TLS")]
    NotHttp(String),
}

impl Base {
    pub(crate) fn parse(text: &str) -> Result<Self, BaseError> {
        let unreadable = || BaseError::Unreadable(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| unreadable())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(_) => return Err(BaseError::NotHttp(text.to_owned())),
            None => return Err(unreadable()),
        }
        Ok(Self {
            host: uri.host().ok_or_else(unreadable)?.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// For messages and the Host header.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Opens connections to the server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) base: Base,
    pub(crate) token: Option<String>,
}

/// One connection; requests go one after the other.
pub(crate) struct Connection<'a> {
    client: &'a Client,
    send: SendRequest<Empty<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    pub(crate) async fn connect(&self) -> Result<Connection<'_>, QueryError> {
        let unreachable = |why: String| QueryError::Unreachable {
            server: self.base.authority(),
            why,
        };
        let host = self.base.host.trim_matches(['[', ']']);
        let stream = timeout(CONNECT, TcpStream::connect((host, self.base.port)))
            .await
            .map_err(|_| unreachable("no answer".to_owned()))?
            .map_err(|e| unreachable(e.to_string()))?;
        let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        // A broken connection shows in the request that waits for it.
        let driver = tokio::spawn(async move { _ = connection.await });
        Ok(Connection {
            client: self,
            send,
            driver,
        })
    }
}

impl Connection<'_> {
    /// The body of a 200. Everything else is an error with the server's own words.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes, QueryError> {
        let base = &self.client.base;
        let unreachable = |why: String| QueryError::Unreachable {
            server: base.authority(),
            why,
        };
        let unreadable = |why: String| QueryError::Unreadable {
            path: path.split('?').next().unwrap_or(path).to_owned(),
            why,
        };
        let mut request = Request::get(format!("{}{path}", base.prefix))
            .header(header::HOST, base.authority())
            .header(header::USER_AGENT, concat!("health-tui/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.client.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).map_err(|e| unreadable(e.to_string()))?;
        self.send.ready().await.map_err(|e| unreachable(e.to_string()))?;
        let response = self
            .send
            .send_request(request)
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES)
            .collect()
            .await
            .map_err(|e| unreadable(e.to_string()))?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let detail = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if !problem.detail.is_empty() => problem.detail,
            Ok(problem) => problem.title,
            Err(_) => format!("the server answers {status}"),
        };
        let detail = match status.as_u16() {
            401 => format!("{detail} (give a token with --token)"),
            _ => detail,
        };
        Err(QueryError::Refused {
            status: status.as_u16(),
            detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases() {
        let base = Base::parse("http://127.0.0.1:8000").unwrap();
        assert_eq!(
            (base.authority().as_str(), base.prefix.as_str()),
            ("127.0.0.1:8000", "")
        );
        assert_eq!(Base::parse("http://h/health/").unwrap().prefix, "/health");
        assert_eq!(Base::parse("http://[::1]:9").unwrap().authority(), "[::1]:9");
        assert!(matches!(Base::parse("https://h"), Err(BaseError::NotHttp(_))));
        assert!(matches!(
            Base::parse("localhost:8000"),
            Err(BaseError::NotHttp(_) | BaseError::Unreadable(_))
        ));
        assert!(matches!(Base::parse("/x"), Err(BaseError::Unreadable(_))));
    }
}
