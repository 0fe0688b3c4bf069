//! Everything that speaks SQL.

pub(crate) mod columns;
pub(crate) mod connection;
pub(crate) mod copy;
pub(crate) mod ctid;
pub(crate) mod erase;
pub(crate) mod export;
pub(crate) mod failure;
pub(crate) mod feed;
pub(crate) mod known;
pub(crate) mod look_up;
pub(crate) mod marks;
pub(crate) mod micros;
pub(crate) mod migrate;
pub(crate) mod outcome;
pub(crate) mod read;
pub(crate) mod ready;
pub(crate) mod rollup;
pub(crate) mod summarise;
pub(crate) mod users;
pub(crate) mod write;

#[cfg(test)]
mod feed_tests;
#[cfg(test)]
mod outcome_tests;
#[cfg(test)]
mod sealing_tests;
