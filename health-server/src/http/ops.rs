//! Endpoints for operators: health, readiness, Prometheus metrics and the description of the API.

use hyper::StatusCode;

use crate::{
    app::App,
    http::{
        error::HttpError,
        response::{HttpResponse, json, with_body},
    },
    metrics::State,
    tls::ServerTls,
};

/// `GET /-/healthy`: 200 while the process runs.
pub(crate) fn healthy() -> HttpResponse {
    json(StatusCode::OK, &serde_json::json!({"status": "healthy"}))
}

/// `GET /-/ready`: 200 while the server can store samples.
pub(crate) async fn ready(app: &App) -> Result<HttpResponse, HttpError> {
    if app.closing.is_cancelled() {
        let detail = "The server is shutting down.";
        return Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    match app.health.ready().await {
        Ok(()) => Ok(json(StatusCode::OK, &serde_json::json!({"status": "ready"}))),
        Err(error) => {
            tracing::warn!(error = error.chain(), "not ready");
            let detail = format!("The server cannot store samples now: {error}.");
            Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        }
    }
}

/// `GET /-/metrics`: the server's metrics in Prometheus' text format.
pub(crate) fn prometheus(app: &App) -> HttpResponse {
    let text = app.metrics.render(&State {
        core: &app.health.counts(),
        refused: &app.refusals.counts(),
        tls: app.tls.as_deref().map(ServerTls::status),
        failed_reloads: app.reloads.count(),
        tokens: app.authenticator.summary(),
    });
    with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// `GET /openapi.json`: the description of every endpoint.
pub(crate) fn open_api() -> HttpResponse {
    with_body(StatusCode::OK, "application/json", include_str!("openapi.json"))
}
