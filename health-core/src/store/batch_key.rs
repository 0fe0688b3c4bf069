//! The key of a batch.

/// The key of a batch: no other batch ever has the same. It is known before the first row is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchKey {
    /// The writer id: a random number of the connection.
    pub(crate) writer_id: i64,
    /// The batch number.
    pub(crate) batch_number: i64,
}
