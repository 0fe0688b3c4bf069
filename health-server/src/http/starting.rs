//! HTTP while the server waits for its database at its start: it answers every request with 503 and the reason.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use health_core::{DatabaseStatus, Error};
use http_body_util::BodyExt;
use hyper::{Request, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    http::{error::HttpError, ops, parse_errors::ExplainParseErrors, plain_text_refusal, response::HttpResponse},
    listeners::Listeners,
    request_id::{REQUEST_ID, RequestId},
    tls::{Port, ServerTls, secure},
};

/// How long connections wait before they get an answer: a usual start is faster, and serves them itself.
const GRACE: Duration = Duration::from_secs(2);

/// The number of connections that are answered at the same time. Further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 100;

/// How long a connection may take to send its request and to read the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after the system failed to accept a connection. It usually lacks file descriptors.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Answers requests until it is dropped. A connection serves one request.
pub(crate) async fn answer(listeners: &Listeners, status: &DatabaseStatus) -> Infallible {
    sleep(GRACE).await;
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listeners.http.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(timeout(
                    CONNECTION_TIMEOUT,
                    serve(stream, listeners.tls.clone(), status.clone()),
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, tls: Option<Arc<ServerTls>>, status: DatabaseStatus) {
    let stream = match secure(stream, tls.as_deref(), Port::Http, plain_text_refusal).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a connection did not complete its TLS handshake");
            return;
        }
    };
    let service = service_fn(|request| {
        let id = RequestId::of(request.headers());
        let mut response = respond(&request, &status);
        response.headers_mut().insert(REQUEST_ID, id.header_value());
        // The rest of the body is read, because a closed connection with unread bytes would be reset, and the client
        // could lose the response.
        let mut body = request.into_body();
        tokio::spawn(timeout(CONNECTION_TIMEOUT, async move {
            while let Some(Ok(_)) = body.frame().await {}
        }));
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIMEOUT)
        .keep_alive(false)
        .half_close(true)
        .serve_connection(TokioIo::new(ExplainParseErrors::new(stream)), service);
    if let Err(error) = pin!(connection).await {
        tracing::debug!(%error, "an HTTP connection failed");
    }
}

fn respond(request: &Request<Incoming>, status: &DatabaseStatus) -> HttpResponse {
    if request.uri().path() == "/-/healthy" {
        return ops::healthy();
    }
    let reason = status.outage().map_or_else(
        || "it waits for its database".to_owned(),
        |outage| Error::Stopped(outage.reason).to_string(),
    );
    let detail =
        format!("The server is starting: {reason}. Send the request again later; nothing acknowledged is lost.");
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
}
