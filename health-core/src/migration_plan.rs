//! What a migration would do: [`plan_migration`](crate::plan_migration) finds out.

use std::time::Duration;

/// The migrations that a database lacks, and what a trial of them has shown.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MigrationPlan {
    /// The name of the database.
    pub database: String,
    /// The newest migration that was applied; 0 if there is none.
    pub version: i32,
    /// The migrations that would run, in their order.
    pub pending: Vec<PendingMigration>,
    /// Whether they were tried.
    pub trial: Trial,
}

/// A migration that would run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PendingMigration {
    /// Its number.
    pub version: i32,
    /// Its name.
    pub name: String,
    /// Its statements.
    pub sql: String,
    /// What the trial has shown; `None` if the migration was not tried, or not to its end.
    pub tried: Option<TriedMigration>,
}

/// What a trial has shown of a migration.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TriedMigration {
    /// How long it took. It holds its locks for no longer.
    pub took: Duration,
    /// Its strongest lock on each table, view or sequence that existed before, without those of the migrations before
    /// it.
    pub locks: Vec<RelationLock>,
}

/// A lock on a table, a view or a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelationLock {
    /// Its name.
    pub relation: String,
    /// How strong the lock is.
    pub mode: LockMode,
}

/// The modes of PostgreSQL's locks on tables, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// As a query takes it.
    AccessShare,
    /// As `SELECT … FOR UPDATE` takes it.
    RowShare,
    /// As an `INSERT` takes it.
    RowExclusive,
    /// As `VACUUM` takes it.
    ShareUpdateExclusive,
    /// As `CREATE INDEX` takes it.
    Share,
    /// As `CREATE TRIGGER` takes it.
    ShareRowExclusive,
    /// As `REFRESH MATERIALIZED VIEW CONCURRENTLY` takes it.
    Exclusive,
    /// As `DROP TABLE` and most forms of `ALTER TABLE` take it.
    AccessExclusive,
}

/// Whether the migrations were tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trial {
    /// All of them, if any.
    Complete,
    /// Until one waited for a lock for longer than a trial may wait.
    Locked,
    /// Until the time of a trial was over: a trial holds the locks, too.
    TooLong,
    /// None, because the database does not exist.
    NoDatabase,
    /// None, because the database is read-only.
    ReadOnly,
    /// None, because the tables are distributed by Citus: the locks would be on all servers.
    Distributed,
}

impl LockMode {
    const ALL: [Self; 8] = [
        Self::AccessShare,
        Self::RowShare,
        Self::RowExclusive,
        Self::ShareUpdateExclusive,
        Self::Share,
        Self::ShareRowExclusive,
        Self::Exclusive,
        Self::AccessExclusive,
    ];

    /// Returns the mode of a name such as `AccessShareLock`, as `pg_locks` has it.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let name = name.strip_suffix("Lock")?;
        Self::ALL.into_iter().find(|mode| format!("{mode:?}") == name)
    }

    /// Returns the name in SQL, such as `ACCESS SHARE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessShare => "ACCESS SHARE",
            Self::RowShare => "ROW SHARE",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::Exclusive => "EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }

    /// Returns who of a server waits for such a lock.
    pub fn who_waits(self) -> &'static str {
        match self {
            Self::AccessShare | Self::RowShare | Self::RowExclusive | Self::ShareUpdateExclusive => "nobody waits",
            Self::Share | Self::ShareRowExclusive | Self::Exclusive => "writers wait",
            Self::AccessExclusive => "readers and writers wait",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_from_their_names_in_pg_locks_and_ordered_by_strength() {
        for mode in LockMode::ALL {
            assert_eq!(LockMode::of(&format!("{mode:?}Lock")), Some(mode));
            assert_eq!(mode.name().replace(' ', ""), format!("{mode:?}").to_uppercase());
        }
        assert_eq!(LockMode::of("ExclusiveLocks"), None);
        assert!(LockMode::ALL.is_sorted());
    }
}
