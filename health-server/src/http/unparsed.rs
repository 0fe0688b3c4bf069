//! Words for requests that are no HTTP.
//!
//! hyper answers a head that it cannot read by itself, with a status and no body, and nothing of ours is asked. This stands
//! between it and the connection, knows that answer when it passes, and sends a problem in its place.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::problem::Refusal;

/// A connection on which no refusal goes without its reason.
#[derive(Debug)]
pub(crate) struct Explaining<S> {
    stream: S,
    /// What is said in place of hyper's last answer, and how much of it is out.
    explanation: Option<(Vec<u8>, usize)>,
}

/// hyper's answer, in front of its status.
const BEGIN: &[u8] = b"HTTP/1.1 ";

/// And behind its reason, up to the date. Answers of ours with such a status have a body.
const END: &[u8] = b"\r\nconnection: close\r\ncontent-length: 0\r\ndate: ";

/// `Sun, 06 Nov 1994 08:49:37 GMT`, and the end of the head.
const DATE_BYTES: usize = 29 + 4;

/// What hyper says of heads it cannot read, and what there is to say about it.
const UNREADABLE: [(StatusCode, &str); 3] = [
    (
        StatusCode::BAD_REQUEST,
        "The request is not HTTP/1.1: its first line or a header line cannot be read. Nothing was stored.",
    ),
    (
        StatusCode::URI_TOO_LONG,
        "The address of the request is too long. Nothing was stored.",
    ),
    (
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The head of the request is too large, or has too many lines: send fewer or shorter headers and parameters. Nothing was stored.",
    ),
];

impl<S> Explaining<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            explanation: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> Explaining<S> {
    /// Sends the explanation, then says of the answer it stands for that it was sent.
    fn explain(&mut self, cx: &mut Context<'_>, stands_for: usize) -> Poll<io::Result<usize>> {
        while let Some((bytes, sent)) = &mut self.explanation {
            if *sent == bytes.len() {
                self.explanation = None;
                break;
            }
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *sent += written,
            }
        }
        Poll::Ready(Ok(stands_for))
    }

    /// Where in `bytes` hyper's own answer begins, if they end with it; and from there on its explanation is due.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let (place, explanation) = unreadable(bytes)?;
        if place == 0 {
            self.explanation = Some((explanation, 0));
        }
        Some(place)
    }
}

/// The place of an answer of hyper's own at the end of `bytes`, and what to send in its place.
fn unreadable(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (bytes, date) = bytes.split_at(bytes.len().checked_sub(DATE_BYTES)?);
    let head = bytes.strip_suffix(END)?;
    UNREADABLE.iter().find_map(|(status, detail)| {
        let line = format!("{} {}", status.as_str(), status.canonical_reason()?);
        let place = head.strip_suffix(line.as_bytes())?.strip_suffix(BEGIN)?.len();
        let body = serde_json::to_vec(&Refusal::new(*status, *detail).into_problem()).ok()?;
        let mut answer = [
            BEGIN,
            line.as_bytes(),
            b"\r\nconnection: close\r\ncontent-type: application/problem+json\r\n",
        ]
        .concat();
        answer.extend_from_slice(format!("content-length: {}\r\ndate: ", body.len()).as_bytes());
        answer.extend_from_slice(date);
        answer.extend_from_slice(&body);
        Some((place, answer))
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for Explaining<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explaining<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.explanation.is_some() {
            return self.explain(cx, bytes.len());
        }
        match self.find(bytes) {
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
            Some(0) => self.explain(cx, bytes.len()),
            // Answers to requests before it go first; it comes again by itself.
            Some(before) => Pin::new(&mut self.stream).poll_write(cx, &bytes[..before]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // hyper's own answer has no body, so it is whole in the last slice.
        match slices.iter().rev().find(|slice| !slice.is_empty()) {
            Some(last) if self.explanation.is_some() || unreadable(last).is_some() => {
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
