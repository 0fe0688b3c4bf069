//! JSON that is read while it arrives: events, and the rows of a list.

pub(crate) mod aside;
pub(crate) mod cursor;
pub(crate) mod row;
