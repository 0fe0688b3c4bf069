//! What the supervisor of PostgreSQL tells the handles that use it: whether PostgreSQL is down, and why.

use std::sync::Arc;

use parking_lot::Mutex;

/// The status of a database, shared by the supervisor that sets it and the handles that read it. A clone is the same
/// status.
///
/// Without it, a handle knows only that the database does not answer, and its calls wait until their deadlines.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use health_core::{
///     Config, DatabaseStatus, Health,
///     embedded::{Cluster, Options},
/// };
///
/// let status = DatabaseStatus::default();
/// let cluster = Cluster::start(Options::new().status(status.clone())).await?;
/// let health = Health::open(Config::from_url(&cluster.url("postgres"))?.status(status.clone())).await?;
/// if let Some(outage) = status.outage() {
///     println!("PostgreSQL is down because {}", outage.reason);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct DatabaseStatus(Arc<Mutex<Option<Outage>>>);

/// An outage of a database that its supervisor knows of. The supervisor starts the database again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The reason.
    pub reason: OutageReason,
    /// Whether it is likely to last: then calls fail at once, instead of waiting for the database.
    pub is_lasting: bool,
}

/// Why a database is down, as a clause after "because".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutageReason {
    /// The file system of its data has no space.
    #[error("its disk is full")]
    DiskFull,
    /// It was killed by a signal: by an operator, or by the system because memory was short.
    #[error("it was killed")]
    Killed,
    /// It ended by itself. The log has the end of its own log.
    #[error("it ended by itself")]
    Ended,
    /// Its data directory was removed, moved or replaced while it ran.
    #[error("its data directory is gone, which a restore from a backup can cure")]
    DirectoryGone,
    /// It ran before, but cannot start. The log has the reason.
    #[error("it cannot start")]
    CannotStart,
}

impl DatabaseStatus {
    /// Returns the outage, or `None` while the database runs or has no supervisor.
    pub fn outage(&self) -> Option<Outage> {
        *self.0.lock()
    }

    /// Sets the status. Only the supervisor of the database calls this.
    pub fn set(&self, outage: Option<Outage>) {
        *self.0.lock() = outage;
    }

    /// Returns the reason of an outage that is likely to last.
    pub(crate) fn lasting_outage(&self) -> Option<OutageReason> {
        self.outage()
            .filter(|outage| outage.is_lasting)
            .map(|outage| outage.reason)
    }
}
