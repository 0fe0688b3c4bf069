//! The bindings in use: the defaults with the changes of the settings file.

use crate::keys::{
    action::Action,
    bindings::{BINDINGS, Binding, Scope},
    key::Key,
};

/// A fault in the `[keys]` table of the settings file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("`{name}` is not an action. `health-tui --print-config` lists all actions.")]
    UnknownAction { name: String },
    #[error("`{key}` of `{name}` is not a key. Examples of keys: \"q\", \"G\", \"ctrl-r\", \"f5\", \"pageup\".")]
    InvalidKey { name: String, key: String },
    #[error("`{first}` and `{second}` have the same key `{key}`. Choose another key for one of them.")]
    Conflict {
        key: Key,
        first: &'static str,
        second: &'static str,
    },
}

/// The keys of each binding.
#[derive(Clone, Debug)]
pub(crate) struct Keymap {
    /// One entry for each binding, in the order of [`BINDINGS`].
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
    /// Returns the defaults with other keys for some actions. `overrides` are pairs of an action name and its keys.
    pub(crate) fn with_overrides<'a>(
        overrides: impl IntoIterator<Item = (&'a str, &'a [String])>,
    ) -> Result<Self, KeyError> {
        let mut map = Self::default();
        for (name, keys) in overrides {
            let index = BINDINGS
                .iter()
                .position(|b| b.name == name)
                .ok_or_else(|| KeyError::UnknownAction { name: name.to_owned() })?;
            map.keys[index] = keys
                .iter()
                .map(|k| {
                    Key::parse(k).ok_or_else(|| KeyError::InvalidKey {
                        name: name.to_owned(),
                        key: k.clone(),
                    })
                })
                .collect::<Result<_, _>>()?;
        }
        map.check_conflicts()?;
        Ok(map)
    }

    fn check_conflicts(&self) -> Result<(), KeyError> {
        for (i, first) in BINDINGS.iter().enumerate() {
            for (j, second) in BINDINGS.iter().enumerate().skip(i + 1) {
                let both_apply = first.scope == second.scope
                    || first.scope == Scope::Everywhere
                    || second.scope == Scope::Everywhere;
                if !both_apply {
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

    /// Returns the action of a key. While text is being typed, a key that types a character has none.
    pub(crate) fn action(&self, scope: Scope, is_typing: bool, key: Key) -> Option<Action> {
        if is_typing && key.typed_char().is_some() {
            return None;
        }
        BINDINGS
            .iter()
            .zip(&self.keys)
            .find(|(b, keys)| (b.scope == scope || b.scope == Scope::Everywhere) && keys.contains(&key))
            .map(|(b, _)| b.action)
    }

    /// Returns the bindings of exactly this scope, each with its keys.
    pub(crate) fn bindings_in(&self, scope: Scope) -> impl Iterator<Item = (&'static Binding, &[Key])> {
        BINDINGS
            .iter()
            .zip(&self.keys)
            .filter(move |(b, _)| b.scope == scope)
            .map(|(b, keys)| (b, keys.as_slice()))
    }

    /// Returns the number of lines of the help screen: all bindings, a title for each scope, blank lines between them.
    pub(crate) fn help_lines() -> usize {
        BINDINGS.len() + 2 * Scope::ALL.len() - 1
    }

    /// Returns the first key of an action, for sentences that name it.
    pub(crate) fn first_key(&self, scope: Scope, action: Action) -> Option<Key> {
        self.bindings_in(scope)
            .find(|(b, _)| b.action == action)
            .and_then(|(_, keys)| keys.first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_keys_have_no_conflicts_and_can_be_parsed() {
        Keymap::default().check_conflicts().unwrap();
        for binding in BINDINGS {
            for text in binding.keys {
                let key = Key::parse(text).unwrap_or_else(|| panic!("{text} is not a key"));
                assert_eq!(key.to_string(), *text);
            }
        }
    }

    #[test]
    fn a_conflict_names_both_actions() {
        let keys = ["q".to_owned()];
        let error = Keymap::with_overrides([("filter", keys.as_slice())]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`quit` and `filter` have the same key `q`. Choose another key for one of them."
        );
    }

    #[test]
    fn a_key_that_types_a_character_has_no_action_while_typing() {
        let map = Keymap::default();
        let q = Key::parse("q").unwrap();
        assert_eq!(map.action(Scope::Filter, true, q), None);
        assert_eq!(map.action(Scope::Live, false, q), Some(Action::Quit));
        let c = Key::parse("ctrl-c").unwrap();
        assert_eq!(map.action(Scope::Filter, true, c), Some(Action::Quit));
    }
}
