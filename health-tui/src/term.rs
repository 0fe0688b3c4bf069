//! The terminal: taken once, given back exactly once, drawn with one write a frame.

use std::{
    io::{self, BufWriter, Stdout, Write},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture},
    execute, queue,
    style::force_color_output,
    terminal::{
        BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
        disable_raw_mode, enable_raw_mode,
    },
};
use ratatui::{
    backend::{Backend, CrosstermBackend},
    buffer::Buffer,
    layout::{Position, Rect},
};
use tokio::sync::Notify;

/// A full screen of 200x60 in true colour is below this: a frame is one write.
const WRITE_BYTES: usize = 64 * 1024;

/// Whether the terminal is ours. Whoever turns it off gives the terminal back, so that it happens once: the panic hook,
/// the end of the program, or the key that suspends.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Wakes the loop when a panic has given the terminal back.
static PANICKED: Notify = Notify::const_new();

/// Resolves once something in the process has panicked.
pub(crate) async fn panicked() {
    PANICKED.notified().await;
}

/// Takes the terminal: raw mode, the other screen, pasted text as one event.
pub(crate) fn take(mouse: bool) -> io::Result<()> {
    static HOOK: Once = Once::new();
    // Installed once in the life of the process: each further one would be called on top of the last.
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
            PANICKED.notify_one();
        }));
    });
    // `NO_COLOR` is the theme's business: crossterm's own way to obey it cancels reverse video too.
    force_color_output(true);
    TAKEN.store(true, Ordering::SeqCst);
    let taken = enable_raw_mode()
        .and_then(|()| {
            execute!(
                io::stdout(),
                EnterAlternateScreen,
                EnableBracketedPaste,
                Hide,
                Clear(ClearType::All)
            )
        })
        .and_then(|()| set_mouse(mouse));
    if taken.is_err() {
        give_back();
    }
    taken
}

/// Gives the terminal back, if it is taken. Errors are not told: nobody is there to hear them.
pub(crate) fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        _ = execute!(
            io::stdout(),
            EndSynchronizedUpdate,
            DisableMouseCapture,
            DisableBracketedPaste,
            LeaveAlternateScreen,
            Show
        );
        _ = disable_raw_mode();
    }
}

/// False once a panic anywhere in the process has given the terminal back.
pub(crate) fn is_taken() -> bool {
    TAKEN.load(Ordering::SeqCst)
}

/// Gives the terminal back when it is dropped, whatever way a function is left.
pub(crate) struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

pub(crate) fn set_mouse(on: bool) -> io::Result<()> {
    if on {
        execute!(io::stdout(), EnableMouseCapture)
    } else {
        execute!(io::stdout(), DisableMouseCapture)
    }
}

/// What is on the screen, so that only what differs is written.
pub(crate) struct Screen<W: Write> {
    out: BufWriter<W>,
    shown: Buffer,
    next: Buffer,
    cursor: Option<Position>,
    /// What the terminal shows is unknown.
    unknown: bool,
}

impl Screen<Stdout> {
    pub(crate) fn stdout() -> Self {
        Self::new(io::stdout())
    }
}

impl<W: Write> Screen<W> {
    pub(crate) fn new(to: W) -> Self {
        Self {
            out: BufWriter::with_capacity(WRITE_BYTES, to),
            shown: Buffer::empty(Rect::ZERO),
            next: Buffer::empty(Rect::ZERO),
            cursor: None,
            unknown: true,
        }
    }

    /// Forgets what is on the screen: all of it is drawn anew.
    pub(crate) fn forget(&mut self) {
        self.unknown = true;
    }

    /// Draws a frame of `size`. Where nothing differs, nothing is written.
    pub(crate) fn draw(
        &mut self,
        size: (u16, u16),
        paint: impl FnOnce(&mut Buffer) -> Option<Position>,
    ) -> io::Result<()> {
        let area = Rect::new(0, 0, size.0, size.1);
        if self.unknown || self.shown.area != area {
            self.shown = Buffer::empty(area);
            self.next = Buffer::empty(area);
            self.unknown = true;
        }
        self.next.reset();
        let cursor = paint(&mut self.next);
        let changes = self.shown.diff(&self.next);
        if changes.is_empty() && cursor == self.cursor && !self.unknown {
            return Ok(());
        }
        queue!(self.out, BeginSynchronizedUpdate)?;
        if self.unknown {
            queue!(self.out, Clear(ClearType::All), Hide)?;
            self.cursor = None;
            self.unknown = false;
        }
        if !changes.is_empty() {
            CrosstermBackend::new(&mut self.out).draw(changes.into_iter())?;
        }
        if cursor != self.cursor && cursor.is_none() {
            queue!(self.out, Hide)?;
        }
        if let Some(at) = cursor {
            // Writing has moved it away, also where its place is the same.
            queue!(self.out, MoveTo(at.x, at.y))?;
            if self.cursor.is_none() {
                queue!(self.out, Show)?;
            }
        }
        self.cursor = cursor;
        queue!(self.out, EndSynchronizedUpdate)?;
        self.out.flush()?;
        std::mem::swap(&mut self.shown, &mut self.next);
        Ok(())
    }

    /// Writes the last frame as plain lines, to be left behind on the ordinary screen.
    pub(crate) fn print(&mut self) -> io::Result<()> {
        let area = self.shown.area;
        for y in area.top()..area.bottom() {
            let cells = (area.left()..area.right()).filter_map(|x| self.shown.cell((x, y)).map(|c| (x, c)));
            for (_, cell) in cells {
                use crossterm::style::{ContentStyle, Print, ResetColor, SetAttribute, SetStyle};
                use ratatui::backend::IntoCrossterm;
                use ratatui::crossterm::style::Attribute;
                let style: ContentStyle = cell.style().into_crossterm();
                queue!(
                    self.out,
                    SetStyle(style),
                    Print(cell.symbol()),
                    ResetColor,
                    SetAttribute(Attribute::Reset)
                )?;
            }
            queue!(self.out, crossterm::style::Print("\r\n"))?;
        }
        self.out.flush()
    }

    #[cfg(test)]
    pub(crate) fn into_inner(self) -> W {
        self.out
            .into_inner()
            .unwrap_or_else(|_| panic!("the writer of a test does not fail"))
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn a_frame_in_which_nothing_changed_writes_nothing() {
        let mut screen = Screen::new(Vec::new());
        let paint = |buf: &mut Buffer| {
            buf.set_string(0, 0, "hello", Style::new());
            None
        };
        screen.draw((20, 2), paint).unwrap();
        let first = screen.out.get_ref().len();
        assert!(first > 0);
        for _ in 0..100 {
            screen.draw((20, 2), paint).unwrap();
        }
        assert_eq!(screen.out.get_ref().len(), first);
        screen.draw((20, 2), |_| Some(Position::new(3, 0))).unwrap();
        let text = String::from_utf8(screen.into_inner()).unwrap();
        assert!(text.contains("hello") && text.ends_with("\u{1b}[?2026l"));
    }
}
