//! What operators ask: is it alive, can it work, what has it done.

use hyper::StatusCode;

use crate::{
    app::App,
    http::problem::{Refusal, Reply, json, with_body},
};

/// 200 while the process runs.
pub(crate) fn healthy() -> Reply {
    json(StatusCode::OK, &serde_json::json!({"status": "healthy"}))
}

/// 200 while samples can be stored.
pub(crate) async fn ready(app: &App) -> Result<Reply, Refusal> {
    if app.closing.is_cancelled() {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "The server is ending."));
    }
    match app.health.ready().await {
        Ok(()) => Ok(json(StatusCode::OK, &serde_json::json!({"status": "ready"}))),
        Err(error) => {
            tracing::warn!(error = error.chain(), "not ready");
            let detail = format!("Samples cannot be stored now: {error}.");
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        }
    }
}

/// What Prometheus scrapes.
pub(crate) fn counters(app: &App) -> Reply {
    let text = app.metrics.render(&app.health.counts());
    with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// What describes all of this.
pub(crate) fn open_api() -> Reply {
    with_body(StatusCode::OK, "application/json", include_str!("openapi.json"))
}
