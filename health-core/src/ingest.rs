//! From samples to rows: a bounded queue, writers that take what is waiting, one transaction a batch.

pub(crate) mod queue;
pub(crate) mod writer;
