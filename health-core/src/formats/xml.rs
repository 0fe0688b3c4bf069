//! The reader of XML files: one event after the other, in bounded memory.

use std::{borrow::Cow, io::Read, sync::Arc};

use quick_xml::{Error, Reader, escape::unescape, events::Event};

use super::{damage::Damage, text_input::TextInput};

/// How deeply elements may be nested. Those of TCX have 10 levels.
const DEPTH_MAX: usize = 64;

/// A reader of the events of an XML file.
pub(super) struct Xml<R: Read> {
    reader: Reader<TextInput<R>>,
    buffer: Vec<u8>,
    depth: usize,
    /// Whether the first element was found.
    has_root: bool,
}

impl<R: Read> Xml<R> {
    pub(super) fn new(input: R) -> Self {
        let mut reader = Reader::from_reader(TextInput::new(input));
        reader.config_mut().allow_dangling_amp = true;
        Self {
            reader,
            buffer: Vec::new(),
            depth: 0,
            has_root: false,
        }
    }

    /// Returns how many elements are open.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Returns the next event. The last one is [`Event::Eof`], after all elements were closed.
    ///
    /// # Errors
    /// [`Damage`], after which nothing more can be read.
    pub(super) fn next(&mut self) -> Result<Event<'_>, Damage> {
        self.buffer.clear();
        self.reader.get_mut().begin_element();
        let event = self.reader.read_event_into(&mut self.buffer).map_err(damage)?;
        match &event {
            Event::Start(_) if self.depth >= DEPTH_MAX => {
                let reason = format!("its elements are nested more than {DEPTH_MAX} levels deep");
                return Err(Damage::Malformed(reason));
            }
            Event::Start(_) => self.depth += 1,
            Event::End(_) => self.depth -= 1,
            Event::Eof if self.depth > 0 || !self.has_root => return Err(Damage::BreaksOff),
            _ => {}
        }
        self.has_root |= matches!(event, Event::Start(_) | Event::Empty(_));
        Ok(event)
    }
}

/// Returns a text without entities. A text with an entity that cannot be read stays as it is.
pub(super) fn unescaped(text: &str) -> Cow<'_, str> {
    unescape(text).unwrap_or(Cow::Borrowed(text))
}

fn damage(error: Error) -> Damage {
    match error {
        Error::Io(error) => match Arc::try_unwrap(error) {
            Ok(error) => Damage::from(error),
            Err(error) => Damage::Malformed(error.to_string()),
        },
        // All of them say that the input ends before something does.
        Error::Syntax(_) => Damage::BreaksOff,
        error => Damage::Malformed(error.to_string()),
    }
}
