//! What was committed, told to whoever listens.

pub(crate) mod cursor;
pub(crate) mod hub;
pub(crate) mod mailbox;
