//! A running server: both doors, and the order in which it ends.

use std::{future::Future, sync::Arc};

use health_core::{Error, Health};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    accept::{Door, Listeners},
    app::App,
    feed,
    http::{self, TOO_MANY_CONNECTIONS},
    limits::Limits,
};

/// Of so many parts of the drain time uploads under way get one to arrive, answers another one, and what nobody waits for any
/// more the rest.
const DRAIN_PARTS: u32 = 3;

/// Serves until `shutdown` resolves, then stores what was accepted and ends.
///
/// Feed clients get `bye`. Uploads under way get a third of [`Limits::drain_timeout`] to arrive.
///
/// # Errors
/// [`Error::TimedOut`] where not everything was stored within [`Limits::drain_timeout`]; none of that was acknowledged.
pub async fn run(
    listeners: Listeners,
    health: Health,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let app = Arc::new(App::new(health, limits));
    let tasks = TaskTracker::new();
    let doors = tokio::spawn({
        let app = Arc::clone(&app);
        let tasks = tasks.clone();
        async move {
            let (http, feed) = doors(&app, listeners, &tasks);
            let refused = || app.metrics.connection_refused();
            let make_way = || app.seats.make_way(app.limits.idle_grace.get());
            tokio::join!(
                http.open(make_way, refused, |stream| http::serve(stream, Arc::clone(&app))),
                // Whoever listens to the feed is silent, and right to be.
                feed.open(|| false, refused, |stream| feed::serve(stream, Arc::clone(&app))),
            );
        }
    });
    shutdown.await;
    tracing::info!("ending: storing what was accepted");
    app.closing.cancel();
    tasks.close();
    let drain = app.limits.drain_timeout.get();
    let (began, part) = (Instant::now(), drain / DRAIN_PARTS);
    if timeout_at(began + part, tasks.wait()).await.is_err() {
        app.uploads_end.cancel();
        if timeout_at(began + part * 2, tasks.wait()).await.is_err() {
            tracing::warn!("connections were cut off: they did not end within the drain time");
        }
    }
    app.ended.cancel();
    // Ended by `closing`; a panic in it was reported already.
    let _ = doors.await;
    let closed = timeout_at(began + drain, app.health.clone().close()).await;
    closed.unwrap_or(Err(Error::TimedOut(drain)))
}

fn doors(app: &App, listeners: Listeners, tasks: &TaskTracker) -> (Door, Door) {
    let http = Door {
        listener: listeners.http,
        connections: Arc::new(Semaphore::new(app.limits.max_connections)),
        refusal: TOO_MANY_CONNECTIONS.as_bytes(),
        closing: app.closing.clone(),
        tasks: tasks.clone(),
    };
    let feed = Door {
        listener: listeners.feed,
        connections: Arc::new(Semaphore::new(app.limits.max_feed_connections)),
        refusal: feed::TOO_MANY_CONNECTIONS.as_bytes(),
        closing: app.closing.clone(),
        tasks: tasks.clone(),
    };
    (http, feed)
}
