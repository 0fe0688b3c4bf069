//! Everything that speaks SQL.

pub(crate) mod connection;
pub(crate) mod feed;
pub(crate) mod known;
pub(crate) mod migrate;
pub(crate) mod read;
pub(crate) mod ready;
pub(crate) mod write;
