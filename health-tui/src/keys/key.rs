//! A key press, from the terminal or from the settings file.

use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key press with its modifiers. The settings file writes it as `q`, `G`, `ctrl-r`, `shift-left` or `pageup`.
///
/// The same press is always the same value, however the terminal or the settings file describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

const MODIFIERS: [(&str, KeyModifiers); 3] = [
    ("ctrl-", KeyModifiers::CONTROL),
    ("alt-", KeyModifiers::ALT),
    ("shift-", KeyModifiers::SHIFT),
];

/// The keys that have a name in the settings file.
const NAMED_KEYS: [(&str, KeyCode); 15] = [
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("tab", KeyCode::Tab),
    ("backtab", KeyCode::BackTab),
    ("backspace", KeyCode::Backspace),
    ("delete", KeyCode::Delete),
    ("insert", KeyCode::Insert),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("pageup", KeyCode::PageUp),
    ("pagedown", KeyCode::PageDown),
];

impl Key {
    pub(crate) const ESCAPE: Self = Self {
        code: KeyCode::Esc,
        modifiers: KeyModifiers::NONE,
    };

    /// Parses the notation of the settings file. Returns `None` if `text` is not a key.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut modifiers = KeyModifiers::NONE;
        let mut name = text;
        while let Some((modifier, rest)) = MODIFIERS
            .iter()
            .find_map(|(prefix, modifier)| Some((*modifier, name.strip_prefix(prefix)?)))
        {
            modifiers |= modifier;
            name = rest;
        }
        let mut chars = name.chars();
        let code = if let Some((_, code)) = NAMED_KEYS.iter().find(|(named, _)| *named == name) {
            *code
        } else if name == "space" {
            KeyCode::Char(' ')
        } else {
            match (chars.next(), chars.next()) {
                (Some(c), None) => KeyCode::Char(c),
                (Some('f'), Some(_)) => KeyCode::F(name[1..].parse().ok().filter(|n| (1..=24).contains(n))?),
                _ => return None,
            }
        };
        Some(Self::normalised(code, modifiers))
    }

    pub(crate) fn from_event(event: KeyEvent) -> Self {
        let known = KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT;
        Self::normalised(event.code, event.modifiers & known)
    }

    /// Returns the character that the key types, `None` for all other keys.
    pub(crate) fn typed_char(self) -> Option<char> {
        match self.code {
            KeyCode::Char(c) if !self.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => Some(c),
            _ => None,
        }
    }

    /// Returns the key without Alt, `None` if it has no Alt or has it from a sequence of its own.
    ///
    /// A terminal sends Alt and a key as Escape and the key, so the two cannot be told apart.
    pub(crate) fn after_escape(self) -> Option<Self> {
        let is_sent_after_escape = matches!(
            self.code,
            KeyCode::Char(_) | KeyCode::Enter | KeyCode::Tab | KeyCode::Backspace
        );
        (is_sent_after_escape && self.modifiers.contains(KeyModifiers::ALT)).then(|| Self {
            modifiers: self.modifiers - KeyModifiers::ALT,
            ..self
        })
    }

    /// Returns whether Alt is held.
    pub(crate) fn has_alt(self) -> bool {
        self.modifiers.contains(KeyModifiers::ALT)
    }

    pub(crate) fn code(self) -> KeyCode {
        self.code
    }

    /// Removes a shift that is already part of the key: `G` is a shifted `g`, and some terminals report the shift as
    /// well.
    fn normalised(code: KeyCode, modifiers: KeyModifiers) -> Self {
        let shift = modifiers.contains(KeyModifiers::SHIFT);
        let code = match code {
            KeyCode::Char(c) if shift => KeyCode::Char(c.to_ascii_uppercase()),
            KeyCode::Tab if shift => KeyCode::BackTab,
            other => other,
        };
        let has_own_shift = matches!(code, KeyCode::Char(_) | KeyCode::BackTab);
        Self {
            code,
            modifiers: if has_own_shift {
                modifiers - KeyModifiers::SHIFT
            } else {
                modifiers
            },
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (prefix, modifier) in MODIFIERS {
            if self.modifiers.contains(modifier) {
                f.write_str(prefix)?;
            }
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("space"),
            KeyCode::Char(c) => write!(f, "{c}"),
            KeyCode::F(n) => write!(f, "f{n}"),
            code => f.write_str(
                NAMED_KEYS
                    .iter()
                    .find(|(_, c)| *c == code)
                    .map_or("?", |(name, _)| name),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_key_is_the_same_with_and_without_the_modifier() {
        let shifted = KeyEvent::new(KeyCode::Char('g'), KeyModifiers::SHIFT);
        assert_eq!(Key::from_event(shifted), Key::parse("G").unwrap());
        let tab = KeyEvent::new(KeyCode::Tab, KeyModifiers::SHIFT);
        assert_eq!(Key::from_event(tab), Key::parse("backtab").unwrap());
    }
}
