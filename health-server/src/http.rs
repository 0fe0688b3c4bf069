//! The HTTP server: serves a connection, finds the endpoint of each request, and calls its handler.

pub(crate) mod auth;
mod body;
mod body_error;
pub(crate) mod body_memory;
mod cut_off;
mod doors;
mod erase;
mod error;
mod feed;
pub(crate) mod framing;
mod gunzip;
mod host;
pub(crate) mod idle_connections;
mod ingest;
mod json_records;
mod line_splitter;
mod open_connection;
mod ops;
mod page;
mod parse_errors;
mod query;
mod raw_response;
mod refusal;
mod response;
mod right_door;
mod route;
mod samples;
pub(crate) mod starting;
mod stats;
mod upload;
mod users;
mod write_timeout;

use std::{
    any::Any, convert::Infallible, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration,
};

use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::{
    Method, Request, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::io::InspectReader;

use crate::{
    acceptor::peer_ip,
    app::App,
    connection_slots::{ConnectionLimit, ConnectionSlot},
    http::{
        auth::{Caller, Rule, authorize},
        error::HttpError,
        framing::{check_transfer_coding, close_as_declared, declare_persistence},
        host::{check_host_and_origin, check_one_host},
        open_connection::OpenConnection,
        parse_errors::ExplainParseErrors,
        query::no_parameters,
        raw_response::closing_response,
        response::{HttpResponse, empty},
        route::Route,
        write_timeout::WriteTimeout,
    },
    metrics::method_label,
    quote::quote,
    refusals::{Attempt, Refusal, RefusalReason},
    request_id::{REQUEST_ID, RequestId},
    tls::{Port, secure},
};

/// The size of a connection's read buffer and of its write buffer, unless a request head may be longer.
///
/// hyper's default is about 400 KiB. A thousand clients that send fast would then take half a gigabyte.
const BUFFER_BYTES: usize = 64 << 10;

/// How long a client may pause while the server discards the rest of its request after an early response.
///
/// If the server closed a connection with unread bytes, the system would reset it, and a client that sends its whole
/// request before it reads would never see the response.
const MAX_DISCARD_PAUSE: Duration = Duration::from_secs(5);

/// How long the server discards at most, for a client that never stops sending.
const MAX_DISCARD_TIME: Duration = Duration::from_mins(5);

/// The header by which a browser keeps a response from pages of other servers (Fetch standard, 3.7).
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The `Allow` header of `OPTIONS *`: the methods that any endpoint supports.
const ALL_METHODS: &str = "GET, HEAD, POST, DELETE, OPTIONS";

/// Returns the response to a connection over a limit of open connections. It is written without hyper.
pub(crate) fn refusal(limit: ConnectionLimit) -> Vec<u8> {
    let detail = match limit {
        ConnectionLimit::Total => "Too many connections are open. Send the request again later.",
        ConnectionLimit::OfAddress => {
            "Too many connections from your network are open. Close some, or send the request again later."
        }
    };
    closing_response(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail), "")
}

/// Returns the response to a client that does not speak TLS.
fn plain_text_refusal() -> Vec<u8> {
    let detail = "This port speaks TLS. Use a URL with https://.";
    closing_response(HttpError::new(StatusCode::BAD_REQUEST, detail), "")
}

/// Serves one connection to its end.
pub(crate) async fn serve(stream: TcpStream, slot: ConnectionSlot, app: Arc<App>) {
    let tracked = app.idle_connections.track();
    let peer = peer_ip(&stream);
    let open = Arc::new(OpenConnection::new(&app, peer, slot));
    let service = service_fn(|request| {
        let (app, tracked, open) = (Arc::clone(&app), Arc::clone(&tracked), Arc::clone(&open));
        // On the heap, because the future of an idle connection would otherwise have the size of the largest handler.
        Box::pin(async move {
            tracked.mark_busy();
            let id = RequestId::of(request.headers());
            let mut response = id.clone().scope(respond(&app, &open, request)).await;
            response.headers_mut().insert(REQUEST_ID, id.header_value());
            Ok::<_, Infallible>(tracked.idle_after(response, id))
        })
    });
    let stream = tokio::select! {
        secured = secure(stream, app.tls.as_deref(), Port::Http, plain_text_refusal) => match secured {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, %peer, "an HTTP connection did not complete its TLS handshake");
                return;
            }
        },
        () = tracked.close_requested() => return,
        () = app.closing.cancelled() => return,
    };
    let stream = ExplainParseErrors::new(WriteTimeout::new(stream, app.limits.write_timeout, Arc::clone(&open)));
    let mut silent = Some(Arc::clone(&tracked));
    let stream = InspectReader::new(stream, move |bytes: &[u8]| {
        if let Some(connection) = silent.take_if(|_| !bytes.is_empty()) {
            connection.mark_started();
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits.header_timeout)
        .max_header_size(app.limits.max_header)
        .max_buf_size(app.limits.max_header.max(BUFFER_BYTES))
        // `nc` and scripts close their sending side after the request.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let result = tokio::select! {
        biased; // A request that has arrived is read before the connection makes room.
        result = &mut connection => result,
        () = tracked.close_requested() => return,
        () = app.closing.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                result = &mut connection => result,
                () = app.abort_connections.cancelled() => return,
            }
        }
    };
    if let Err(error) = &result {
        tracing::debug!(%error, "an HTTP connection failed");
    }
    if result.map_or_else(|error| error.is_parse(), |()| true) {
        tokio::select! {
            () = discard_connection(connection.into_parts().io.into_inner()) => {}
            () = tracked.close_requested() => {}
            () = app.closing.cancelled() => {}
        }
    }
}

/// Reads and discards what a client still sends after the last response, until it closes its side too.
async fn discard_connection(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let discard = async {
        stream.shutdown().await?;
        // On the heap, because the future of every connection would otherwise contain the buffer.
        let mut buffer = vec![0; 4096];
        while stream.read(&mut buffer).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // It makes no difference whether the client closes, the connection breaks, or the time is over.
    let _ = timeout(MAX_DISCARD_PAUSE, discard).await;
}

/// Responds to one request, and counts it.
async fn respond(app: &Arc<App>, open: &OpenConnection, request: Request<Incoming>) -> HttpResponse {
    let start = Instant::now();
    let (head, mut body) = request.into_parts();
    let route = Route::find(head.uri.path());
    let attempt = Attempt {
        verb: method_label(&head.method),
        route: route.map_or("other", Route::template),
        peer: open.peer,
    };
    let response = or_500(answer(app, open, attempt, route, &head, &mut body)).await;
    let mut response = response.unwrap_or_else(HttpError::into_response);
    app.metrics
        .record_response(attempt.route, attempt.verb, response.status(), start.elapsed());
    keep_private(&mut response);
    if !app.closing.is_cancelled() {
        declare_persistence(&head, &mut response, app.keep_alive.as_ref());
    }
    close_as_declared(head.version, &mut response);
    // A client that waits for `100 Continue` has not sent its body.
    if !head.headers.contains_key(header::EXPECT) {
        discard_body(app, body);
    }
    response
}

/// Turns a panic of a handler into a 500, so that it ends neither the connection nor the responses before it.
///
/// It is no `async fn`, because the future of one would contain the handler's twice.
fn or_500(
    handler: impl Future<Output = Result<HttpResponse, HttpError>>,
) -> impl Future<Output = Result<HttpResponse, HttpError>> {
    let outcome = AssertUnwindSafe(handler).catch_unwind();
    outcome.map(|outcome| outcome.unwrap_or_else(|panic| Err(after_panic(&*panic))))
}

fn after_panic(panic: &(dyn Any + Send)) -> HttpError {
    // Only a fixed message: another one may contain values of samples.
    let message = panic.downcast_ref::<&str>().copied();
    tracing::error!(message, "a handler panicked");
    let detail = "The server cannot process the request. Its log has the reason.";
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, detail).closing()
}

/// Finds the response to one request.
async fn answer(
    app: &Arc<App>,
    open: &OpenConnection,
    attempt: Attempt,
    route: Option<Route<'_>>,
    head: &Parts,
    body: &mut Incoming,
) -> Result<HttpResponse, HttpError> {
    check_transfer_coding(&head.headers)?;
    let caller = admit(app, route, head, attempt).await?;
    let (path, method) = (head.uri.path(), &head.method);
    match route {
        None if *method == Method::OPTIONS && path == "*" => Ok(with_allow(empty(StatusCode::NO_CONTENT), ALL_METHODS)),
        None => {
            let hint = right_door::of_unknown_path(path, method);
            let detail = format!("No endpoint has the path {}. {hint}", quote(path));
            Err(HttpError::new(StatusCode::NOT_FOUND, detail))
        }
        Some(route) if *method == Method::OPTIONS => Ok(with_allow(empty(StatusCode::NO_CONTENT), route.allow())),
        Some(route) if !route.allows(method) => {
            let detail = format!(
                "{path} does not support the method {}. It supports {}.",
                quote(method.as_str()),
                route.allow()
            );
            let hint = right_door::of_wrong_method(route, method);
            let error = HttpError::new(StatusCode::METHOD_NOT_ALLOWED, detail).with_hints(hint);
            Ok(with_allow(error.into_response(), route.allow()))
        }
        Some(route) => dispatch(app, open, route, caller, head, body).await,
    }
}

/// Returns the response of a query, unless the access of the caller ends first.
///
/// A query may wait for longer than a change of tokens may take to have effect.
async fn in_force(
    app: &App,
    caller: &Caller,
    query: Pin<Box<impl Future<Output = Result<HttpResponse, HttpError>> + Send>>,
) -> Result<HttpResponse, HttpError> {
    // On the heap, and only if there is a wait.
    let access_ended = async { Box::pin(app.authenticator.ended(&caller.access)).await };
    tokio::select! {
        biased; // Most queries answer before there is a reason to watch.
        response = query => response,
        end = access_ended => Err(caller.access_ended(end)),
    }
}

/// Checks the host that a request names, and what its token permits.
async fn admit(app: &App, route: Option<Route<'_>>, head: &Parts, attempt: Attempt) -> Result<Caller, HttpError> {
    check_one_host(head)?;
    if !app.authenticator.is_token_needed() {
        check_host_and_origin(head, &app.allowed_hosts).inspect_err(|error| {
            let reason = match error.status() {
                StatusCode::MISDIRECTED_REQUEST => RefusalReason::Host,
                StatusCode::FORBIDDEN => RefusalReason::Origin,
                _ => return,
            };
            app.refusals.add(&Refusal::new(attempt, reason));
        })?;
    }
    let rule = match route {
        Some(route) if route.allows(&head.method) || route.rule(&head.method) == Rule::Public => {
            route.rule(&head.method)
        }
        // Only a caller with a token learns which paths and methods there are.
        _ => Rule::AnyToken,
    };
    authorize(app, rule, &head.headers, attempt).await
}

/// Calls the handler of an endpoint.
async fn dispatch(
    app: &Arc<App>,
    open: &OpenConnection,
    route: Route<'_>,
    caller: Caller,
    head: &Parts,
    body: &mut Incoming,
) -> Result<HttpResponse, HttpError> {
    let (method, query, headers) = (&head.method, head.uri.query(), &head.headers);
    if !route.has_parameters() {
        no_parameters(query)?;
    }
    // The futures of queries are large. On the heap, because each request would otherwise allocate and copy as many
    // bytes.
    match route {
        Route::Ingest => ingest::ingest(app, &caller, headers, body).await,
        Route::HealthAutoExport => Box::pin(doors::health_auto_export(app, &caller, query, headers, body)).await,
        Route::HealthConnect => Box::pin(doors::health_connect(app, &caller, query, headers, body)).await,
        Route::WriteV2 | Route::WriteV1 => Box::pin(doors::line_protocol(app, &caller, query, headers, body)).await,
        Route::Stats => in_force(app, &caller, Box::pin(stats::stats(app, &caller, query))).await,
        Route::Series => in_force(app, &caller, Box::pin(stats::series(app, &caller, query))).await,
        Route::Percentiles => in_force(app, &caller, Box::pin(stats::percentiles(app, &caller, query))).await,
        Route::Users => in_force(app, &caller, Box::pin(users::list(app, &caller, query))).await,
        Route::User(id) => Box::pin(erase::user(app, caller, id)).await,
        Route::Samples if *method == Method::DELETE => Box::pin(erase::samples(app, caller, query)).await,
        Route::Samples => in_force(app, &caller, Box::pin(samples::samples(app, &caller, query, headers))).await,
        Route::Feed => feed::feed(app, &caller, open, query, headers),
        Route::Healthy => Ok(ops::healthy()),
        Route::Ready => Box::pin(ops::ready(app)).await,
        Route::Prometheus => Ok(ops::prometheus(app)),
        Route::OpenApi => Ok(ops::open_api()),
        Route::Page(file) => Ok(page::page(file, headers)),
    }
}

/// Keeps responses out of caches, and out of web pages of other servers, which could embed them without reading them.
fn keep_private(response: &mut HttpResponse) {
    let headers = response.headers_mut();
    // The files of the page contain no data, and say how long they may be kept.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}

fn with_allow(mut response: HttpResponse, methods: &'static str) -> HttpResponse {
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// Reads and discards the rest of a body, in a task of its own, while the response is being sent.
fn discard_body(app: &App, mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    let closing = app.closing.clone();
    let discard = async move { while let Ok(Some(Ok(_))) = timeout(MAX_DISCARD_PAUSE, body.frame()).await {} };
    tokio::spawn(closing.run_until_cancelled_owned(timeout(MAX_DISCARD_TIME, discard)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_a_500_that_closes_the_connection() {
        let response = or_500(async { panic!("a bug") }).await.unwrap_err().into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONNECTION], "close");
        let fine = or_500(async { Ok(empty(StatusCode::NO_CONTENT)) }).await;
        assert_eq!(fine.unwrap().status(), StatusCode::NO_CONTENT);
    }
}
