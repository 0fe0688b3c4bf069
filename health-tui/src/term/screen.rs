//! The screen: draws a frame with one write, and only the cells that differ from the last frame.

use std::io::{self, BufWriter, Write};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    queue,
    terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate},
};
use ratatui::{
    backend::{Backend, CrosstermBackend},
    buffer::Buffer,
    layout::{Position, Rect},
};

use crate::term::writer::TerminalOutput;

/// The size of the write buffer. A full frame of 200x60 in true colour is smaller, so it is one write.
const BUFFER_BYTES: usize = 64 * 1024;

/// The contents of the terminal. A frame writes only the cells that differ from the last one.
pub(crate) struct Screen<W: Write> {
    out: BufWriter<W>,
    shown: Buffer,
    next: Buffer,
    cursor: Option<Position>,
    /// Whether the terminal shows something else than the last frame.
    is_unknown: bool,
}

impl Screen<TerminalOutput> {
    pub(crate) fn terminal() -> Self {
        Self::new(TerminalOutput)
    }
}

impl<W: Write> Screen<W> {
    pub(crate) fn new(to: W) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, to),
            shown: Buffer::empty(Rect::ZERO),
            next: Buffer::empty(Rect::ZERO),
            cursor: None,
            is_unknown: true,
        }
    }

    /// Forgets what the terminal shows: the next frame draws every cell.
    pub(crate) fn forget(&mut self) {
        self.is_unknown = true;
    }

    /// Draws a frame of `size` (columns, rows). Writes nothing if nothing differs from the last frame.
    pub(crate) fn draw(
        &mut self,
        size: (u16, u16),
        paint: impl FnOnce(&mut Buffer) -> Option<Position>,
    ) -> io::Result<()> {
        let area = Rect::new(0, 0, size.0, size.1);
        if self.is_unknown || self.shown.area != area {
            self.shown = Buffer::empty(area);
            self.next = Buffer::empty(area);
            self.is_unknown = true;
        }
        self.next.reset();
        let cursor = paint(&mut self.next);
        let changes = self.shown.diff(&self.next);
        if changes.is_empty() && cursor == self.cursor && !self.is_unknown {
            return Ok(());
        }
        queue!(self.out, BeginSynchronizedUpdate)?;
        if self.is_unknown {
            queue!(self.out, Clear(ClearType::All), Hide)?;
            self.cursor = None;
            self.is_unknown = false;
        }
        if !changes.is_empty() {
            CrosstermBackend::new(&mut self.out).draw(changes.into_iter())?;
        }
        if cursor != self.cursor && cursor.is_none() {
            queue!(self.out, Hide)?;
        }
        if let Some(at) = cursor {
            // Writing cells has moved the cursor, so it is placed again even if its position is the same.
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

    /// Prints the last frame as lines on the ordinary screen.
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
    fn an_unchanged_frame_writes_nothing() {
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
