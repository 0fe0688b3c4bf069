//! What the event loop must do outside of the dashboard's state.

use crate::app::query::Query;

/// A side effect that [`App::update`](crate::app::App::update) asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    Quit {
        /// Print the last frame on the ordinary screen.
        keep_frame: bool,
    },
    Suspend,
    /// Forget what the terminal shows and draw the whole frame again.
    ClearScreen,
    /// Connect to the feed now, without waiting for the backoff.
    RetryNow,
    SendQuery {
        id: u64,
        query: Query,
    },
    CancelQuery {
        id: u64,
    },
    /// Copy the text to the terminal's clipboard.
    Copy(String),
    /// Write a new file in the working directory.
    SaveFile {
        name: String,
        content: String,
    },
    /// Switch mouse reporting on or off.
    SetMouse(bool),
}
