//! Reads the body of a request: its media type, its encoding, and its decoded bytes while they arrive.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, StatusCode,
    body::{Body, Incoming},
    header,
};
use tokio::time::timeout;

use crate::{
    http::{body_error::BodyError, error::HttpError, gunzip::Gunzip, right_door::BodyStart},
    quote::quote,
};

/// The media types that the server reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    Ndjson,
}

/// The content encodings that the server decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

/// A body that is decoded while it arrives.
pub(crate) struct BodyReader<'a> {
    declared_length: Option<u64>,
    source: Source<'a>,
    /// What the first decoded bytes look like, once they have arrived.
    start: Option<BodyStart>,
}

enum Source<'a> {
    Identity(Frames<'a>),
    Gzip(Box<Gunzip<'a>>),
}

/// The body as the client sent it, without HTTP's framing.
struct Frames<'a> {
    incoming: &'a mut Incoming,
    timeout: Duration,
}

/// What to send to `/ingest` in place of another media type.
const JSON_OR_NDJSON: &str =
    "send application/json with one object or an array of objects, or application/x-ndjson with one object a line";

/// What to send to the doors of apps in place of another media type.
const ONLY_JSON: &str = "send application/json, so choose JSON as the format of the app";

/// Reads the media type and the encoding of a body from its headers.
pub(crate) fn media_type_and_encoding(headers: &HeaderMap) -> Result<(MediaType, Encoding), HttpError> {
    let media_type = media_type(headers).map_err(|problem| unsupported_media_type(&problem, JSON_OR_NDJSON))?;
    Ok((media_type, encoding(headers)?))
}

/// Reads the encoding of a body that must be one JSON value.
pub(crate) fn json_encoding(headers: &HeaderMap) -> Result<Encoding, HttpError> {
    let problem = match media_type(headers) {
        Ok(MediaType::Json) => return encoding(headers),
        Ok(MediaType::Ndjson) => "The Content-Type application/x-ndjson is not supported".to_owned(),
        Err(problem) => problem,
    };
    Err(unsupported_media_type(&problem, ONLY_JSON))
}

impl<'a> BodyReader<'a> {
    /// Creates a reader that fails if the client pauses for longer than `timeout`.
    pub(crate) fn new(incoming: &'a mut Incoming, encoding: Encoding, timeout: Duration) -> Self {
        let length = incoming.size_hint().exact();
        let frames = Frames { incoming, timeout };
        match encoding {
            Encoding::Identity => Self {
                declared_length: length,
                source: Source::Identity(frames),
                start: None,
            },
            Encoding::Gzip => Self {
                declared_length: None,
                source: Source::Gzip(Box::new(frames.gunzip())),
                start: None,
            },
        }
    }

    /// Returns the decoded length, if the client declared it.
    pub(crate) fn declared_length(&self) -> Option<u64> {
        self.declared_length
    }

    /// Returns the next decoded bytes, or `None` at the end. Cancelling the call loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let bytes = match &mut self.source {
            Source::Identity(frames) => frames.next().await,
            Source::Gzip(gunzip) => gunzip.next().await,
        }?;
        if let (None, Some(bytes)) = (self.start, &bytes) {
            self.start = Some(BodyStart::of(bytes));
        }
        Ok(bytes)
    }

    /// Returns what the first bytes look like.
    pub(crate) fn start(&self) -> BodyStart {
        self.start.unwrap_or(BodyStart::Other)
    }
}

impl<'a> Frames<'a> {
    fn gunzip(self) -> Gunzip<'a> {
        Gunzip::new(stream::unfold(self, |mut frames| async {
            let frame = frames.next().await.transpose()?;
            Some((frame, frames))
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = timeout(self.timeout, self.incoming.frame());
            let Some(frame) = frame.await.map_err(|_| BodyError::TimedOut(self.timeout))? else {
                return Ok(None);
            };
            // Frames without data are trailers, which have no meaning here.
            if let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

impl From<io::Error> for BodyError {
    /// Returns the error of the compressed bytes that the decoder passed on, or else the decoder's own.
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Gzip)
    }
}

impl From<BodyError> for HttpError {
    fn from(error: BodyError) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

/// Reads the media type of a body, or returns why it cannot be read.
fn media_type(headers: &HeaderMap) -> Result<MediaType, String> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) => return Err("The request has no Content-Type".to_owned()),
        (Some(_), Some(_)) => return Err("The request has more than one Content-Type".to_owned()),
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(MediaType::Json)
    } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
        Ok(MediaType::Ndjson)
    } else {
        Err(format!("The Content-Type {} is not supported", quote(&text)))
    }
}

fn unsupported_media_type(problem: &str, remedy: &str) -> HttpError {
    HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{problem}: {remedy}."))
}

pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, HttpError> {
    let mut found = Encoding::Identity;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let gzip = name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip");
            if gzip && found == Encoding::Identity {
                found = Encoding::Gzip;
            } else if !name.eq_ignore_ascii_case("identity") {
                let detail = format!(
                    "The Content-Encoding {} is not supported: send gzip or none.",
                    quote(&text)
                );
                return Err(HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header_lines: &[(&'static str, &'static str)]) -> Option<(MediaType, Encoding)> {
        let mut headers = HeaderMap::new();
        for (name, value) in header_lines {
            headers.append(*name, value.parse().unwrap());
        }
        media_type_and_encoding(&headers).ok()
    }

    #[test]
    fn reads_supported_media_types_and_encodings_and_refuses_others() {
        let (json, ndjson) = (
            ("content-type", "application/json"),
            ("content-type", "application/x-ndjson"),
        );
        for (header_lines, expected) in [
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
            (&[json, ("content-encoding", "br")], None),
            (&[json, ("content-encoding", "gzip, gzip")], None),
            (
                &[json, ("content-encoding", "gzip"), ("content-encoding", "gzip")],
                None,
            ),
        ] {
            assert_eq!(read(header_lines), expected, "{header_lines:?}");
        }
    }
}
