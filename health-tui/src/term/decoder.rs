//! Turns the bytes of a terminal into keys, mouse events and pasted text.
//!
//! Crossterm's reader decides about an escape sequence by what one read returns: Escape and a letter in one read are
//! the letter with Alt, Escape twice is one Escape, and an unknown sequence swallows the keys after it. It also waits
//! for the rest of a sequence in the middle of a task.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

const ESCAPE: u8 = 0x1b;

/// The longest sequence that is a key or a mouse event.
const SEQUENCE_BYTES_MAX: usize = 32;

const PASTE_BEGIN: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// The longest text that is pasted as a whole. No field of the dashboard is nearly as long.
const PASTE_BYTES_MAX: usize = 1024 * 1024;

/// The bytes that are not decoded yet.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
}

/// What the first bytes are.
#[derive(Debug, PartialEq)]
enum Decoded {
    /// An event of this many bytes.
    Event(usize, Event),
    /// This many bytes that mean nothing to the dashboard.
    Skip(usize),
    /// More bytes are needed to decide.
    Incomplete,
}

use Decoded::{Incomplete, Skip};

impl Decoder {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next event. `None` if more bytes are needed.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        while !self.bytes.is_empty() {
            match decode(&self.bytes) {
                Decoded::Event(length, event) => {
                    self.bytes.drain(..length);
                    return Some(event);
                }
                Skip(length) => drop(self.bytes.drain(..length)),
                Incomplete => return None,
            }
        }
        None
    }

    /// Returns whether the bytes are the beginning of something.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Returns whether the bytes are the beginning of a pasted text.
    pub(super) fn is_in_paste(&self) -> bool {
        self.bytes.starts_with(PASTE_BEGIN)
    }

    /// Decides about an incomplete sequence, because no more bytes came: its bytes are keys.
    pub(super) fn time_out(&mut self) -> Option<Event> {
        if self.is_in_paste() {
            let bytes = std::mem::take(&mut self.bytes);
            return Some(paste(&bytes[PASTE_BEGIN.len()..]));
        }
        let (length, event) = match self.bytes.as_slice() {
            [] => return None,
            [ESCAPE, byte @ (b'[' | b'O'), ..] => (2, alt(key(KeyCode::Char(char::from(*byte))))),
            [ESCAPE, ..] => (1, key(KeyCode::Esc)),
            _ => {
                // The beginning of a character of UTF-8 without its end.
                self.bytes.clear();
                return None;
            }
        };
        self.bytes.drain(..length);
        Some(event)
    }
}

fn decode(bytes: &[u8]) -> Decoded {
    match bytes {
        [] | [ESCAPE] | [ESCAPE, b'O' | b'['] => Incomplete,
        // Escape twice, or Escape before the sequence of another key.
        [ESCAPE, ESCAPE, ..] => Decoded::Event(1, key(KeyCode::Esc)),
        [ESCAPE, b'O', last, ..] => match function_key(*last) {
            Some(code) => Decoded::Event(3, key(code)),
            None => keys_after_escape(bytes[1]),
        },
        [ESCAPE, b'[', rest @ ..] => control_sequence(bytes, rest),
        [ESCAPE, rest @ ..] => match plain(rest) {
            Decoded::Event(length, event) => Decoded::Event(length + 1, alt(event)),
            Skip(length) => Skip(length + 1),
            Incomplete => Incomplete,
        },
        _ => plain(bytes),
    }
}

/// Returns the event of Escape and a key that do not begin a sequence. The event loop decides whether that is one key
/// with Alt or two keys.
fn keys_after_escape(byte: u8) -> Decoded {
    Decoded::Event(2, alt(key(KeyCode::Char(char::from(byte)))))
}

/// Decodes a key without an escape sequence.
fn plain(bytes: &[u8]) -> Decoded {
    let Some(first) = bytes.first() else {
        return Incomplete;
    };
    let control = |base: u8| {
        let code = KeyCode::Char(char::from(base));
        Event::Key(KeyEvent::new(code, KeyModifiers::CONTROL))
    };
    let event = match *first {
        b'\r' => key(KeyCode::Enter),
        b'\t' => key(KeyCode::Tab),
        0x7f => key(KeyCode::Backspace),
        0 => control(b' '),
        byte @ 0x01..=0x1a => control(byte - 1 + b'a'),
        byte @ 0x1c..=0x1f => control(byte - 0x1c + b'4'),
        _ => return character(bytes),
    };
    Decoded::Event(1, event)
}

fn character(bytes: &[u8]) -> Decoded {
    let beginning = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(beginning) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(&beginning[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(error) if error.error_len().is_none() => return Incomplete,
        Err(_) => return Skip(1),
    };
    match valid.chars().next() {
        Some(c) => Decoded::Event(c.len_utf8(), key(KeyCode::Char(c))),
        None => Skip(1),
    }
}

/// Decodes what begins with `ESC [`. `rest` are the bytes after it.
fn control_sequence(bytes: &[u8], rest: &[u8]) -> Decoded {
    match rest {
        // The Linux console has its own F1 to F5.
        [b'[' | b'M'] | [b'M', _] | [b'M', _, _] => return Incomplete,
        [b'[', last @ b'A'..=b'E', ..] => return Decoded::Event(4, key(KeyCode::F(1 + last - b'A'))),
        // X10: three bytes after the M.
        [b'M', button, column, row, ..] => {
            let event = mouse(
                button.saturating_sub(32).into(),
                u16::from(*column).saturating_sub(32),
                u16::from(*row).saturating_sub(32),
                true,
            );
            return event.map_or(Skip(6), |event| Decoded::Event(6, event));
        }
        _ => {}
    }
    let parameters = rest.iter().take_while(|byte| (0x20..0x40).contains(*byte)).count();
    let length = 2 + parameters + 1;
    let last = match rest.get(parameters) {
        None if bytes.len() > SEQUENCE_BYTES_MAX => return Skip(bytes.len()),
        None => return Incomplete,
        Some(last @ 0x40..=0x7e) => *last,
        // The sequence is broken off by another key.
        Some(_) if parameters > 0 => return Skip(length - 1),
        Some(_) => return keys_after_escape(b'['),
    };
    if bytes.starts_with(PASTE_BEGIN) {
        return pasted(bytes);
    }
    let text = std::str::from_utf8(&rest[..parameters]).unwrap_or_default();
    match sequence_event(text, last) {
        Some(event) => Decoded::Event(length, event),
        // No terminal sends this: the user pressed Escape and two keys.
        None if parameters == 0 && !matches!(last, b'I' | b'O') => keys_after_escape(b'['),
        None => Skip(length),
    }
}

fn pasted(bytes: &[u8]) -> Decoded {
    let text = &bytes[PASTE_BEGIN.len()..];
    match text.windows(PASTE_END.len()).position(|window| window == PASTE_END) {
        Some(end) => Decoded::Event(PASTE_BEGIN.len() + end + PASTE_END.len(), paste(&text[..end])),
        None if text.len() > PASTE_BYTES_MAX => Decoded::Event(bytes.len(), paste(text)),
        None => Incomplete,
    }
}

fn paste(bytes: &[u8]) -> Event {
    Event::Paste(String::from_utf8_lossy(bytes).into_owned())
}

/// Returns the event of a complete sequence, `None` if it is not known.
fn sequence_event(parameters: &str, last: u8) -> Option<Event> {
    if let Some(parameters) = parameters.strip_prefix('<') {
        let [button, column, row] = numbers(parameters);
        return mouse(button?, column?, row?, last == b'M');
    }
    let [first, second, third] = numbers(parameters);
    let with_modifiers = |code: KeyCode| Some(Event::Key(KeyEvent::new(code, modifiers(second))));
    match last {
        b'Z' => Some(Event::Key(KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT))),
        // rxvt: the numbers of X10 in decimal.
        b'M' => mouse(first?.saturating_sub(32), second?, third?, true),
        b'~' => with_modifiers(special_key(first?)?),
        b'u' => with_modifiers(unicode_key(first?)?),
        // F3 with modifiers. Otherwise it is the position of the cursor, which the dashboard does not ask for.
        b'R' if first == Some(1) => with_modifiers(KeyCode::F(3)),
        b'R' => None,
        _ => with_modifiers(function_key(last)?),
    }
}

/// Returns the numbers between semicolons. A second part after a colon, as kitty sends, is left out.
fn numbers(text: &str) -> [Option<u16>; 3] {
    let mut parts = text.split(';').map(|part| part.split(':').next()?.parse().ok());
    [(); 3].map(|()| parts.next().flatten())
}

/// Returns the key of the last byte of a sequence after `ESC O` or `ESC [`.
fn function_key(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'H' => KeyCode::Home,
        b'F' => KeyCode::End,
        byte @ (b'P' | b'Q' | b'R' | b'S') => KeyCode::F(1 + byte - b'P'),
        _ => return None,
    })
}

fn special_key(number: u16) -> Option<KeyCode> {
    let function = |first: u16, key: u8| KeyCode::F(u8::try_from(number - first).unwrap_or(0) + key);
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => function(11, 1),
        17..=21 => function(17, 6),
        23..=26 => function(23, 11),
        28..=29 => function(28, 15),
        31..=34 => function(31, 17),
        _ => return None,
    })
}

/// Returns the key of a code point, for terminals that report keys in this way.
fn unicode_key(code: u16) -> Option<KeyCode> {
    Some(match char::from_u32(code.into())? {
        '\u{1b}' => KeyCode::Esc,
        '\r' => KeyCode::Enter,
        '\t' => KeyCode::Tab,
        '\u{7f}' => KeyCode::Backspace,
        c if c.is_control() => return None,
        c => KeyCode::Char(c),
    })
}

/// Returns the modifiers of a parameter: one more than a sum of 1 (shift), 2 (Alt) and 4 (control).
fn modifiers(parameter: Option<u16>) -> KeyModifiers {
    let bits = parameter.unwrap_or(1).saturating_sub(1);
    [
        (1, KeyModifiers::SHIFT),
        (2, KeyModifiers::ALT),
        (4, KeyModifiers::CONTROL),
    ]
    .into_iter()
    .filter(|(bit, _)| bits & bit != 0)
    .fold(KeyModifiers::NONE, |all, (_, modifier)| all | modifier)
}

/// Returns the event of a mouse report. The first column and row are 1.
fn mouse(button: u16, column: u16, row: u16, is_press: bool) -> Option<Event> {
    let is_motion = button & 0x20 != 0;
    let which = match button & 3 {
        0 => Some(MouseButton::Left),
        1 => Some(MouseButton::Middle),
        2 => Some(MouseButton::Right),
        _ => None,
    };
    let kind = match (button & 0xc0, which) {
        (0x40, _) => match button & 3 {
            0 => MouseEventKind::ScrollUp,
            1 => MouseEventKind::ScrollDown,
            2 => MouseEventKind::ScrollLeft,
            _ => MouseEventKind::ScrollRight,
        },
        (0, None) if is_motion => MouseEventKind::Moved,
        // X10 does not say which button was released.
        (0, None) => MouseEventKind::Up(MouseButton::Left),
        (0, Some(which)) if is_motion => MouseEventKind::Drag(which),
        (0, Some(which)) if is_press => MouseEventKind::Down(which),
        (0, Some(which)) => MouseEventKind::Up(which),
        _ => return None,
    };
    let modifiers = [
        (4, KeyModifiers::SHIFT),
        (8, KeyModifiers::ALT),
        (16, KeyModifiers::CONTROL),
    ]
    .into_iter()
    .filter(|(bit, _)| button & bit != 0)
    .fold(KeyModifiers::NONE, |all, (_, modifier)| all | modifier);
    Some(Event::Mouse(MouseEvent {
        kind,
        column: column.saturating_sub(1),
        row: row.saturating_sub(1),
        modifiers,
    }))
}

fn key(code: KeyCode) -> Event {
    Event::Key(KeyEvent::from(code))
}

fn alt(event: Event) -> Event {
    match event {
        Event::Key(mut key) => {
            key.modifiers |= KeyModifiers::ALT;
            Event::Key(key)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
