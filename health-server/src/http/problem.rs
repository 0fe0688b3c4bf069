//! Answers, and above all the unhappy ones: RFC 9457 problems that say in a sentence what is wrong and what to do.

use std::{borrow::Cow, io};

use bytes::Bytes;
use health_core::{Error, IngestCounts, Problem, Rejection};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use serde::Serialize;

use crate::http::query::Faults;

/// What every handler answers with.
pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// What a client that was told 429 or 503 should wait: long enough for a restarted database, short enough for a watch.
const RETRY_AFTER_SECONDS: u16 = 2;

/// Faults of one query that are told in a sentence; `errors` lists more.
const TOLD_FAULTS: usize = 10;

/// A problem on its way to becoming an answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    detail: Cow<'static, str>,
    counts: Option<IngestCounts>,
    rejected: Option<u64>,
    errors: Vec<Rejection>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            counts: None,
            rejected: None,
            errors: Vec::new(),
        }
    }

    /// What the core could not do. Its cause is for the log: it may name hosts, files and statements.
    pub(crate) fn of_core(error: &Error) -> Self {
        let status = match error {
            Error::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::Closed => StatusCode::SERVICE_UNAVAILABLE,
            error if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = error.chain(), "a request failed");
            return Self::new(
                status,
                "The request could not be carried out. The server's log says why.",
            );
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            // Counted by its status. A line each would be one more burden when there are too many already.
            tracing::debug!(error = error.chain(), "a request was put off");
        } else {
            tracing::warn!(error = error.chain(), "a request was put off");
        }
        let detail = match error {
            Error::Closed => "The server is ending. Send the request again later.".to_owned(),
            error => format!("Nothing is lost, but it could not be done now: {error}. Send the request again later."),
        };
        Self::new(status, detail)
    }

    /// With what was stored all the same.
    pub(crate) fn counting(mut self, counts: IngestCounts, rejected: u64, errors: Vec<Rejection>) -> Self {
        self.counts = Some(counts);
        self.rejected = Some(rejected);
        self.errors = errors;
        self
    }

    pub(crate) fn into_reply(self) -> Reply {
        let status = self.status;
        let mut reply = json(status, &self.into_problem());
        let headers = reply.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        reply
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

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::of_core(&error)
    }
}

impl From<Faults> for Refusal {
    fn from(Faults(faults): Faults) -> Self {
        let sentences: Vec<_> = faults
            .iter()
            .take(TOLD_FAULTS)
            .map(|(name, reason)| format!("{name} {reason}"))
            .collect();
        let mut detail = sentences.join("; ");
        detail.push_str(if faults.len() > TOLD_FAULTS { "; and more." } else { "." });
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, detail);
        if faults.len() > 1 {
            let rejection = |(field, reason)| Rejection {
                index: 0,
                field: Some(field),
                reason,
            };
            refusal.errors = faults.into_iter().map(rejection).collect();
        }
        refusal
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => with_body(status, "application/json", body),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// An answer of any media type.
pub(crate) fn with_body(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = empty(status);
    *reply.body_mut() = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default().map_err(|never| match never {}).boxed_unsync());
    *reply.status_mut() = status;
    reply
}
