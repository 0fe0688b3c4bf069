//! The state that all connections of a server share.

use std::sync::Arc;

use health_core::{Health, access::Authenticator};
use hyper::header::HeaderValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    connection_slots::ConnectionSlots,
    http::{body_memory::BodyMemoryBudget, framing::keep_alive, idle_connections::IdleConnections},
    limits::ServerLimits,
    metrics::Metrics,
    options::ServerOptions,
    refusals::Refusals,
    reload::FailedReloads,
    tls::ServerTls,
    token_rates::TokenRates,
    unneeded_tokens::UnneededTokens,
    wrong_tokens::WrongTokens,
};

/// The handle to the core, the limits, the counters, and the progress of a shutdown.
pub(crate) struct App {
    pub(crate) health: Health,
    pub(crate) limits: ServerLimits,
    /// The value of `Keep-Alive` in responses.
    pub(crate) keep_alive: Option<HeaderValue>,
    pub(crate) authenticator: Authenticator,
    pub(crate) wrong_tokens: WrongTokens,
    pub(crate) unneeded_tokens: UnneededTokens,
    pub(crate) token_rates: TokenRates,
    /// Counts and audits what clients were refused.
    pub(crate) refusals: Arc<Refusals>,
    /// Holds a permit for each further export that may be sent.
    pub(crate) exports: Arc<Semaphore>,
    /// Host names that requests may name while no token exists.
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) reloads: Arc<FailedReloads>,
    pub(crate) metrics: Metrics,
    /// The slots of feed connections: those over TCP, and the streams of `GET /feed`.
    pub(crate) feed_slots: ConnectionSlots,
    /// The HTTP connections that wait for a request.
    pub(crate) idle_connections: Arc<IdleConnections>,
    /// First step of a shutdown: requests that were received are answered, new ones are not accepted.
    pub(crate) closing: CancellationToken,
    /// Second step: request bodies that have not arrived completely are given up.
    pub(crate) abort_uploads: CancellationToken,
    /// Last step: connections that are still open are cut off.
    pub(crate) abort_connections: CancellationToken,
    /// Counts the requests whose samples are being read: one clone for each.
    pub(crate) active_uploads: Arc<()>,
    pub(crate) body_memory: BodyMemoryBudget,
    /// Memory for the entries that bodies of phones keep aside.
    pub(crate) aside_memory: BodyMemoryBudget,
}

impl App {
    pub(crate) fn new(
        health: Health,
        authenticator: Authenticator,
        tls: Option<Arc<ServerTls>>,
        feed_slots: ConnectionSlots,
        options: ServerOptions,
        reloads: Arc<FailedReloads>,
    ) -> Self {
        let ServerOptions { limits, allowed_hosts } = options;
        let body_memory = BodyMemoryBudget::new(&limits, health.limits().ingest_deadline);
        let aside_memory = BodyMemoryBudget::of_entries_aside(&limits, health.limits().ingest_deadline);
        Self {
            health,
            authenticator,
            wrong_tokens: WrongTokens::default(),
            unneeded_tokens: UnneededTokens::default(),
            token_rates: TokenRates::new(limits.max_token_rate),
            refusals: Arc::default(),
            exports: Arc::new(Semaphore::new(limits.max_exports)),
            keep_alive: keep_alive(limits.header_timeout),
            limits,
            allowed_hosts,
            tls,
            reloads,
            metrics: Metrics::default(),
            feed_slots,
            idle_connections: Arc::default(),
            closing: CancellationToken::new(),
            abort_uploads: CancellationToken::new(),
            abort_connections: CancellationToken::new(),
            active_uploads: Arc::default(),
            body_memory,
            aside_memory,
        }
    }
}
