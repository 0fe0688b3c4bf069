//! Problems that the server writes to a connection without hyper.

use hyper::StatusCode;

use crate::{
    http::error::{HttpError, RETRY_AFTER_SECONDS},
    request_id::RequestId,
};

/// Returns the bytes of a whole response, after which the connection is closed. It has a random request id.
///
/// `last_header` is one more header without its line end, such as `date: …`.
pub(crate) fn closing_response(error: HttpError, last_header: &str) -> Vec<u8> {
    let problem = error.into_problem();
    let (status, title) = (problem.status, &problem.title);
    // Cannot fail: a problem consists of strings and numbers.
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let retry_after = if status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        format!("retry-after: {RETRY_AFTER_SECONDS}\r\n")
    } else {
        String::new()
    };
    let end_of_header = if last_header.is_empty() { "" } else { "\r\n" };
    let response = format!(
        "HTTP/1.1 {status} {title}\r\nconnection: close\r\n{retry_after}x-request-id: {}\r\ncontent-type: \
         application/problem+json\r\ncontent-length: {}\r\n{last_header}{end_of_header}\r\n{body}",
        RequestId::random(),
        body.len()
    );
    response.into_bytes()
}

#[cfg(test)]
mod tests {
    use health_core::Problem;

    use super::*;

    #[test]
    fn the_response_declares_its_length_and_has_a_request_id() {
        for last_header in ["", "date: Sun, 06 Nov 1994 08:49:37 GMT"] {
            let error = HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "Too many.");
            let response = String::from_utf8(closing_response(error, last_header)).unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            let headers: Vec<_> = head.split("\r\n").collect();
            assert_eq!(headers[0], "HTTP/1.1 503 Service Unavailable");
            assert!(
                headers.contains(&format!("content-length: {}", body.len()).as_str()),
                "{head}"
            );
            assert!(headers.contains(&"retry-after: 2"), "{head}");
            assert!(
                headers.iter().any(|header| header.starts_with("x-request-id: ")),
                "{head}"
            );
            assert!(last_header.is_empty() || headers.contains(&last_header), "{head}");
            assert_eq!(serde_json::from_str::<Problem>(body).unwrap().status, 503);
        }
    }
}
