//! The HTTP client of an import: one request after the other over one connection.

use std::time::Duration;

use bytes::Bytes;
use health_core::{
    IngestCounts, Problem, Rejection,
    client::{Access, ConnectError, TlsFault, TokenError, connect},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{SendRequest, handshake},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{task::JoinHandle, time::timeout};

use super::{
    server_url::ServerUrl,
    token_remedy::{create_token, named, users},
};

/// The timeout of one request with its response. A server that works stores a batch in a second.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

/// The longest response that is read. The counts and a hundred errors need a small part of it.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// The longest pause that the client accepts from a server.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// How long a connection that fails may take to say why. It has failed already, so this is long.
const DRIVER_PATIENCE: Duration = Duration::from_secs(1);

/// A client of one server.
pub(super) struct Client {
    url: ServerUrl,
    access: Access,
    authorization: Option<HeaderValue>,
    connection: Option<Connection>,
}

/// An open connection.
struct Connection {
    requests: SendRequest<Full<Bytes>>,
    /// The task that reads and writes. It ends with the reason if the connection fails.
    driver: JoinHandle<hyper::Result<()>>,
}

/// What the server did with a batch.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) counts: IngestCounts,
    pub(super) rejected: u64,
    pub(super) errors: Vec<Rejection>,
}

/// Why a batch is not stored.
#[derive(Debug)]
pub(super) enum PostError {
    /// The same request may succeed later.
    Retryable {
        reason: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
        /// What is stored of the batch all the same.
        counts: IngestCounts,
        /// Whether something accepted the connection, so that the URL may be right.
        is_reached: bool,
    },
    /// The server will refuse the same request again.
    Final(String),
}

impl Client {
    pub(super) fn new(url: ServerUrl, access: Access) -> Result<Self, String> {
        let authorization = access.token.as_ref().map(|token| {
            let value = HeaderValue::try_from(format!("Bearer {}", token.secret()?));
            let mut value = value.map_err(|_| TokenError::Malformed)?;
            value.set_sensitive(true);
            Ok::<_, TokenError>(value)
        });
        Ok(Self {
            authorization: authorization.transpose().map_err(|error| error.to_string())?,
            url,
            access,
            connection: None,
        })
    }

    /// Returns the URL of the server.
    pub(super) fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Posts records as NDJSON.
    pub(super) async fn post(&mut self, body: Bytes) -> Result<Answer, PostError> {
        let had_connection = self.connection.is_some();
        let response = match self.exchange(body.clone()).await {
            // A server closes idle connections. The request may have met the close, so a new connection decides.
            Err(PostError::Retryable { .. }) if had_connection => self.exchange(body.clone()).await?,
            response => response?,
        };
        self.read(response.0, &response.1, &response.2, &body)
    }

    async fn exchange(&mut self, body: Bytes) -> Result<(StatusCode, HeaderMap, Bytes), PostError> {
        let exchange = timeout(REQUEST_TIMEOUT, self.send(body)).await;
        let response = exchange.unwrap_or_else(|_| {
            Err(self.unreachable(
                &format!("no complete response within {} s", REQUEST_TIMEOUT.as_secs()),
                true,
            ))
        });
        if response.is_err() {
            self.connection = None;
        }
        response
    }

    async fn send(&mut self, body: Bytes) -> Result<(StatusCode, HeaderMap, Bytes), PostError> {
        let mut connection = match self
            .connection
            .take()
            .filter(|connection| !connection.requests.is_closed())
        {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut request = Request::post(self.url.ingest_path())
            .header(HOST, self.url.address())
            .header(USER_AGENT, concat!("health-server-import/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| PostError::Final(error.to_string()))?;
        let response = async {
            connection.requests.ready().await?;
            connection.requests.send_request(request).await
        };
        let response = match response.await {
            Ok(response) => response,
            Err(error) => return Err(self.no_response(&error, connection.driver).await),
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.unreachable(&innermost(error.as_ref()), true))?;
        self.connection = Some(connection);
        Ok((head.status, head.headers, body.to_bytes()))
    }

    /// Returns why there is no response. A server that does not speak HTTP, as the feed, is no reason to wait.
    async fn no_response(&self, error: &hyper::Error, driver: JoinHandle<hyper::Result<()>>) -> PostError {
        let driver = timeout(DRIVER_PATIENCE, driver).await;
        let cause = driver.ok().and_then(Result::ok).and_then(Result::err);
        if is_no_http(error) || cause.as_ref().is_some_and(is_no_http) {
            return PostError::Final(format!(
                "{} does not speak HTTP, so it may be another program or the port of the feed (8001 by default). Write the \
                 address of the HTTP server in --server (port 8000 by default), with https:// if it has a certificate.",
                self.url.address()
            ));
        }
        self.unreachable(&innermost(cause.as_ref().unwrap_or(error)), true)
    }

    async fn connect(&self) -> Result<Connection, PostError> {
        let stream = match connect(&self.url.address(), self.access.tls.as_ref()).await {
            Ok(stream) => stream,
            // Waiting changes no certificate.
            Err(ConnectError::Tls(fault)) => return Err(PostError::Final(self.tls_fault(&fault))),
            Err(error) => return Err(self.unreachable(&error.to_string(), false)),
        };
        let connected = handshake(TokioIo::new(stream)).await;
        let (requests, driver) = connected.map_err(|error| self.unreachable(&innermost(&error), true))?;
        Ok(Connection {
            requests,
            driver: tokio::spawn(driver),
        })
    }

    /// Returns a sentence about a fault of TLS, with the options of an import.
    fn tls_fault(&self, fault: &TlsFault) -> String {
        let address = self.url.address();
        match fault {
            TlsFault::NoTls(_) => format!("{address} does not speak TLS. Write http://{address} in --server."),
            TlsFault::Closed(_) => format!(
                "{address} closed the connection in the TLS handshake. If this port does not speak TLS, write http://{address} \
                 in --server."
            ),
            fault => format!("{}.", first_upper(&fault.to_string())),
        }
    }

    fn read(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], request: &[u8]) -> Result<Answer, PostError> {
        let problem = serde_json::from_slice::<Problem>(body);
        match (status, problem) {
            (StatusCode::OK, _) => match serde_json::from_slice(body) {
                Ok(counts) => Ok(Answer {
                    counts,
                    ..Answer::default()
                }),
                Err(_) => Err(self.unexpected(status)),
            },
            (StatusCode::UNPROCESSABLE_ENTITY, Ok(problem)) => Ok(Answer {
                counts: problem.counts.unwrap_or_default(),
                rejected: problem.rejected.unwrap_or_default(),
                errors: problem.errors,
            }),
            // A server that starts or ends, also behind a proxy.
            (status, problem) if is_retryable(status) => Err(PostError::Retryable {
                counts: problem
                    .as_ref()
                    .ok()
                    .and_then(|problem| problem.counts)
                    .unwrap_or_default(),
                reason: problem.map_or_else(
                    |_| format!("{} responded with {status}", self.url),
                    |problem| problem.detail,
                ),
                retry_after: retry_after(headers),
                is_reached: true,
            }),
            (status, Ok(problem)) => Err(PostError::Final(self.refused(status, &problem.detail, request))),
            (status, Err(_)) => Err(self.unexpected(status)),
        }
    }

    /// Returns a sentence about a request that the server refuses as a whole, with what a user of an import can do.
    fn refused(&self, status: StatusCode, detail: &str, request: &[u8]) -> String {
        let url = &self.url;
        // The end of an import says what was stored.
        let detail = detail.trim_end_matches('.').trim_end_matches("Nothing was stored");
        let detail = detail.trim_end_matches(['.', ' ']);
        let users = users(request);
        match (status, &self.authorization) {
            (StatusCode::UNAUTHORIZED, None) => {
                format!(
                    "{url} needs an API token. {}, or use --token-file.",
                    create_token(&users)
                )
            }
            (StatusCode::UNAUTHORIZED, Some(_)) => format!(
                "{url} does not accept the API token: it is mistyped, was revoked, or has expired. Use another one. {}, or use \
                 --token-file.",
                create_token(&users)
            ),
            (StatusCode::FORBIDDEN, _) => format!(
                "{url} does not let this API token store records of {}: {detail}. Use another one. {}, or use --token-file.",
                named(&users),
                create_token(&users)
            ),
            (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _) => {
                format!("{url} responded with {status}: {detail}. {}", self.check_server())
            }
            _ => format!("{url} responded with {status}: {detail}."),
        }
    }

    fn unexpected(&self, status: StatusCode) -> PostError {
        PostError::Final(format!(
            "{} responded with {status}, but not as a health-server does. {}",
            self.url,
            self.check_server()
        ))
    }

    /// Returns the remedy for a URL that is not that of a server.
    fn check_server(&self) -> String {
        match self.url.without_path() {
            Some(url) => format!(
                "Check --server: unless a proxy adds a path, write {url} alone, because import adds the path of the endpoint."
            ),
            None => "Check --server: it is the URL of the HTTP server, by default http://127.0.0.1:8000.".to_owned(),
        }
    }

    fn unreachable(&self, reason: &str, is_reached: bool) -> PostError {
        PostError::Retryable {
            reason: format!("Cannot reach {}: {reason}", self.url),
            retry_after: None,
            counts: IngestCounts::default(),
            is_reached,
        }
    }
}

/// Returns whether the same request may succeed later: overload, and servers or proxies that are not ready.
fn is_retryable(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Returns whether an error means that the other side does not speak HTTP: it sent something that is no response, or
/// something before the request, as the feed does.
fn is_no_http(error: &hyper::Error) -> bool {
    // A request that waits while the connection fails is canceled, and the fault of the connection is the cause.
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
    if let Some(cause) = cause {
        return is_no_http(cause);
    }
    let is_connection = error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || error.is_timeout()
        || error.is_user();
    error.is_parse() || (!is_connection && std::error::Error::source(error).is_none())
}

fn first_upper(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}

/// Returns the last cause: the system's message. The layers above it only say that a request failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    /// The feed sends its first line at once. Whether the request is under way by then is a matter of chance.
    #[tokio::test]
    async fn a_line_before_the_request_or_after_it_is_no_http() {
        for is_before in [true, false] {
            let (stream, mut feed) = duplex(1_000);
            let (mut requests, driver) = handshake(TokioIo::new(stream)).await.unwrap();
            let response = requests.send_request(Request::post("/ingest").body(Full::new(Bytes::new())).unwrap());
            let driver = if is_before {
                feed.write_all(b"{\"event\":\"hello\"}\n").await.unwrap();
                tokio::spawn(driver)
            } else {
                let driver = tokio::spawn(driver);
                tokio::task::yield_now().await;
                feed.write_all(b"{\"event\":\"hello\"}\n").await.unwrap();
                driver
            };
            let error = response.await.unwrap_err();
            let cause = driver.await.unwrap().err();
            assert!(
                is_no_http(&error) || cause.as_ref().is_some_and(is_no_http),
                "{is_before}: {error:?}, {cause:?}"
            );
        }
    }
}
