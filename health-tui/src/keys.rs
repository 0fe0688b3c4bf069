//! The one list of keys. Dispatch, footer, help and the README's table are all made from it.

use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::app::Action;

/// Where a binding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// In every pane (while text is being typed: only keys that are no text).
    Everywhere,
    /// In the live table.
    Live,
    /// In the view of one user.
    User,
    /// In the range-stats form and its answer.
    Form,
    /// While the filter is being typed.
    Filter,
}

impl Scope {
    pub(crate) const ALL: [Self; 5] = [Self::Everywhere, Self::Live, Self::User, Self::Form, Self::Filter];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Everywhere => "Everywhere",
            Self::Live => "Live table",
            Self::User => "One user",
            Self::Form => "Range stats",
            Self::Filter => "While filtering",
        }
    }
}

/// One row of the list.
pub(crate) struct Binding {
    pub(crate) action: Action,
    /// The name in the configuration file.
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    /// The default keys.
    pub(crate) keys: &'static [&'static str],
    /// A sentence for help and README, without its full stop.
    pub(crate) help: &'static str,
    /// A word for the footer, where there is room for one.
    pub(crate) hint: Option<&'static str>,
}

const fn row(
    action: Action,
    name: &'static str,
    scope: Scope,
    keys: &'static [&'static str],
    help: &'static str,
    hint: Option<&'static str>,
) -> Binding {
    Binding {
        action,
        name,
        scope,
        keys,
        help,
        hint,
    }
}

/// Every binding with its default keys, in the order help shows them.
pub(crate) const BINDINGS: &[Binding] = {
    use Scope::{Everywhere, Filter, Form, Live, User};
    &[
        row(
            Action::Help,
            "help",
            Everywhere,
            &["?", "f1"],
            "List the keys",
            Some("help"),
        ),
        row(Action::Quit, "quit", Everywhere, &["q", "ctrl-c"], "Quit", Some("quit")),
        row(
            Action::QuitKeeping,
            "quit-keeping",
            Everywhere,
            &["Q"],
            "Quit and leave the last frame on the screen",
            None,
        ),
        row(
            Action::TabLive,
            "tab-live",
            Everywhere,
            &["1"],
            "Go to the live table",
            None,
        ),
        row(
            Action::TabStats,
            "tab-stats",
            Everywhere,
            &["2"],
            "Go to the range stats",
            None,
        ),
        row(
            Action::NextTab,
            "next-tab",
            Everywhere,
            &["ctrl-t"],
            "Go to the other tab",
            None,
        ),
        row(
            Action::RetryNow,
            "retry-now",
            Everywhere,
            &["ctrl-r"],
            "Connect again now",
            None,
        ),
        row(
            Action::Mask,
            "mask",
            Everywhere,
            &["p"],
            "Mask who is who, for a shared screen",
            None,
        ),
        row(
            Action::NextTheme,
            "next-theme",
            Everywhere,
            &["T"],
            "Change the theme",
            None,
        ),
        row(
            Action::ToggleMouse,
            "toggle-mouse",
            Everywhere,
            &["M"],
            "Switch the mouse off (to select text) or on",
            None,
        ),
        row(
            Action::ExportCsv,
            "export-csv",
            Everywhere,
            &["e", "ctrl-e"],
            "Save what is seen as CSV",
            None,
        ),
        row(
            Action::ExportJson,
            "export-json",
            Everywhere,
            &["E", "ctrl-o"],
            "Save what is seen as JSON",
            None,
        ),
        row(
            Action::Copy,
            "copy",
            Everywhere,
            &["y", "ctrl-y"],
            "Copy what is seen to the clipboard (OSC 52)",
            None,
        ),
        row(
            Action::Suspend,
            "suspend",
            Everywhere,
            &["ctrl-z"],
            "Suspend; `fg` comes back",
            None,
        ),
        row(
            Action::Redraw,
            "redraw",
            Everywhere,
            &["ctrl-l"],
            "Draw the whole screen again",
            None,
        ),
        row(Action::Up, "up", Live, &["up", "k"], "One row up", None),
        row(Action::Down, "down", Live, &["down", "j"], "One row down", None),
        row(
            Action::PageUp,
            "page-up",
            Live,
            &["pageup", "ctrl-u"],
            "One page up",
            None,
        ),
        row(
            Action::PageDown,
            "page-down",
            Live,
            &["pagedown", "ctrl-d"],
            "One page down",
            None,
        ),
        row(Action::First, "first", Live, &["home", "g"], "To the first row", None),
        row(Action::Last, "last", Live, &["end", "G"], "To the last row", None),
        row(
            Action::Open,
            "open",
            Live,
            &["enter"],
            "Open the user under the cursor",
            Some("open"),
        ),
        row(
            Action::Filter,
            "filter",
            Live,
            &["/"],
            "Filter while typing: `ada`, `!phone`, `hr>150 steps<10`",
            Some("filter"),
        ),
        row(Action::Back, "clear", Live, &["esc"], "Clear the filter", None),
        row(
            Action::SortNext,
            "sort-next",
            Live,
            &["s", ">"],
            "Sort by the next column",
            Some("sort"),
        ),
        row(
            Action::SortPrevious,
            "sort-previous",
            Live,
            &["S", "<"],
            "Sort by the previous column",
            None,
        ),
        row(Action::Reverse, "reverse", Live, &["r"], "Reverse the order", None),
        row(
            Action::Pin,
            "pin",
            Live,
            &["*", "."],
            "Pin the row to the top, or let it go",
            None,
        ),
        row(
            Action::Freeze,
            "freeze",
            Live,
            &["space"],
            "Freeze the picture; readings go on arriving",
            Some("freeze"),
        ),
        row(
            Action::NextAlert,
            "next-alert",
            Live,
            &["n"],
            "To the next alert",
            Some("alert"),
        ),
        row(
            Action::PreviousAlert,
            "previous-alert",
            Live,
            &["N"],
            "To the previous alert",
            None,
        ),
        row(
            Action::Preview,
            "preview",
            Live,
            &["d"],
            "Show or hide the details pane",
            Some("details"),
        ),
        row(
            Action::StatsOfUser,
            "stats-of-user",
            Live,
            &["t"],
            "Range stats of the user under the cursor",
            Some("stats"),
        ),
        row(
            Action::CursorLeft,
            "cursor-left",
            User,
            &["left", "h"],
            "Move the read-out to the left",
            Some("read"),
        ),
        row(
            Action::CursorRight,
            "cursor-right",
            User,
            &["right", "l"],
            "Move the read-out to the right",
            None,
        ),
        row(
            Action::PanLeft,
            "pan-left",
            User,
            &["[", "shift-left", "pageup"],
            "Go back in time by half a window",
            Some("back"),
        ),
        row(
            Action::PanRight,
            "pan-right",
            User,
            &["]", "shift-right", "pagedown"],
            "Go forward in time by half a window",
            None,
        ),
        row(Action::ZoomIn, "zoom-in", User, &["+", "="], "Zoom in", Some("zoom")),
        row(Action::ZoomOut, "zoom-out", User, &["-"], "Zoom out", None),
        row(
            Action::GoLive,
            "go-live",
            User,
            &["end"],
            "Back to now, following it",
            Some("live"),
        ),
        row(Action::Up, "previous-user", User, &["up", "k"], "The user above", None),
        row(Action::Down, "next-user", User, &["down", "j"], "The user below", None),
        row(
            Action::StatsOfUser,
            "stats-of-window",
            User,
            &["t"],
            "Range stats of this window",
            Some("stats"),
        ),
        row(
            Action::Back,
            "back",
            User,
            &["esc", "backspace"],
            "Back to the table",
            Some("back to all"),
        ),
        row(
            Action::FieldNext,
            "field-next",
            Form,
            &["tab", "down"],
            "The next field",
            Some("field"),
        ),
        row(
            Action::FieldPrevious,
            "field-previous",
            Form,
            &["backtab", "up"],
            "The previous field",
            None,
        ),
        row(
            Action::ChoiceLeft,
            "choice-left",
            Form,
            &["left"],
            "The choice before (range, bucket), or the cursor in the text",
            None,
        ),
        row(
            Action::ChoiceRight,
            "choice-right",
            Form,
            &["right"],
            "The choice after, or the cursor in the text",
            Some("choose"),
        ),
        row(
            Action::Open,
            "run",
            Form,
            &["enter", "f5"],
            "Ask the server",
            Some("ask"),
        ),
        row(
            Action::Back,
            "cancel",
            Form,
            &["esc"],
            "Cancel what runs; leave the fields; back to the table",
            Some("cancel"),
        ),
        row(
            Action::ClearField,
            "clear-field",
            Form,
            &["ctrl-u"],
            "Empty the field",
            None,
        ),
        row(
            Action::Open,
            "keep-filter",
            Filter,
            &["enter"],
            "Keep the filter",
            Some("keep"),
        ),
        row(
            Action::Back,
            "drop-filter",
            Filter,
            &["esc"],
            "Drop the filter",
            Some("drop"),
        ),
        row(
            Action::ClearField,
            "clear-filter",
            Filter,
            &["ctrl-u"],
            "Empty the filter",
            None,
        ),
        row(Action::Up, "filter-up", Filter, &["up"], "One row up", None),
        row(Action::Down, "filter-down", Filter, &["down"], "One row down", None),
    ]
};

/// One key press, as the configuration writes it: `q`, `G`, `ctrl-r`, `shift-left`, `pageup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    code: KeyCode,
    mods: KeyModifiers,
}

const NAMED: [(&str, KeyCode); 15] = [
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
    /// Reads `ctrl-r`, `G`, `f5`, `space` and so on; `None` where it is no key.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut mods = KeyModifiers::NONE;
        let mut rest = text;
        loop {
            let (mask, tail) = if let Some(tail) = rest.strip_prefix("ctrl-") {
                (KeyModifiers::CONTROL, tail)
            } else if let Some(tail) = rest.strip_prefix("alt-") {
                (KeyModifiers::ALT, tail)
            } else if let Some(tail) = rest.strip_prefix("shift-") {
                (KeyModifiers::SHIFT, tail)
            } else {
                break;
            };
            mods |= mask;
            rest = tail;
        }
        let code = if let Some((_, code)) = NAMED.iter().find(|(name, _)| *name == rest) {
            *code
        } else if rest == "space" {
            KeyCode::Char(' ')
        } else {
            let mut chars = rest.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => KeyCode::Char(c),
                (Some('f'), Some(_)) => KeyCode::F(rest[1..].parse().ok().filter(|n| (1..=24).contains(n))?),
                _ => return None,
            }
        };
        Some(Self::normal(code, mods))
    }

    /// What the terminal reported, in the form [`Key::parse`] gives.
    pub(crate) fn pressed(event: KeyEvent) -> Self {
        Self::normal(
            event.code,
            event.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT),
        )
    }

    /// The character this key types, where it types one.
    pub(crate) fn text(self) -> Option<char> {
        match self.code {
            KeyCode::Char(c) if !self.mods.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => Some(c),
            _ => None,
        }
    }

    pub(crate) fn code(self) -> KeyCode {
        self.code
    }

    /// Shift is part of a character already (`G`), and some terminals say it once more.
    fn normal(code: KeyCode, mut mods: KeyModifiers) -> Self {
        let code = match code {
            KeyCode::Char(c) => {
                let c = if mods.contains(KeyModifiers::SHIFT) && c.is_ascii_lowercase() {
                    c.to_ascii_uppercase()
                } else {
                    c
                };
                mods.remove(KeyModifiers::SHIFT);
                KeyCode::Char(c)
            }
            KeyCode::BackTab => {
                mods.remove(KeyModifiers::SHIFT);
                KeyCode::BackTab
            }
            KeyCode::Tab if mods.contains(KeyModifiers::SHIFT) => {
                mods.remove(KeyModifiers::SHIFT);
                KeyCode::BackTab
            }
            other => other,
        };
        Self { code, mods }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (mask, name) in [
            (KeyModifiers::CONTROL, "ctrl-"),
            (KeyModifiers::ALT, "alt-"),
            (KeyModifiers::SHIFT, "shift-"),
        ] {
            if self.mods.contains(mask) {
                f.write_str(name)?;
            }
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("space"),
            KeyCode::Char(c) => write!(f, "{c}"),
            KeyCode::F(n) => write!(f, "f{n}"),
            code => f.write_str(NAMED.iter().find(|(_, c)| *c == code).map_or("?", |(name, _)| name)),
        }
    }
}

/// Why a set of bindings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("`{name}` is not an action; `health-tui --print-config` lists them all")]
    NoAction { name: String },
    #[error("`{key}` of `{name}` is not a key; write for example \"q\", \"G\", \"ctrl-r\", \"f5\", \"pageup\"")]
    NoKey { name: String, key: String },
    #[error("the key `{key}` is given to both `{first}` and `{second}`; one of them needs another")]
    Conflict {
        key: Key,
        first: &'static str,
        second: &'static str,
    },
}

/// The bindings in force.
#[derive(Clone, Debug)]
pub(crate) struct Keymap {
    /// One entry a row of [`BINDINGS`].
    keys: Vec<Vec<Key>>,
}

impl Default for Keymap {
    fn default() -> Self {
        Self {
            keys: BINDINGS
                .iter()
                .map(|b| b.keys.iter().filter_map(|k| Key::parse(k)).collect())
                .collect(),
        }
    }
}

impl Keymap {
    /// The defaults with `changes` (action name, keys) laid over them.
    pub(crate) fn with<'a>(changes: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Result<Self, KeyError> {
        let mut map = Self::default();
        for (name, keys) in changes {
            let at = BINDINGS
                .iter()
                .position(|b| b.name == name)
                .ok_or_else(|| KeyError::NoAction { name: name.to_owned() })?;
            map.keys[at] = keys
                .iter()
                .map(|k| {
                    Key::parse(k).ok_or_else(|| KeyError::NoKey {
                        name: name.to_owned(),
                        key: k.clone(),
                    })
                })
                .collect::<Result<_, _>>()?;
        }
        map.check()?;
        Ok(map)
    }

    fn check(&self) -> Result<(), KeyError> {
        for (i, first) in BINDINGS.iter().enumerate() {
            for (j, second) in BINDINGS.iter().enumerate().skip(i + 1) {
                let meet = first.scope == second.scope
                    || first.scope == Scope::Everywhere
                    || second.scope == Scope::Everywhere;
                if !meet {
                    continue;
                }
                if let Some(key) = self.keys[i].iter().find(|k| self.keys[j].contains(k)) {
                    return Err(KeyError::Conflict {
                        key: *key,
                        first: first.name,
                        second: second.name,
                    });
                }
            }
        }
        Ok(())
    }

    /// What `key` does in `scope`; while text is typed, a key that types is text and nothing else.
    pub(crate) fn action(&self, scope: Scope, typing: bool, key: Key) -> Option<Action> {
        if typing && key.text().is_some() {
            return None;
        }
        BINDINGS
            .iter()
            .zip(&self.keys)
            .find(|(b, keys)| (b.scope == scope || b.scope == Scope::Everywhere) && keys.contains(&key))
            .map(|(b, _)| b.action)
    }

    /// Each binding of `scope` with the keys in force.
    pub(crate) fn of(&self, scope: Scope) -> impl Iterator<Item = (&'static Binding, &[Key])> {
        BINDINGS
            .iter()
            .zip(&self.keys)
            .filter(move |(b, _)| b.scope == scope)
            .map(|(b, keys)| (b, keys.as_slice()))
    }

    /// The first key of an action, for sentences that name it.
    pub(crate) fn first(&self, scope: Scope, action: Action) -> Option<Key> {
        self.of(scope)
            .find(|(b, _)| b.action == action)
            .and_then(|(_, keys)| keys.first().copied())
    }

    /// The README's table.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        for scope in Scope::ALL {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str("| ");
            out.push_str(scope.title());
            out.push_str(" | |\n|---|---|\n");
            for (binding, keys) in self.of(scope) {
                let keys: Vec<String> = keys.iter().map(|k| format!("`{k}`")).collect();
                out.push_str("| ");
                out.push_str(&keys.join(" "));
                out.push_str(" | ");
                out.push_str(binding.help);
                out.push_str(" |\n");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_no_conflict_and_every_key_reads_back() {
        Keymap::default().check().unwrap();
        for binding in BINDINGS {
            for text in binding.keys {
                let key = Key::parse(text).unwrap_or_else(|| panic!("{text} is no key"));
                assert_eq!(key.to_string(), *text);
            }
        }
    }

    #[test]
    fn names_of_actions_are_unique() {
        for (i, b) in BINDINGS.iter().enumerate() {
            assert!(BINDINGS[i + 1..].iter().all(|other| other.name != b.name));
        }
    }

    #[test]
    fn a_conflict_names_both() {
        let keys = ["q".to_owned()];
        let error = Keymap::with([("filter", keys.as_slice())]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the key `q` is given to both `quit` and `filter`; one of them needs another"
        );
    }

    #[test]
    fn typing_wins_over_keys_that_are_text() {
        let map = Keymap::default();
        let q = Key::parse("q").unwrap();
        assert_eq!(map.action(Scope::Filter, true, q), None);
        assert_eq!(map.action(Scope::Live, false, q), Some(Action::Quit));
        let c = Key::parse("ctrl-c").unwrap();
        assert_eq!(map.action(Scope::Filter, true, c), Some(Action::Quit));
    }

    #[test]
    fn shift_is_told_once() {
        let shifted = KeyEvent::new(KeyCode::Char('g'), KeyModifiers::SHIFT);
        assert_eq!(Key::pressed(shifted), Key::parse("G").unwrap());
        let tab = KeyEvent::new(KeyCode::Tab, KeyModifiers::SHIFT);
        assert_eq!(Key::pressed(tab), Key::parse("backtab").unwrap());
    }
}
