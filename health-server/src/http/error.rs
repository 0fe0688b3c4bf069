//! Error responses: RFC 9457 problems that tell the client what is wrong and what it can do.

use std::{borrow::Cow, time::Duration};

use health_core::{Error, IngestCounts, Problem, Rejection};
use hyper::{
    StatusCode,
    header::{self, HeaderValue},
};

use crate::http::response::{HttpResponse, json};

/// Seconds that a client should wait after a 429 or 503.
///
/// PostgreSQL restarts in about this time. A longer wait would make the live view of a watch noticeably late.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 2;

/// An error response, before it is written as JSON.
///
/// Handlers return it as their error type. `detail` is shown to the client, so it must not contain SQL, host names,
/// file names or passwords.
#[derive(Debug)]
pub(crate) struct HttpError {
    status: StatusCode,
    detail: Cow<'static, str>,
    counts: Option<IngestCounts>,
    rejected: Option<u64>,
    errors: Vec<Rejection>,
    /// Whether the connection is closed after the response.
    is_closing: bool,
    /// Seconds after which the client should try again, in a 429 or 503.
    retry_after: u64,
}

impl HttpError {
    /// Creates an error with one or more full sentences as its detail.
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            counts: None,
            rejected: None,
            errors: Vec::new(),
            is_closing: false,
            retry_after: RETRY_AFTER_SECONDS,
        }
    }

    /// Says when the client should try again, in whole seconds.
    pub(crate) fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self
    }

    /// Closes the connection after the response, because the end of the request's body is in doubt.
    pub(crate) fn closing(mut self) -> Self {
        self.is_closing = true;
        self
    }

    /// Adds a sentence to the detail.
    pub(crate) fn with_hint(mut self, sentence: &str) -> Self {
        self.detail.to_mut().push(' ');
        self.detail.to_mut().push_str(sentence);
        self
    }

    /// Adds sentences to the detail; none changes nothing.
    pub(crate) fn with_hints(self, sentences: impl IntoIterator<Item = &'static str>) -> Self {
        sentences.into_iter().fold(self, Self::with_hint)
    }

    /// Adds the counts of a request that failed after it had stored some samples.
    pub(crate) fn with_counts(mut self, counts: IngestCounts, rejected: u64) -> Self {
        self.counts = Some(counts);
        self.rejected = Some(rejected);
        self
    }

    /// Adds the refused records.
    pub(crate) fn with_errors(mut self, errors: Vec<Rejection>) -> Self {
        self.errors = errors;
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_response(self) -> HttpResponse {
        let (status, is_closing, retry_after) = (self.status, self.is_closing, self.retry_after);
        let mut response = json(status, &self.into_problem());
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        if is_closing {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    pub(crate) fn into_problem(self) -> Problem {
        Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.into_owned(),
            counts: self.counts,
            rejected: self.rejected,
            errors: self.errors,
        }
    }
}

impl From<&Error> for HttpError {
    /// Converts an error of the core and logs its causes, which the client must not see.
    fn from(error: &Error) -> Self {
        match error {
            Error::Overloaded { .. } => {
                // The counter of responses already has it, by status. A warning for each request would add to the
                // overload.
                tracing::debug!(error = error.chain(), "refused a request; the client may retry");
                Self::new(StatusCode::TOO_MANY_REQUESTS, detail_with_retry(error))
            }
            Error::Closed => {
                tracing::warn!(error = error.chain(), "refused a request; the client may retry");
                let detail = "The server is shutting down. Send the request again later.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            }
            // Refused: a password or certificate that was right at the start. The operator can correct it, the client
            // cannot.
            error if error.is_retryable() || matches!(error, Error::Refused(_)) => {
                tracing::warn!(error = error.chain(), "refused a request; the client may retry");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail_with_retry(error))
            }
            error => {
                tracing::error!(error = error.chain(), "a request failed");
                let detail = "The server cannot process the request. Its log has the reason.";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
        }
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

fn detail_with_retry(error: &Error) -> String {
    format!("The server cannot process the request now: {error}. Send it again later.")
}
