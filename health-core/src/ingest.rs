//! The way of samples into the table: a bounded queue, writers that take all waiting requests, one transaction a batch.

pub(crate) mod backoff;
pub(crate) mod lanes;
pub(crate) mod outcome;
pub(crate) mod positions;
pub(crate) mod queue;
pub(crate) mod request;
pub(crate) mod states;
pub(crate) mod work;
pub(crate) mod writer;
