//! The lock of the threshold and the epoch, see [`dirty_slices`](crate::store::dirty_slices).

/// Waits until no writer's transaction is open, and keeps new ones waiting. Needed to change the threshold or the
/// epoch.
pub(crate) const LOCK_EXCLUSIVE: &str = "SELECT pg_advisory_xact_lock(hashtext('health threshold'))";

/// The same lock as writers take it: they do not exclude each other. It must be a statement of its own, before any
/// other of the transaction takes a snapshot.
pub(super) const LOCK_SHARED: &str = "SELECT pg_advisory_xact_lock_shared(hashtext('health threshold'))";

/// The name under which a writer's session prepares [`LOCK_SHARED`] in SQL: `EXECUTE` may follow `BEGIN` in one query,
/// to which PostgreSQL sends one answer.
pub(super) const PREPARED_LOCK_SHARED: &str = "health_lock_threshold";
