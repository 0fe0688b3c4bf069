//! A running server: HTTP, the feed, and the order of a shutdown.

use std::{future::Future, panic::resume_unwind, sync::Arc};

use health_core::{Error, Health};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinError,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    acceptor::Acceptor,
    app::App,
    connection_slots::{ConnectionLimit, ConnectionSlots},
    descriptors::{Share, Shares},
    feed, http,
    listeners::Listeners,
    options::ServerOptions,
    reload::FailedReloads,
};

/// A shutdown divides the drain timeout into three equal parts:
///
/// 1. Request bodies under way may arrive, and every received request is answered.
/// 2. Request bodies under way are given up, and their requests are answered.
/// 3. Connections are cut off, and samples that were accepted but not stored yet are stored.
const DRAIN_PARTS: u32 = 3;

/// Serves until `shutdown` resolves, then stores every accepted sample and returns.
///
/// During the shutdown, feed clients receive `bye`, and HTTP requests that were received are answered. Uploads
/// under way may take a third of [`Limits::drain_timeout`](health_core::Limits::drain_timeout) to arrive.
///
/// # Errors
/// [`Error::Limit`] if a limit is outside its range. [`Error::Unavailable`] if the database is out of reach at the
/// start. [`Error::TimedOut`] if not every accepted sample was stored within the drain timeout. No such sample was
/// acknowledged.
///
/// # Panics
/// If the task that accepts connections or the one that sums up audit lines panicked, after the shutdown.
pub async fn run(
    listeners: Listeners,
    health: Health,
    options: impl Into<ServerOptions>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    run_reloadable(listeners, health, options.into(), Arc::default(), shutdown).await
}

/// Does what [`run`] does, for a server whose configuration can be read again.
pub(crate) async fn run_reloadable(
    listeners: Listeners,
    health: Health,
    options: ServerOptions,
    reloads: Arc<FailedReloads>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    options.limits.check()?;
    let authenticator = health.authenticator().await?;
    let shares = Shares::of_this_process(&options.limits, health.limits());
    let feed_slots = ConnectionSlots::new(shares.feed.connections, options.limits.max_connections_per_address);
    let app = Arc::new(App::new(
        health,
        authenticator,
        listeners.tls.clone(),
        feed_slots,
        options,
        reloads,
    ));
    let connections = TaskTracker::new();
    let mut accepting = tokio::spawn(accept(Arc::clone(&app), listeners, shares, connections.clone()));
    let mut auditing = tokio::spawn({
        let refusals = Arc::clone(&app.refusals);
        async move { refusals.sum_up().await }
    });
    let panic = tokio::select! {
        () = shutdown => None,
        // Before the shutdown both end only by a panic. A server that accepts nothing, or audits nothing, must not look
        // alive.
        ended = &mut accepting => ended.err().map(JoinError::into_panic),
        ended = &mut auditing => ended.err().map(JoinError::into_panic),
    };
    tracing::info!("shutting down: storing the accepted samples");
    app.closing.cancel();
    connections.close();
    let drain_timeout = app.health.limits().drain_timeout;
    let (began, part) = (Instant::now(), drain_timeout / DRAIN_PARTS);
    if timeout_at(began + part, connections.wait()).await.is_err() {
        app.abort_uploads.cancel();
        if timeout_at(began + part * 2, connections.wait()).await.is_err() {
            tracing::warn!("cutting off connections that did not end in time");
        }
    }
    app.abort_connections.cancel();
    if !accepting.is_finished() {
        // Ended by `closing`.
        let _ = accepting.await;
    }
    auditing.abort();
    app.refusals.sum_up_all();
    let closed = timeout_at(began + drain_timeout, app.health.clone().close()).await;
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
    closed.unwrap_or(Err(Error::TimedOut(drain_timeout)))
}

/// Accepts HTTP and feed connections until the server closes.
async fn accept(app: Arc<App>, listeners: Listeners, shares: Shares, connections: TaskTracker) {
    let acceptor = |listener: TcpListener, slots, share: Share, refusal: fn(ConnectionLimit) -> Vec<u8>| Acceptor {
        listener,
        slots,
        refusals: Arc::new(Semaphore::new(share.refusals)),
        refusal,
        idle: None,
        closing: app.closing.clone(),
        tasks: connections.clone(),
    };
    let http_slots = ConnectionSlots::new(shares.http.connections, app.limits.max_connections_per_address);
    let http = Acceptor {
        idle: Some((Arc::clone(&app.idle_connections), app.limits.idle_grace)),
        ..acceptor(listeners.http, http_slots, shares.http, http::refusal)
    };
    // A feed connection is silent because it listens, so none of them counts as idle.
    let feed = acceptor(listeners.feed, app.feed_slots.clone(), shares.feed, feed::refusal);
    let on_refused = || app.metrics.add_refused_connection();
    tokio::join!(
        http.run(on_refused, |stream, slot| http::serve(stream, slot, Arc::clone(&app))),
        feed.run(on_refused, |stream, slot| feed::serve(stream, slot, Arc::clone(&app))),
    );
}
