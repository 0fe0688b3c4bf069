//! Reading a request's body: what it claims to be, its bytes without their encoding, its lines.

use std::{fmt, io::Write, time::Duration};

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, StatusCode,
    body::{Body, Incoming},
    header,
};
use tokio::time::timeout;

use crate::http::{problem::Refusal, query::quote};

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
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    encoded: Bytes,
    /// What is wrong with the compressed bytes, told once everything before it was.
    damage: Option<std::io::Error>,
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
    Ok((media_type(headers)?, encoding(headers)?))
}

impl<'a> BodyReader<'a> {
    pub(crate) fn new(incoming: &'a mut Incoming, encoding: Encoding, pause_limit: Duration) -> Self {
        let decoder = (encoding == Encoding::Gzip).then(|| MultiGzDecoder::new(Vec::new()));
        Self {
            incoming,
            pause_limit,
            decoder,
            encoded: Bytes::new(),
            damage: None,
        }
    }

    /// The decoded length, where it is known beforehand.
    pub(crate) fn declared_length(&self) -> Option<u64> {
        if self.decoder.is_some() {
            None
        } else {
            self.incoming.size_hint().exact()
        }
    }

    /// The next piece, or none at the end. Cancelling loses nothing.
    ///
    /// A piece of a compressed body is at most the decoder's buffer (32 KiB), whatever the ratio: a bomb unfolds slowly
    /// enough for the limits on lines and bodies to stop it.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            if let Some(unfolded) = self.unfold()? {
                return Ok(Some(unfolded));
            }
            let Some(frame) = timeout(self.pause_limit, self.incoming.frame())
                .await
                .map_err(|_| BodyError::Paused(self.pause_limit))?
            else {
                return self.finish();
            };
            // Trailers say nothing we need.
            let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else {
                continue;
            };
            if self.decoder.is_none() {
                return Ok(Some(data));
            }
            self.encoded = data;
        }
    }

    /// What comes next out of the compressed bytes at hand.
    fn unfold(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(None);
        };
        while !self.encoded.is_empty() && self.damage.is_none() {
            match decoder.write(&self.encoded) {
                Ok(taken) => self.encoded.advance(taken),
                Err(error) => self.damage = Some(error),
            }
            if !decoder.get_ref().is_empty() {
                return Ok(Some(std::mem::take(decoder.get_mut()).into()));
            }
        }
        self.damage.take().map_or(Ok(None), |error| Err(BodyError::Gzip(error)))
    }

    fn finish(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(mut decoder) = self.decoder.take() else {
            return Ok(None);
        };
        let finished = decoder.try_finish();
        let rest = std::mem::take(decoder.get_mut());
        match finished {
            Err(error) if rest.is_empty() => Err(BodyError::Gzip(error)),
            Err(error) => {
                // Told at the next call.
                self.decoder = Some(MultiGzDecoder::new(Vec::new()));
                self.damage = Some(error);
                Ok(Some(rest.into()))
            }
            Ok(()) => Ok((!rest.is_empty()).then(|| rest.into())),
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
