//! The terminal: entered once, restored exactly once, and drawn with one write per frame.
//!
//! Nothing here waits for a terminal that does not read: all output goes through the thread of `writer.rs`.

mod decoder;
mod input;
mod screen;
mod writer;

use std::{
    io, panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    Command,
    cursor::{Hide, Show},
    event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture},
    queue,
    style::force_color_output,
    terminal::{
        Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};
use tokio::sync::Notify;

pub(crate) use self::{input::TerminalInput, screen::Screen, writer::TerminalOutput};

/// Whether the program has entered the terminal.
///
/// The panic hook, the end of the program and a suspend all restore the terminal. Only the one that clears this flag
/// does it, so the terminal is restored once.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Wakes the event loop after a panic has restored the terminal.
static PANICKED: Notify = Notify::const_new();

/// Resolves after a panic anywhere in the process.
pub(crate) async fn panicked() {
    PANICKED.notified().await;
}

/// Enters the terminal: raw mode, the alternate screen, and pasted text as one event.
pub(crate) fn enter(mouse: bool) -> io::Result<()> {
    static HOOK: Once = Once::new();
    // Once per process: a second hook would call the first one.
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
            PANICKED.notify_one();
        }));
    });
    // The theme obeys `NO_COLOR`. If crossterm did it, it would cancel reverse video too.
    force_color_output(true);
    ENTERED.store(true, Ordering::SeqCst);
    let entered = enable_raw_mode()
        .and_then(|()| {
            queue!(
                TerminalOutput,
                EnterAlternateScreen,
                EnableBracketedPaste,
                Hide,
                Clear(ClearType::All)
            )
        })
        .and_then(|()| set_mouse(mouse));
    if entered.is_err() {
        restore();
    }
    entered
}

/// Restores the terminal, if the program has entered it.
///
/// The mode of the terminal is always restored. If the terminal does not read, its screen is restored when it reads
/// again, or never; there is nothing more that the program could do.
pub(crate) fn restore() {
    if ENTERED.swap(false, Ordering::SeqCst) {
        let mut bytes = Vec::new();
        // Writing to a Vec cannot fail.
        _ = queue!(
            bytes,
            EndSynchronizedUpdate,
            DisableMouseCapture,
            DisableBracketedPaste,
            LeaveAlternateScreen,
            Show
        );
        writer::writer().finish(&bytes);
        // If there is no terminal any more, there is no mode to restore.
        _ = disable_raw_mode();
    }
}

/// Waits until everything is written, unless the terminal does not read.
pub(crate) fn drain() {
    writer::writer().drain();
}

/// Returns whether everything is written. A frame that is drawn earlier would wait in memory.
pub(crate) fn is_idle() -> bool {
    writer::writer().is_idle()
}

/// Resolves when everything is written.
pub(crate) async fn idle() {
    writer::writer().idle().await;
}

/// Returns false after a panic anywhere in the process has restored the terminal.
pub(crate) fn is_entered() -> bool {
    ENTERED.load(Ordering::SeqCst)
}

/// Restores the terminal when it is dropped.
pub(crate) struct TerminalGuard;

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        restore();
    }
}

pub(crate) fn set_mouse(on: bool) -> io::Result<()> {
    if on {
        send(EnableMouseCapture)
    } else {
        send(DisableMouseCapture)
    }
}

/// Sends a command to the terminal.
pub(crate) fn send(command: impl Command) -> io::Result<()> {
    queue!(TerminalOutput, command)
}
