//! Problems as the response to requests that hyper cannot parse.
//!
//! hyper itself answers a request head that it cannot parse. It sends a status without a body and calls no handler. The
//! wrapper in this file sits between hyper and the socket, recognises that response, and sends a problem in its place.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::{error::HttpError, raw_response::closing_response};

/// A stream that replaces hyper's own error responses with problems.
#[derive(Debug)]
pub(crate) struct ExplainParseErrors<S> {
    stream: S,
    /// Set while a replacement is being written.
    replacement: Option<Replacement>,
}

/// The response that replaces hyper's, and how much of it is written.
#[derive(Debug)]
struct Replacement {
    bytes: Vec<u8>,
    written: usize,
}

/// How hyper's response begins, up to the status.
const BEFORE_STATUS: &[u8] = b"HTTP/1.1 ";

/// How hyper's response goes on after the status, up to the date. Responses of our handlers with such a status have a
/// body.
const AFTER_STATUS: &[u8] = b"\r\nconnection: close\r\ncontent-length: 0\r\ndate: ";

/// The length of `Sun, 06 Nov 1994 08:49:37 GMT` and of the empty line that ends the head.
const DATE_BYTES: usize = 29 + 4;

/// The statuses with which hyper answers heads that it cannot parse, and the detail of our problem for each.
const PARSE_ERRORS: [(StatusCode, &str); 3] = [
    (
        StatusCode::BAD_REQUEST,
        "The request is not valid HTTP/1.1: its first line or one of its headers cannot be parsed. Nothing was stored.",
    ),
    (
        StatusCode::URI_TOO_LONG,
        "The URI of the request is too long: send fewer or shorter parameters. Nothing was stored.",
    ),
    (
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The head of the request is too large: send fewer or shorter headers and parameters. Nothing was stored.",
    ),
];

impl<S> ExplainParseErrors<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            replacement: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> ExplainParseErrors<S> {
    /// Writes the replacement, then reports `replaced_bytes` as written: the length of hyper's response.
    fn poll_write_replacement(&mut self, cx: &mut Context<'_>, replaced_bytes: usize) -> Poll<io::Result<usize>> {
        while let Some(Replacement { bytes, written }) = &mut self.replacement {
            if *written == bytes.len() {
                self.replacement = None;
                break;
            }
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
        Poll::Ready(Ok(replaced_bytes))
    }
}

/// Finds a response of hyper's own at the end of `bytes`. Returns its offset and the response to send in its place.
fn parse_error_response(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (bytes, date) = bytes.split_at(bytes.len().checked_sub(DATE_BYTES)?);
    let head = bytes.strip_suffix(AFTER_STATUS)?;
    PARSE_ERRORS.iter().find_map(|(status, detail)| {
        let status_line = format!("{} {}", status.as_str(), status.canonical_reason()?);
        let before = head.strip_suffix(status_line.as_bytes())?.strip_suffix(BEFORE_STATUS)?;
        let date = format!("date: {}", String::from_utf8_lossy(date).trim_end());
        let response = closing_response(HttpError::new(*status, *detail), &date);
        Some((before.len(), response))
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for ExplainParseErrors<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ExplainParseErrors<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.replacement.is_some() {
            return self.poll_write_replacement(cx, bytes.len());
        }
        match parse_error_response(bytes) {
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
            Some((0, response)) => {
                self.replacement = Some(Replacement {
                    bytes: response,
                    written: 0,
                });
                self.poll_write_replacement(cx, bytes.len())
            }
            // Responses to earlier requests go first. hyper then writes its own response again, alone.
            Some((offset, _)) => Pin::new(&mut self.stream).poll_write(cx, &bytes[..offset]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // hyper's own response has no body, so the last slice ends with the whole of it.
        match slices.iter().rev().find(|slice| !slice.is_empty()) {
            Some(last) if self.replacement.is_some() || parse_error_response(last).is_some() => {
                let first = slices.iter().find(|slice| !slice.is_empty()).unwrap_or(last);
                self.poll_write(cx, first)
            }
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
