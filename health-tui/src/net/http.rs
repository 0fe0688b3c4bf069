//! A minimal HTTP/1.1 client for one server.
//!
//! It uses hyper directly: the dashboard sends GET requests to one address, one after the other.

use bytes::Bytes;
use health_core::{
    Problem,
    client::{self, Access, port_of_authority},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, Uri,
    client::conn::http1::SendRequest,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;

use crate::app::QueryError;

/// The largest response that is read. Four hours of one sample each second are below 2 MB.
const RESPONSE_MAX_BYTES: usize = 64 * 1024 * 1024;

/// The URL of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    host: String,
    port: u16,
    /// Whether the scheme is `https`.
    pub(crate) is_tls: bool,
    /// The path before every request path, without a slash at its end.
    prefix: String,
}

/// Why a text is not the URL of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// The text is not a URL.
    #[error("`{0}` is not the URL of a server. Write for example http://127.0.0.1:8000.")]
    Unreadable(String),
    /// The URL has another scheme than `http` and `https`.
    #[error("`{0}` is neither an http nor an https URL. Write for example https://health.example.")]
    NotHttp(String),
    /// The URL has a port that none can be.
    #[error("`{0}`: {1}.")]
    BadPort(String, String),
}

impl ServerUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, ServerUrlError> {
        let unreadable = || ServerUrlError::Unreadable(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| unreadable())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(ServerUrlError::NotHttp(text.to_owned())),
            None => return Err(unreadable()),
        };
        let port = uri.authority().map(|authority| port_of_authority(authority.as_str()));
        let port = port
            .transpose()
            .map_err(|reason| ServerUrlError::BadPort(text.to_owned(), reason))?
            .flatten();
        Ok(Self {
            host: uri.host().ok_or_else(unreadable)?.to_owned(),
            port: port.unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Returns the host. An IPv6 address stands in brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns `host:port`, for messages and the Host header.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Opens connections to the server.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    pub(crate) url: ServerUrl,
    pub(crate) access: Access,
}

/// A connection to the server. It sends one request at a time.
pub(crate) struct HttpConnection<'a> {
    client: &'a HttpClient,
    send: SendRequest<Empty<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for HttpConnection<'_> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl HttpClient {
    pub(crate) async fn connect(&self) -> Result<HttpConnection<'_>, QueryError> {
        let unreachable = |reason: String| QueryError::Unreachable {
            server: self.url.authority(),
            reason,
        };
        let stream = client::connect(&self.url.authority(), self.access.tls.as_ref())
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        // A failure of the connection also fails the pending request, which reports it.
        let driver = tokio::spawn(async move { _ = connection.await });
        Ok(HttpConnection {
            client: self,
            send,
            driver,
        })
    }
}

impl HttpConnection<'_> {
    /// Returns the body of a successful response. Any other status is an error with the server's own message.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes, QueryError> {
        let url = &self.client.url;
        let unreachable = |reason: String| QueryError::Unreachable {
            server: url.authority(),
            reason,
        };
        let unreadable = |reason: String| QueryError::Unreadable {
            path: path.split('?').next().unwrap_or(path).to_owned(),
            reason,
        };
        let mut request = Request::get(format!("{}{path}", url.prefix))
            .header(header::HOST, url.authority())
            .header(header::USER_AGENT, concat!("health-tui/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.client.access.token {
            let secret = token.secret().map_err(|error| unreachable(error.to_string()))?;
            let mut value =
                HeaderValue::try_from(format!("Bearer {secret}")).map_err(|e| unreachable(e.to_string()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Empty::new()).map_err(|e| unreadable(e.to_string()))?;
        self.send.ready().await.map_err(|e| unreachable(e.to_string()))?;
        let response = self
            .send
            .send_request(request)
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), RESPONSE_MAX_BYTES)
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
            Err(_) => format!("The server answered with status {status}. Check that --server is a health-server."),
        };
        let sentence = detail.trim_end_matches('.');
        let detail = match status.as_u16() {
            401 if self.client.access.token.is_none() => format!("{sentence}. Set HEALTH_TOKEN or use --token-file."),
            401 | 403 => {
                format!("{sentence}. Use another token (`health-server token create --name NAME --scope read`).")
            }
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
    fn urls_are_parsed_or_refused() {
        let url = ServerUrl::parse("http://127.0.0.1:8000").unwrap();
        assert_eq!((url.authority().as_str(), url.prefix.as_str()), ("127.0.0.1:8000", ""));
        assert_eq!(ServerUrl::parse("http://h/health/").unwrap().prefix, "/health");
        assert_eq!(ServerUrl::parse("http://[::1]:9").unwrap().authority(), "[::1]:9");
        let url = ServerUrl::parse("https://h").unwrap();
        assert_eq!((url.authority().as_str(), url.is_tls), ("h:443", true));
        assert!(matches!(ServerUrl::parse("ftp://h"), Err(ServerUrlError::NotHttp(_))));
        assert!(matches!(
            ServerUrl::parse("localhost:8000"),
            Err(ServerUrlError::NotHttp(_) | ServerUrlError::Unreadable(_))
        ));
        for port in ["99999", "-1", "abc", "0", ""] {
            let error = ServerUrl::parse(&format!("http://127.0.0.1:{port}")).unwrap_err();
            assert!(matches!(error, ServerUrlError::BadPort(..)), "{error}");
        }
        assert!(matches!(ServerUrl::parse("/x"), Err(ServerUrlError::Unreadable(_))));
    }
}
