//! Everything that can happen to the dashboard.

use std::time::Duration;

use crossterm::event::MouseEvent;
use health_core::{Erasure, Sample};

use crate::{
    app::query::{QueryError, QueryResponse},
    keys::Key,
};

/// An input of [`App::update`](crate::app::App::update).
#[derive(Debug)]
pub(crate) enum Input {
    Key(Key),
    Paste(String),
    Mouse(MouseEvent),
    /// The terminal has a new size: columns and rows.
    Resize(u16, u16),
    /// Another process asked this one to stop (`SIGTSTP`).
    Suspend,
    /// The process runs again after a suspend, in a terminal of this size.
    Resumed(u16, u16),
    Network(NetworkEvent),
    /// The result of an effect, as a message for the user.
    Message(Tone, String),
    /// The time that [`App::next_change`](crate::app::App::next_change) named has come.
    Tick,
}

/// Whether a message reports success or failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
}

/// An event that a network task sends to the event loop.
#[derive(Debug)]
pub(crate) enum NetworkEvent {
    Connection(ConnectionEvent),
    Samples(ReceivedSamples),
    /// The server has erased samples. Samples before this event may be among them, and samples after it are not.
    Erased(Erasure),
    /// The response to the query with this id.
    Response {
        id: u64,
        result: Result<QueryResponse, QueryError>,
    },
}

/// A change of the feed's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEvent {
    /// An attempt to connect has begun. The first attempt has the number 1.
    Connecting { attempt: u32 },
    /// The server has accepted the subscription. `resumed` is set if the client asked to resume from a cursor.
    Connected {
        resumed: Option<bool>,
        reason: Option<String>,
    },
    /// The connection failed or was lost. The next attempt begins after `retry_in`.
    Disconnected {
        attempt: u32,
        reason: String,
        retry_in: Duration,
    },
    /// The server has sent nothing for this long, not even a heartbeat.
    Silent { elapsed: Duration },
    /// The server has sent something again after a silence.
    Recovered,
    /// The client missed this many samples, and does not ask for them again.
    Lagged { missed: u64 },
    /// The samples come from a recording, not from a server.
    Replaying { description: String },
}

/// Samples in the order of the feed.
#[derive(Debug, Default)]
pub(crate) struct ReceivedSamples {
    pub(crate) samples: Vec<Sample>,
    /// Number of samples that were replaced by a newer one of the same user while the event loop was busy.
    pub(crate) replaced: u64,
}
