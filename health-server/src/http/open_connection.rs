//! What an open connection counts as: one of HTTP, or one of the feed.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::Mutex;

use crate::{
    app::App,
    connection_slots::{ConnectionLimit, ConnectionSlot},
    metrics::GaugeGuard,
};

/// An HTTP connection that is open.
///
/// A stream of `GET /feed` turns it into a feed connection: it gives its slot of HTTP back and takes a slot of the
/// feed. So streams take nothing from requests, and a client has the same limit on both ports.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    pub(crate) peer: IpAddr,
    is_stream: AtomicBool,
    counted: Mutex<Counted>,
}

/// A slot, and the gauges in which its connection is counted.
#[derive(Debug)]
struct Counted {
    _slot: ConnectionSlot,
    _gauges: Vec<GaugeGuard>,
}

impl OpenConnection {
    pub(crate) fn new(app: &App, peer: IpAddr, slot: ConnectionSlot) -> Self {
        Self {
            peer,
            is_stream: AtomicBool::new(false),
            counted: Mutex::new(Counted {
                _slot: slot,
                _gauges: vec![app.metrics.http_connections.increment()],
            }),
        }
    }

    /// Makes a feed connection of it, for the rest of its life.
    ///
    /// # Errors
    /// The limit of feed connections that is reached.
    pub(crate) fn become_stream(&self, app: &App) -> Result<(), ConnectionLimit> {
        let slot = app.feed_slots.take(self.peer)?;
        let metrics = &app.metrics;
        *self.counted.lock() = Counted {
            _slot: slot,
            _gauges: vec![metrics.feed_connections.increment(), metrics.feed_streams.increment()],
        };
        self.is_stream.store(true, Relaxed);
        Ok(())
    }

    /// Returns whether it is a feed connection.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_stream.load(Relaxed)
    }
}
