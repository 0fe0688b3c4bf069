//! Where the body of a request ends, and whether its connection serves another request (RFC 9112, 6, 7 and 9.3).
//!
//! A client and this server, or a proxy between them, may see different ends of one body. The server would then execute
//! the rest of the body as a request of its own ("request smuggling"). So every response that leaves the end in doubt
//! closes the connection. hyper does so for the framing that it cannot read; this file does so for the rest.

use std::time::Duration;

use hyper::{
    HeaderMap, Method, StatusCode, Version,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};

use crate::{
    http::{error::HttpError, response::HttpResponse},
    quote::quote,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Refuses every `Transfer-Encoding` but a single `chunked` (RFC 9112, 6.1), whatever the path and the method are.
///
/// hyper decodes the last `chunked` and hands out the bytes of any other coding as they are.
pub(crate) fn check_transfer_coding(headers: &HeaderMap) -> Result<(), HttpError> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(first) = values.next() else {
        return Ok(());
    };
    if first.as_bytes().eq_ignore_ascii_case(b"chunked") && values.next().is_none() {
        return Ok(());
    }
    let all: Vec<_> = headers
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let detail = format!(
        "The Transfer-Encoding {} is not supported: send chunked once, or a Content-Length. Nothing was stored.",
        quote(&all.join(", "))
    );
    Err(HttpError::new(StatusCode::NOT_IMPLEMENTED, detail).closing())
}

/// Refuses a request that needs a body but does not declare one (RFC 9110, 15.5.12).
///
/// By the standard it has no body. But a client that sends one all the same has it executed as requests, so the
/// response closes the connection.
pub(crate) fn require_body(headers: &HeaderMap) -> Result<(), HttpError> {
    if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    let detail =
        "The request declares no body: send Content-Length, or Transfer-Encoding: chunked. Nothing was stored.";
    Err(HttpError::new(StatusCode::LENGTH_REQUIRED, detail).closing())
}

/// Returns the value of `Keep-Alive` that says how long a connection stays open for another request; `None` if it does
/// not.
pub(crate) fn keep_alive(idle_timeout: Duration) -> Option<HeaderValue> {
    let seconds = idle_timeout.as_secs();
    HeaderValue::try_from(format!("timeout={seconds}"))
        .ok()
        .filter(|_| seconds > 0)
}

/// Says in the response that the connection stays open for another request, or closes it.
///
/// A client of `CONNECT` may send the bytes of its tunnel before it has read that there is none.
pub(crate) fn declare_persistence(request: &Parts, response: &mut HttpResponse, keep_alive: Option<&HeaderValue>) {
    let headers = response.headers_mut();
    if request.method == Method::CONNECT {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let Some(keep_alive) = keep_alive else { return };
    if !headers.contains_key(header::CONNECTION) && persists(request) {
        // The field is of this connection only, so `Connection` has to name it (RFC 9110, 7.6.1).
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert(KEEP_ALIVE, keep_alive.clone());
    }
}

/// Gives a response that closes the connection the version of an old request.
///
/// In a response of HTTP/1.1 to HTTP/1.0, hyper would add `keep-alive` to `Connection: close`, if the client has asked
/// for it.
pub(crate) fn close_as_declared(version: Version, response: &mut HttpResponse) {
    let closes = response
        .headers()
        .get(header::CONNECTION)
        .is_some_and(|value| value == "close");
    if closes && version == Version::HTTP_10 {
        *response.version_mut() = version;
    }
}

/// Returns whether the client wants to send another request. hyper decides by the same rules.
fn persists(request: &Parts) -> bool {
    let has_option = |option: &str| {
        request.headers.get_all(header::CONNECTION).iter().any(|value| {
            let text = value.to_str().unwrap_or_default();
            text.split(',').any(|found| found.trim().eq_ignore_ascii_case(option))
        })
    };
    !has_option("close") && (request.version == Version::HTTP_11 || has_option("keep-alive"))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;
    use crate::http::response::empty;

    #[test]
    fn only_a_single_chunked_is_a_known_transfer_coding() {
        for (values, accepted) in [
            (&[][..], true),
            (&["chunked"], true),
            (&["Chunked"], true),
            (&["chunked, chunked"], false),
            (&["chunked", "chunked"], false),
            (&["gzip, chunked"], false),
            (&["gzip", "chunked"], false),
            (&["chunked, identity"], false),
            (&["chunked,"], false),
            (&["identity"], false),
            (&[""], false),
        ] {
            let values = values.iter().map(|value| HeaderValue::from_static(value));
            let mut headers = HeaderMap::new();
            values.for_each(|value| {
                headers.append(header::TRANSFER_ENCODING, value);
            });
            assert_eq!(check_transfer_coding(&headers).is_ok(), accepted, "{headers:?}");
        }
    }

    #[test]
    fn the_response_says_how_long_a_connection_stays_open_if_it_does() {
        for (method, version, connection, expected) in [
            ("GET", Version::HTTP_11, "", Some("timeout=30")),
            ("GET", Version::HTTP_11, "Keep-Alive", Some("timeout=30")),
            ("GET", Version::HTTP_11, "te, Close", None),
            ("GET", Version::HTTP_10, "", None),
            ("GET", Version::HTTP_10, "keep-alive", Some("timeout=30")),
            ("CONNECT", Version::HTTP_11, "", None),
        ] {
            let request = Request::builder().method(method).version(version);
            let (request, ()) = request.header("connection", connection).body(()).unwrap().into_parts();
            let mut response = empty(StatusCode::OK);
            let keep_alive = keep_alive(Duration::from_millis(30_900));
            declare_persistence(&request, &mut response, keep_alive.as_ref());
            let found = response.headers().get(KEEP_ALIVE).map(|value| value.to_str().unwrap());
            assert_eq!(found, expected, "{request:?}");
            let mut closing = HttpError::new(StatusCode::LENGTH_REQUIRED, "")
                .closing()
                .into_response();
            declare_persistence(&request, &mut closing, keep_alive.as_ref());
            assert!(!closing.headers().contains_key(KEEP_ALIVE));
        }
        assert_eq!(keep_alive(Duration::from_millis(999)), None);
    }
}
