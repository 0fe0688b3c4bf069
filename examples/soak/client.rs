//! An HTTP client that sends each request until a server has answered it, whatever is killed meanwhile.

use bytes::Bytes;
use examples::Result;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::servers::RunningServers;

/// The longest time of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(1);

/// The longest time of all attempts. No fault of the soak takes that long, so a server that is silent for longer has
/// failed.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(4);

/// The pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(200);

/// A client of all running servers.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    servers: RunningServers,
}

/// The answer to a request.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// Whether the first attempt was answered.
    pub(crate) is_first: bool,
    /// The time since the first attempt was sent.
    pub(crate) elapsed: Duration,
}

impl Client {
    pub(crate) fn new(servers: RunningServers) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than the time after which a server closes an idle connection.
            .pool_idle_timeout(Duration::from_secs(10))
            .build(connector);
        Self { pool, servers }
    }

    /// Sends a request to a random running server until one answers with another status than 429 and 503.
    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Answer> {
        let (start, body) = (Instant::now(), body.into());
        let mut is_first = true;
        loop {
            let attempt = timeout(ATTEMPT_TIMEOUT, self.attempt(&method, path, body.clone())).await;
            let failure = match attempt {
                Ok(Ok((StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, body))) => {
                    String::from_utf8_lossy(&body).into_owned()
                }
                Ok(Ok((status, body))) => {
                    return Ok(Answer {
                        status,
                        body,
                        is_first,
                        elapsed: start.elapsed(),
                    });
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {ATTEMPT_TIMEOUT:?}"),
            };
            is_first = false;
            if start.elapsed() > ANSWER_TIMEOUT {
                return Err(
                    format!("{method} {path} failed for {ANSWER_TIMEOUT:?}, the last time with: {failure}").into(),
                );
            }
            sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, method: &Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let server = self.servers.any().await?;
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", server.http))
            .header("content-type", "application/x-ndjson")
            .body(Full::new(body))?;
        let response = self.pool.request(request).await?;
        let status = response.status();
        // A body that a killed server did not finish is an error.
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Requests a path that answers 200.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        match answer.status {
            StatusCode::OK => Ok(answer),
            _ => Err(answer.unexpected("GET", path)),
        }
    }
}

impl Answer {
    /// Returns the error for an answer that no fault explains.
    pub(crate) fn unexpected(&self, method: &str, path: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let body = String::from_utf8_lossy(&self.body);
        format!("{method} {path}: unexpected answer {}: {body}", self.status).into()
    }
}
