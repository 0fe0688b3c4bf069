//! The HTTP client of the examples: what a phone or a gateway would do.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::stream;
use health_core::{IngestCounts, Problem, Sample, StatsResponse, UserId, format_timestamp};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Frame,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    http::uri::{Authority, Scheme},
};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

/// How long an answer may take, the body of the request included.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);

/// Idle connections are dropped after this, before a server with the usual limits does it and a request runs into that.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read: the counts and a hundred refusals fit many times.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Bytes of NDJSON that are made at a time.
const FRAME_BYTES: usize = 64 << 10;

/// How long to wait before trying again where the server does not say it.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// The longest wait that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// A connection to a `health-server`, kept open between requests. A clone shares it.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Body>,
    server: Server,
    authorization: Option<HeaderValue>,
}

/// Where a server is: `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server(Authority);

/// Samples that were taken by the server, and records that were not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Posted {
    /// What the server did with those it took.
    pub counts: IngestCounts,
    /// Records it refused.
    pub rejected: u64,
    /// Why it refused the first of them.
    pub reason: Option<String>,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The same request may succeed later.
    #[error("{why}")]
    Later {
        /// What the server said, or what happened to the connection.
        why: String,
        /// How long to wait.
        after: Duration,
    },
    /// The server will not take this, however often it is asked.
    #[error("{server} answers {status}: {detail}")]
    Refused {
        /// Who answers.
        server: Server,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        detail: String,
    },
    /// The token cannot be sent.
    #[error("the token holds characters that no header may have: give it as it was printed when it was made")]
    Token,
}

/// Text that names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the address of a server: write it like http://127.0.0.1:8000")]
pub struct UnreadableServer(String);

type Body = BoxBody<Bytes, Infallible>;

impl Client {
    /// Connects with the first request.
    ///
    /// # Errors
    /// [`ClientError::Token`].
    pub fn new(server: Server, token: Option<&str>) -> Result<Self, ClientError> {
        let authorization = token
            .map(|token| HeaderValue::from_str(&format!("Bearer {token}")))
            .transpose()
            .map_err(|_| ClientError::Token)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector);
        Ok(Self {
            pool,
            server,
            authorization,
        })
    }

    /// Whom it talks to.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Posts samples as NDJSON, made while they are sent.
    ///
    /// # Errors
    /// Those of [`ClientError`]. Posting the same samples again is harmless.
    pub async fn ingest(
        &self,
        samples: impl Iterator<Item = Sample> + Send + Sync + 'static,
    ) -> Result<Posted, ClientError> {
        let frames = Frames(samples).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
        let body = StreamBody::new(stream::iter(frames)).boxed();
        let (status, headers, answer) = self.send(Method::POST, "/ingest", body).await?;
        match status {
            StatusCode::OK => {
                let counts = serde_json::from_slice(&answer).map_err(|_| self.unexpected(status, &answer))?;
                Ok(Posted {
                    counts,
                    ..Posted::default()
                })
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                let problem = serde_json::from_slice::<Problem>(&answer);
                let problem = problem.map_err(|_| self.unexpected(status, &answer))?;
                Ok(Posted {
                    counts: problem.counts.unwrap_or_default(),
                    rejected: problem.rejected.unwrap_or_default(),
                    reason: problem.errors.into_iter().next().map(|first| first.reason),
                })
            }
            _ => Err(self.failed(status, &headers, &answer)),
        }
    }

    /// What the server says of somebody's readings between two moments.
    ///
    /// # Errors
    /// Those of [`ClientError`].
    pub async fn metrics(
        &self,
        user: UserId,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Result<StatsResponse, ClientError> {
        let (start, end) = (format_timestamp(start), format_timestamp(end));
        let path = format!("/metrics?user_id={}&start={start}&end={end}", user.get());
        let (status, headers, answer) = self.send(Method::GET, &path, Full::default().boxed()).await?;
        if status != StatusCode::OK {
            return Err(self.failed(status, &headers, &answer));
        }
        serde_json::from_slice(&answer).map_err(|_| self.unexpected(status, &answer))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ClientError> {
        let lost = |why: &dyn fmt::Display| ClientError::Later {
            why: format!("{} does not answer: {why}", self.server),
            after: RETRY_AFTER_DEFAULT,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(body).map_err(|error| lost(&error))?;
        let exchange = async {
            let answer = self
                .pool
                .request(request)
                .await
                .map_err(|error| lost(&innermost(&error)))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| lost(&innermost(error.as_ref())))?;
            Ok((head.status, head.headers, body.to_bytes()))
        };
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(lost(&format_args!("nothing came within {ANSWER_TIMEOUT:?}"))),
        }
    }

    fn failed(&self, status: StatusCode, headers: &HeaderMap, answer: &[u8]) -> ClientError {
        let detail = serde_json::from_slice::<Problem>(answer).map(|problem| problem.detail);
        match (status, detail) {
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, detail) => ClientError::Later {
                why: detail.unwrap_or_else(|_| format!("{} answers {status}", self.server)),
                after: retry_after(headers),
            },
            (_, Ok(detail)) => ClientError::Refused {
                server: self.server.clone(),
                status: status.as_u16(),
                detail,
            },
            (_, Err(_)) => self.unexpected(status, answer),
        }
    }

    /// Whoever answers this is no `health-server`, or not one we know.
    fn unexpected(&self, status: StatusCode, answer: &[u8]) -> ClientError {
        const LONGEST_CHARS: usize = 200;
        let answer = String::from_utf8_lossy(answer);
        ClientError::Refused {
            server: self.server.clone(),
            status: status.as_u16(),
            detail: answer.trim().chars().take(LONGEST_CHARS).collect(),
        }
    }
}

impl FromStr for Server {
    type Err = UnreadableServer;

    fn from_str(text: &str) -> Result<Self, UnreadableServer> {
        let unreadable = || UnreadableServer(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| unreadable())?;
        let parts = uri.into_parts();
        let path = parts.path_and_query.map_or(String::new(), |path| path.to_string());
        match parts.authority {
            Some(authority) if parts.scheme == Some(Scheme::HTTP) && ["", "/"].contains(&path.as_str()) => {
                Ok(Self(authority))
            }
            _ => Err(unreadable()),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// Samples as pieces of NDJSON.
struct Frames<I>(I);

impl<I: Iterator<Item = Sample>> Iterator for Frames<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut lines = BytesMut::with_capacity(FRAME_BYTES);
        for sample in self.0.by_ref() {
            // A sample is always JSON, and memory takes it.
            if let Ok(line) = serde_json::to_vec(&sample) {
                lines.extend_from_slice(&line);
                lines.extend_from_slice(b"\n");
            }
            if lines.len() >= FRAME_BYTES {
                break;
            }
        }
        (!lines.is_empty()).then(|| lines.freeze())
    }
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    seconds
        .map_or(RETRY_AFTER_DEFAULT, Duration::from_secs)
        .min(RETRY_AFTER_MAX)
}

/// What the system said: the layers above it say nothing that a person needs.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    error.source().map_or(error, innermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_url_alone() {
        for (text, shown) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://health.example/", "http://health.example"),
            ("http://[::1]:8000", "http://[::1]:8000"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "127.0.0.1:8000",
            "https://127.0.0.1",
            "http://",
            "http://a/b",
            "http://a?b",
            "/x",
        ] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_may_ask_for_a_pause_but_not_for_ever() {
        let asked = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers)
        };
        assert_eq!(asked("3"), Duration::from_secs(3));
        assert_eq!(asked("86400"), RETRY_AFTER_MAX);
        assert_eq!(asked("soon"), RETRY_AFTER_DEFAULT);
    }
}
