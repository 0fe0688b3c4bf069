//! The bindings in force: the defaults, and what the settings file changes.

use crate::keys::{
    action::Action,
    bindings::{BINDINGS, Binding, Scope},
    key::Key,
};

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

    /// Lines of the list of all keys: under a title for each scope, which a blank line sets apart.
    pub(crate) fn help_lines() -> usize {
        BINDINGS.len() + 2 * Scope::ALL.len() - 1
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
}
