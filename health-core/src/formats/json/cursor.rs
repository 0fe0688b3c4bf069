//! A cursor over JSON that arrives in portions.

use actson::{JsonEvent, JsonParser, feeder::JsonFeeder, options::JsonParserOptionsBuilder, parser::ParserError};

use crate::formats::{
    entry::Place,
    format_error::{ENTRY_BYTES_MAX, FormatError},
};

/// Reads events of JSON while it arrives. It checks the grammar of all bytes, also of those that nobody asks for.
pub(crate) struct Cursor {
    parser: JsonParser<Portions>,
    /// How many bytes were parsed at the last event.
    event_bytes: usize,
    /// The number of open containers that [`Self::skip`] passes over.
    skipped: usize,
    /// How many bytes of a byte order mark were skipped; all of them once the text has begun.
    mark_bytes: usize,
}

/// U+FEFF in UTF-8, which programs on Windows write at the start.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A step of a [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// An object or an array begins.
    Start(Container),
    /// The innermost object or array ends.
    End,
    /// A key of an object. [`Cursor::text`] has it.
    Key,
    /// A value that is no container. [`Cursor::text`] has a text or a number.
    Scalar(ScalarKind),
    /// The bytes so far are read.
    NeedMore,
    /// The JSON is complete.
    Complete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Object,
    Array,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Text,
    Number,
    Boolean,
    Null,
}

/// Bytes that have arrived and are not parsed yet.
#[derive(Default)]
struct Portions {
    bytes: Vec<u8>,
    next: usize,
    is_done: bool,
}

/// The deepest nesting. Exports of phones have about eight levels.
const DEPTH_MAX: usize = 128;

impl Cursor {
    pub(crate) fn new() -> Self {
        let options = JsonParserOptionsBuilder::default().with_max_depth(DEPTH_MAX).build();
        Self {
            parser: JsonParser::new_with_options(Portions::default(), options),
            event_bytes: 0,
            skipped: 0,
            mark_bytes: 0,
        }
    }

    /// Adds bytes that have arrived. The bytes before must have been read: the last step was [`Step::NeedMore`].
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let (Some((byte, rest)), Some(mark)) = (bytes.split_first(), BYTE_ORDER_MARK.get(self.mark_bytes)) {
            if byte != mark {
                self.mark_bytes = BYTE_ORDER_MARK.len();
                break;
            }
            (bytes, self.mark_bytes) = (rest, self.mark_bytes + 1);
        }
        let portions = &mut self.parser.feeder;
        portions.bytes.drain(..portions.next);
        portions.next = 0;
        portions.bytes.extend_from_slice(bytes);
    }

    /// Says that no more bytes will arrive.
    pub(crate) fn finish(&mut self) {
        self.parser.feeder.is_done = true;
    }

    /// Returns the next step. `place` tells where the reader is, in case that a value is too long.
    pub(crate) fn next(&mut self, place: &Place) -> Result<Step, FormatError> {
        loop {
            let step = self.next_of_any(place)?;
            match step {
                Step::NeedMore | Step::Complete => return Ok(step),
                _ if self.skipped == 0 => return Ok(step),
                Step::Start(_) => self.skipped += 1,
                Step::End => self.skipped -= 1,
                Step::Key | Step::Scalar(_) => {}
            }
        }
    }

    /// Passes over the rest of the value that the last step began.
    pub(crate) fn skip(&mut self, begin: Step) {
        self.skipped = usize::from(matches!(begin, Step::Start(_)));
    }

    fn next_of_any(&mut self, place: &Place) -> Result<Step, FormatError> {
        let event = self.parser.next_event().map_err(|error| self.explain(error))?;
        let Some(event) = event else {
            return Ok(Step::Complete);
        };
        if event == JsonEvent::NeedMoreInput {
            // A value that has not ended is in memory.
            if self.offset() - self.event_bytes > ENTRY_BYTES_MAX {
                return Err(FormatError::too_long(place));
            }
            return Ok(Step::NeedMore);
        }
        self.event_bytes = self.offset();
        Ok(match event {
            JsonEvent::StartObject => Step::Start(Container::Object),
            JsonEvent::StartArray => Step::Start(Container::Array),
            JsonEvent::EndObject | JsonEvent::EndArray => Step::End,
            JsonEvent::FieldName => Step::Key,
            JsonEvent::ValueString => Step::Scalar(ScalarKind::Text),
            JsonEvent::ValueInt | JsonEvent::ValueFloat => Step::Scalar(ScalarKind::Number),
            JsonEvent::ValueTrue | JsonEvent::ValueFalse => Step::Scalar(ScalarKind::Boolean),
            JsonEvent::ValueNull | JsonEvent::NeedMoreInput => Step::Scalar(ScalarKind::Null),
        })
    }

    /// Returns the key or value of the last step.
    pub(crate) fn text(&self) -> Result<&str, FormatError> {
        self.parser.current_str().map_err(|_| FormatError::NotJson {
            reason: "a text is not UTF-8",
            offset: self.offset(),
        })
    }

    /// Returns how many bytes were parsed.
    pub(crate) fn offset(&self) -> usize {
        self.parser.parsed_bytes()
    }

    fn explain(&self, error: ParserError) -> FormatError {
        let reason = match error {
            ParserError::NoMoreInput => "it ends too early",
            ParserError::IllegalInput(_) => "a control character or another illegal byte",
            // Also if the nesting is deeper than `DEPTH_MAX`.
            ParserError::SyntaxError => "a syntax error, or more than 128 levels of nesting,",
        };
        FormatError::NotJson {
            reason,
            offset: self.offset(),
        }
    }
}

impl JsonFeeder for Portions {
    fn has_input(&self) -> bool {
        self.next < self.bytes.len()
    }

    fn is_done(&self) -> bool {
        self.is_done && !self.has_input()
    }

    fn next_input(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.next).copied()?;
        self.next += 1;
        Some(byte)
    }
}
