//! Responses that succeed: JSON, other media types, and responses without a body.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderValue},
};
use serde::Serialize;

/// The response type of every handler. Its body is in memory, or is streamed and may fail half way.
pub(crate) type HttpResponse = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// The headers of most responses: a map that grows allocates twice.
const HEADERS: usize = 8;

/// Returns a response with `value` as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(value) {
        Ok(body) => with_body(status, "application/json", body),
        Err(error) => {
            tracing::error!(%error, "cannot write a response as JSON");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Returns a response with a body of any media type.
pub(crate) fn with_body(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> HttpResponse {
    let mut response = empty(status);
    *response.body_mut() = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Returns a response without a body.
pub(crate) fn empty(status: StatusCode) -> HttpResponse {
    let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    response
}
