//! Reading a request's body: what it claims to be, its bytes without their encoding, its lines.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, StatusCode,
    body::{Body, Incoming},
    header,
};
use tokio::time::timeout;

use crate::http::{gunzip::Gunzip, problem::Refusal, query::quote};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    Ndjson,
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

/// The decoded bytes of a body, piece by piece.
#[derive(Debug)]
pub(crate) struct BodyReader<'a> {
    incoming: &'a mut Incoming,
    pause_limit: Duration,
    gunzip: Option<Gunzip>,
    ended: bool,
}

/// Why a body could not be read to its end.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The connection or its framing broke.
    Broken(hyper::Error),
    /// Nothing came for too long.
    Paused(Duration),
    /// The compressed bytes are damaged or cut short.
    Gzip(std::io::Error),
}

/// What the head says of the body, if it is something we read.
pub(crate) fn kind_of_body(headers: &HeaderMap) -> Result<(MediaType, Encoding), Refusal> {
    check_transfer_coding(headers)?;
    Ok((media_type(headers)?, encoding(headers)?))
}

impl<'a> BodyReader<'a> {
    pub(crate) fn new(incoming: &'a mut Incoming, encoding: Encoding, pause_limit: Duration) -> Self {
        Self {
            incoming,
            pause_limit,
            gunzip: (encoding == Encoding::Gzip).then(Gunzip::new),
            ended: false,
        }
    }

    /// The decoded length, where it is known beforehand.
    pub(crate) fn declared_length(&self) -> Option<u64> {
        if self.gunzip.is_some() {
            None
        } else {
            self.incoming.size_hint().exact()
        }
    }

    /// The next piece, or none at the end. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            if let Some(gunzip) = &mut self.gunzip {
                match gunzip.next().map_err(BodyError::Gzip)? {
                    Some(unfolded) => return Ok(Some(unfolded)),
                    None if self.ended => return Ok(None),
                    None => {}
                }
            }
            match (self.next_frame().await?, &mut self.gunzip) {
                (Some(data), None) => return Ok(Some(data)),
                (Some(data), Some(gunzip)) => gunzip.push(data),
                (None, None) => return Ok(None),
                (None, Some(gunzip)) => {
                    gunzip.finish();
                    self.ended = true;
                }
            }
        }
    }

    /// The next bytes as they were sent.
    async fn next_frame(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = timeout(self.pause_limit, self.incoming.frame());
            let Some(frame) = frame.await.map_err(|_| BodyError::Paused(self.pause_limit))? else {
                return Ok(None);
            };
            // Trailers say nothing we need.
            if let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

impl BodyError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Broken(_) | Self::Gzip(_) => StatusCode::BAD_REQUEST,
            Self::Paused(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "The body could not be read to its end: {error}."),
            Self::Paused(limit) => write!(f, "The body stopped in its middle: nothing came for {limit:?}."),
            Self::Gzip(error) => write!(f, "The body is not whole gzip: {error}."),
        }
    }
}

/// Chunks are undone before we see the body, and nothing else is: what was compressed for the way would be read as it stands
/// (RFC 9112, 6.1).
fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    for value in headers.get_all(header::TRANSFER_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        if !text.trim().eq_ignore_ascii_case("chunked") {
            let detail = format!(
                "The Transfer-Encoding {} is not taken: send chunked or none.",
                quote(&text)
            );
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, detail));
        }
    }
    Ok(())
}

fn media_type(headers: &HeaderMap) -> Result<MediaType, Refusal> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(unsupported("One Content-Type is needed"));
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(MediaType::Json)
    } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
        Ok(MediaType::Ndjson)
    } else {
        Err(unsupported(&format!("The Content-Type {} is not taken", quote(&text))))
    }
}

fn unsupported(what: &str) -> Refusal {
    let hint = "application/json for one object or an array of them, application/x-ndjson for one object a line";
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{what}: send {hint}."))
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let mut found = Encoding::Identity;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let gzip = name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip");
            if gzip && found == Encoding::Identity {
                found = Encoding::Gzip;
            } else if !name.eq_ignore_ascii_case("identity") {
                let detail = format!("The Content-Encoding {} is not taken: send gzip or none.", quote(&text));
                return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(lines: &[(&'static str, &'static str)]) -> Option<(MediaType, Encoding)> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        kind_of_body(&headers).ok()
    }

    #[test]
    fn media_types_and_encodings() {
        let (json, ndjson) = (
            ("content-type", "application/json"),
            ("content-type", "application/x-ndjson"),
        );
        for (lines, expected) in [
            (&[json][..], Some((MediaType::Json, Encoding::Identity))),
            (
                &[("content-type", "Application/JSON; charset=\"utf-8\"")],
                Some((MediaType::Json, Encoding::Identity)),
            ),
            (
                &[ndjson, ("content-encoding", "GZIP")],
                Some((MediaType::Ndjson, Encoding::Gzip)),
            ),
            (
                &[ndjson, ("content-encoding", "x-gzip")],
                Some((MediaType::Ndjson, Encoding::Gzip)),
            ),
            (
                &[json, ("content-encoding", "identity")],
                Some((MediaType::Json, Encoding::Identity)),
            ),
            (&[], None),
            (&[json, ndjson], None),
            (&[("content-type", "")], None),
            (&[("content-type", "text/plain")], None),
            (&[("content-type", "application/jsonl")], None),
            (&[("content-type", "application/x-www-form-urlencoded")], None),
            (
                &[json, ("transfer-encoding", "Chunked")],
                Some((MediaType::Json, Encoding::Identity)),
            ),
            (&[json, ("transfer-encoding", "gzip, chunked")], None),
            (
                &[json, ("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")],
                None,
            ),
            (&[json, ("content-encoding", "br")], None),
            (&[json, ("content-encoding", "gzip, gzip")], None),
            (
                &[json, ("content-encoding", "gzip"), ("content-encoding", "gzip")],
                None,
            ),
        ] {
            assert_eq!(kind(lines), expected, "{lines:?}");
        }
    }
}
