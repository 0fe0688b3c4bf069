//! An HTTP client for `health-server`, as a phone or a gateway would use it.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::stream;
use health_core::{
    IngestCounts, Problem, Sample, StatsResponse, UserId,
    client::{ConnectError, Credentials, CredentialsError, TokenError, port_of_authority},
    format_timestamp,
};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Frame,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    http::uri::{Authority, Scheme},
};
use hyper_util::{
    client::legacy::Client as Pool,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

use crate::connector::Connector;

/// How long a request may take, from its first byte to the last byte of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

/// How long a connection may be idle before the client closes it.
///
/// A server with the default limits closes it after 30 s. A request that crosses that close would fail.
const MAX_IDLE_TIME: Duration = Duration::from_secs(10);

/// The longest response that is read. The counts and a hundred errors need a small part of it.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// The size of the blocks in which a body is made while it is sent.
const BLOCK_BYTES: usize = 64 << 10;

/// The pause before a retry if the server gives no `Retry-After`.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest pause before a retry that the client accepts from a server.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// A client of one `health-server`. It keeps connections open between requests, and its clones share them.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<Connector, Body>,
    server: ServerUrl,
    authorization: Option<HeaderValue>,
}

/// The address of a server: `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    is_tls: bool,
    authority: Authority,
}

/// What the server did with the records of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestResult {
    /// The counts of the stored samples.
    pub counts: IngestCounts,
    /// How many records it refused.
    pub rejected: u64,
    /// Why it refused the first of them.
    pub first_reason: Option<String>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server is overloaded or cannot be reached. The same request may succeed later.
    #[error("{reason}")]
    Retryable {
        /// What the server said, or what happened to the connection.
        reason: String,
        /// How long to wait before the next attempt.
        retry_after: Duration,
    },
    /// The server refuses the request, and will refuse it again.
    #[error("{server} responded with {status}: {detail}")]
    Refused {
        /// The server.
        server: ServerUrl,
        /// The HTTP status.
        status: u16,
        /// The reason, in the server's words.
        detail: String,
    },
    /// The server's certificate is not accepted, or the server speaks no TLS.
    #[error("{0}")]
    Tls(String),
    /// The token or the authority cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// The reason why a text is no [`ServerUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the URL of a server: write it like http://127.0.0.1:8000")]
pub struct InvalidServerUrl(String);

type Body = BoxBody<Bytes, Infallible>;

impl Client {
    /// Creates a client, which connects with its first request.
    ///
    /// # Errors
    /// [`ClientError::Credentials`]
    pub fn new(server: ServerUrl, credentials: &Credentials) -> Result<Self, ClientError> {
        let access = credentials.access(&server.address(), server.is_tls)?;
        let authorization = access.token.as_ref().map(|token| {
            let value = HeaderValue::try_from(format!("Bearer {}", token.secret()?));
            let mut value = value.map_err(|_| TokenError::Malformed)?;
            value.set_sensitive(true);
            Ok::<_, TokenError>(value)
        });
        let authorization = authorization.transpose().map_err(CredentialsError::Token)?;
        let connector = Connector { tls: access.tls };
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(MAX_IDLE_TIME)
            .build(connector);
        Ok(Self {
            pool,
            server,
            authorization,
        })
    }

    /// Returns the address of the server.
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// Posts samples as NDJSON. They are taken from the iterator while the body is sent.
    ///
    /// # Errors
    /// Any [`ClientError`]. Posting the same samples again changes nothing.
    pub async fn ingest(
        &self,
        samples: impl Iterator<Item = Sample> + Send + Sync + 'static,
    ) -> Result<IngestResult, ClientError> {
        let blocks = NdjsonBlocks(samples).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
        let body = StreamBody::new(stream::iter(blocks)).boxed();
        let (status, headers, response) = self.send(Method::POST, "/ingest", body).await?;
        match status {
            StatusCode::OK => {
                let counts = serde_json::from_slice(&response).map_err(|_| self.unexpected(status, &response))?;
                Ok(IngestResult {
                    counts,
                    ..IngestResult::default()
                })
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                let problem = serde_json::from_slice::<Problem>(&response);
                let problem = problem.map_err(|_| self.unexpected(status, &response))?;
                Ok(IngestResult {
                    counts: problem.counts.unwrap_or_default(),
                    rejected: problem.rejected.unwrap_or_default(),
                    first_reason: problem.errors.into_iter().next().map(|first| first.reason),
                })
            }
            _ => Err(self.failed(status, &headers, &response)),
        }
    }

    /// Returns the statistics of a user in the range `[start, end)`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn metrics(
        &self,
        user: UserId,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Result<StatsResponse, ClientError> {
        let (start, end) = (format_timestamp(start), format_timestamp(end));
        let path = format!("/metrics?user_id={}&start={start}&end={end}", user.get());
        let (status, headers, response) = self.send(Method::GET, &path, Full::default().boxed()).await?;
        if status != StatusCode::OK {
            return Err(self.failed(status, &headers, &response));
        }
        serde_json::from_slice(&response).map_err(|_| self.unexpected(status, &response))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ClientError> {
        let unreachable = |reason: &dyn fmt::Display| ClientError::Retryable {
            reason: format!("cannot reach {}: {reason}", self.server),
            retry_after: DEFAULT_RETRY_AFTER,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(body).map_err(|error| unreachable(&error))?;
        let exchange = async {
            let response = self
                .pool
                .request(request)
                .await
                .map_err(|error| match tls_fault(&error) {
                    Some(fault) => ClientError::Tls(fault),
                    None => unreachable(&innermost(&error)),
                })?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
            let body = body.map_err(|error| unreachable(&innermost(error.as_ref())))?;
            Ok((head.status, head.headers, body.to_bytes()))
        };
        match timeout(REQUEST_TIMEOUT, exchange).await {
            Ok(result) => result,
            Err(_) => Err(unreachable(&format_args!(
                "no complete response within {REQUEST_TIMEOUT:?}"
            ))),
        }
    }

    fn failed(&self, status: StatusCode, headers: &HeaderMap, response: &[u8]) -> ClientError {
        let remedy = match (status, &self.authorization) {
            (StatusCode::UNAUTHORIZED, None) => " Set HEALTH_TOKEN or use --token-file.",
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                " Use another token (`health-server token create --name NAME --scope ingest,read`)."
            }
            _ => "",
        };
        let detail = serde_json::from_slice::<Problem>(response).map(|problem| match remedy {
            "" => problem.detail,
            _ => format!("{}.{remedy}", problem.detail.trim_end_matches('.')),
        });
        match (status, detail) {
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, detail) => ClientError::Retryable {
                reason: detail.unwrap_or_else(|_| format!("{} responded with {status}", self.server)),
                retry_after: retry_after(headers),
            },
            (_, Ok(detail)) => ClientError::Refused {
                server: self.server.clone(),
                status: status.as_u16(),
                detail,
            },
            (_, Err(_)) => self.unexpected(status, response),
        }
    }

    /// Returns the error for a response that is not from a `health-server`, or from a version that this client does not
    /// know.
    fn unexpected(&self, status: StatusCode, response: &[u8]) -> ClientError {
        /// Enough for the title of a proxy's error page.
        const MAX_CHARS: usize = 200;
        let response = String::from_utf8_lossy(response);
        ClientError::Refused {
            server: self.server.clone(),
            status: status.as_u16(),
            detail: response.trim().chars().take(MAX_CHARS).collect(),
        }
    }
}

impl ServerUrl {
    fn address(&self) -> String {
        let default = if self.is_tls { 443 } else { 80 };
        format!(
            "{}:{}",
            self.authority.host(),
            self.authority.port_u16().unwrap_or(default)
        )
    }
}

impl FromStr for ServerUrl {
    type Err = InvalidServerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidServerUrl> {
        let invalid = || InvalidServerUrl(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let parts = uri.into_parts();
        let path = parts.path_and_query.map_or(String::new(), |path| path.to_string());
        match parts.authority {
            Some(authority)
                if [Some(Scheme::HTTP), Some(Scheme::HTTPS)].contains(&parts.scheme)
                    && ["", "/"].contains(&path.as_str())
                    && port_of_authority(authority.as_str()).is_ok() =>
            {
                Ok(Self {
                    is_tls: parts.scheme == Some(Scheme::HTTPS),
                    authority,
                })
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// Makes blocks of NDJSON from samples.
struct NdjsonBlocks<I>(I);

impl<I: Iterator<Item = Sample>> Iterator for NdjsonBlocks<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut block = BytesMut::with_capacity(BLOCK_BYTES);
        for sample in self.0.by_ref() {
            // Every sample can be written as JSON.
            if let Ok(line) = serde_json::to_vec(&sample) {
                block.extend_from_slice(&line);
                block.extend_from_slice(b"\n");
            }
            if block.len() >= BLOCK_BYTES {
                break;
            }
        }
        (!block.is_empty()).then(|| block.freeze())
    }
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    seconds
        .map_or(DEFAULT_RETRY_AFTER, Duration::from_secs)
        .min(MAX_RETRY_AFTER)
}

/// Returns the sentence about a failed TLS handshake, if that is the cause.
fn tls_fault(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    match error.downcast_ref::<ConnectError>() {
        Some(ConnectError::Tls(fault)) => Some(fault.to_string()),
        _ => tls_fault(error.source()?),
    }
}

/// Returns the last cause: the system's message. The layers above it only say that a request failed.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    error.source().map_or(error, innermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_url_has_a_scheme_and_an_authority_only() {
        for (text, shown) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://health.example/", "http://health.example"),
            ("http://[::1]:8000", "http://[::1]:8000"),
            ("https://health.example/", "https://health.example"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "127.0.0.1:8000",
            "ftp://127.0.0.1",
            "http://",
            "http://a/b",
            "http://a?b",
            "/x",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_can_ask_for_a_pause_of_at_most_a_minute() {
        let pause = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers)
        };
        assert_eq!(pause("3"), Duration::from_secs(3));
        assert_eq!(pause("86400"), MAX_RETRY_AFTER);
        assert_eq!(pause("soon"), DEFAULT_RETRY_AFTER);
    }
}
