//! HTTP: one connection, one request, and who answers it.

mod body;
mod elements;
mod gunzip;
mod ingest;
mod intake;
mod lines;
mod ops;
mod problem;
mod query;
pub(crate) mod room;
mod route;
mod samples;
pub(crate) mod seats;
mod stats;
mod unparsed;
mod unread;
mod users;

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    app::App,
    http::{
        problem::{Refusal, Reply, empty},
        query::{no_parameters, quote},
        route::Route,
        unparsed::Explaining,
        unread::Impatient,
    },
};

/// What a connection is told that is one too many.
pub(crate) const TOO_MANY_CONNECTIONS: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 2\r\n",
    "content-type: application/problem+json\r\ncontent-length: 137\r\n\r\n",
    r#"{"type":"about:blank","title":"Service Unavailable","status":503,"#,
    r#""detail":"Too many connections are open. Send the request again later."}"#
);

/// What a connection holds at most of what it has read, and of what it is to write, unless a head may be longer. hyper would
/// go up to seven times that for a client that sends fast, and a thousand of those would be half a gigabyte.
const BUFFER_BYTES: usize = 64 << 10;

/// How long a pause may be in what is read and thrown away behind an early answer. Closing over unread bytes would make the
/// system take the answer back, and a client that sends before it reads would never see why.
const LINGER: Duration = Duration::from_secs(5);

/// For how long that goes on, for a client that sends and sends.
const LINGER_MAX: Duration = Duration::from_mins(5);

/// Serves one connection to its end.
pub(crate) async fn serve(stream: TcpStream, app: Arc<App>) {
    let _open = app.metrics.http_connections.count();
    let seat = app.seats.take();
    let service = service_fn(|request| {
        let (app, seat) = (Arc::clone(&app), Arc::clone(&seat));
        // Boxed, because a connection keeps room for what it answers with from its first moment on.
        Box::pin(async move {
            seat.is_asked();
            let reply = answer(&app, request).await;
            Ok::<_, Infallible>(seat.silent_behind(reply))
        })
    });
    let stream = Explaining::new(Impatient::new(stream, app.limits.write_timeout));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits.header_timeout)
        .max_header_size(app.limits.max_header)
        .max_buf_size(app.limits.max_header.max(BUFFER_BYTES))
        // `nc` and scripts close their side once they have asked.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = seat.asked_to_leave() => return,
        () = app.closing.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                () = app.abort_connections.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke");
        if error.is_parse() {
            tokio::select! {
                () = hear_out(connection.into_parts().io.into_inner()) => {}
                () = app.closing.cancelled() => {}
            }
        }
    }
}

/// Reads what is left of a connection whose client was told why it ends, for a while.
async fn hear_out(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let hearing = async {
        stream.shutdown().await?;
        // On the heap, or every connection would carry it for its whole life.
        let mut ignored = vec![0; 4096];
        while stream.read(&mut ignored).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // Whether the client listened is its own affair.
    let _ = timeout(LINGER, hearing).await;
}

async fn answer(app: &Arc<App>, request: Request<Incoming>) -> Reply {
    let began = Instant::now();
    let (head, mut body) = request.into_parts();
    let route = Route::find(head.uri.path());
    let reply = match route {
        None if head.method == Method::OPTIONS && head.uri.path() == "*" => {
            allowing(StatusCode::NO_CONTENT, ANY_METHOD)
        }
        None => {
            let detail = format!(
                "There is nothing at {}. /openapi.json says what there is.",
                quote(head.uri.path())
            );
            Refusal::new(StatusCode::NOT_FOUND, detail).into_reply()
        }
        Some(route) if head.method == Method::OPTIONS => allowing(StatusCode::NO_CONTENT, route.allow()),
        Some(route) if !route.allows(&head.method) => {
            let detail = format!(
                "{} has no method {}. It has {}.",
                head.uri.path(),
                quote(head.method.as_str()),
                route.allow()
            );
            let mut reply = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_reply();
            reply
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(route.allow()));
            reply
        }
        Some(route) => {
            let answered = dispatch(app, route, head.uri.query(), &head.headers, &mut body).await;
            answered.unwrap_or_else(Refusal::into_reply)
        }
    };
    let template = route.map_or("other", Route::template);
    app.metrics
        .answered(template, &head.method, reply.status(), began.elapsed());
    // A client that waits for leave to send has sent nothing that could be in the way.
    if !head.headers.contains_key(header::EXPECT) {
        linger(app, body);
    }
    reply
}

async fn dispatch(
    app: &Arc<App>,
    route: Route<'_>,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Refusal> {
    match route {
        Route::Stats => stats::stats(app, query).await,
        Route::Series => stats::series(app, query).await,
        Route::Percentiles => stats::percentiles(app, query).await,
        Route::Users => users::list(app, query).await,
        Route::User(id) => {
            no_parameters(query)?;
            users::erase(app, id).await
        }
        Route::Samples => samples::samples(app, query, headers).await,
        Route::Ingest => {
            no_parameters(query)?;
            Ok(ingest::ingest(app, headers, body).await)
        }
        Route::Healthy => {
            no_parameters(query)?;
            Ok(ops::healthy())
        }
        Route::Ready => {
            no_parameters(query)?;
            ops::ready(app).await
        }
        Route::Counters => {
            no_parameters(query)?;
            Ok(ops::counters(app))
        }
        Route::OpenApi => {
            no_parameters(query)?;
            Ok(ops::open_api())
        }
    }
}

const ANY_METHOD: &str = "GET, HEAD, POST, DELETE, OPTIONS";

fn allowing(status: StatusCode, methods: &'static str) -> Reply {
    let mut reply = empty(status);
    reply
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(methods));
    reply
}

/// Reads what is left of a body, for a while. It goes on while the answer is being sent.
fn linger(app: &App, mut body: Incoming) {
    use hyper::body::Body;
    if body.is_end_stream() {
        return;
    }
    let closing = app.closing.clone();
    let rest = async move { while let Ok(Some(Ok(_))) = timeout(LINGER, body.frame()).await {} };
    tokio::spawn(closing.run_until_cancelled_owned(timeout(LINGER_MAX, rest)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_made_refusal_is_as_long_as_it_says() {
        let (head, body) = TOO_MANY_CONNECTIONS.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        assert_eq!(serde_json::from_str::<health_core::Problem>(body).unwrap().status, 503);
    }
}
