//! Keys: what can be pressed, what it means, and the one list that binds the two.

mod action;
mod bindings;
mod key;
mod keymap;

pub(crate) use self::{
    action::Action,
    bindings::{BINDINGS, Scope},
    key::Key,
    keymap::{KeyError, Keymap},
};
