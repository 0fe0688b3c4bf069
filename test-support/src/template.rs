//! The databases that a test can have a copy of.

/// The template of a new database. The migrations run once per process, for the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    Empty,
    /// The schema; on a cluster, distributed over the workers.
    Migrated,
    /// The schema; also on a cluster, in the database of the coordinator.
    Undistributed,
    /// No tables; on a cluster, a coordinator that knows its workers.
    Coordinator,
}
