//! Keys, the actions they have, and the list of bindings between the two.

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
