//! Why a backup cannot be made, restored or verified.

use std::{io, path::PathBuf, sync::Arc};

use crate::{backup::DESCRIPTION, embedded::EmbeddedError, error::Error};

/// The reason why a backup cannot be made, restored or verified.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The directory for a new backup is not empty.
    #[error(
        "{} is not empty. A backup is written into a new directory, so that no older one is lost; choose another name.",
        directory.display()
    )]
    NotNew {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory for a new backup is among the files that are backed up.
    #[error("{} lies inside the files of PostgreSQL, so the backup would contain itself. Choose a directory elsewhere.", directory.display())]
    InsideCluster {
        /// The directory.
        directory: PathBuf,
    },
    /// There is no finished backup in the directory.
    #[error(
        "{} is not a finished backup: it has no {missing}. Give the directory that `health-server backup DIR` has written.",
        directory.display()
    )]
    NoBackup {
        /// The directory.
        directory: PathBuf,
        /// The file that is missing.
        missing: &'static str,
    },
    /// The file that describes the backup is damaged.
    #[error("the backup in {} is damaged: its {DESCRIPTION} cannot be read: {reason}", directory.display())]
    Damaged {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// The restored backup differs from the database.
    #[error("the backup in {} does not equal the database: {difference}. Do not rely on it; make another one.", directory.display())]
    Differs {
        /// The directory.
        directory: PathBuf,
        /// The first difference, as a clause.
        difference: String,
    },
    /// PostgreSQL did not start or was not found, or a file could not be copied.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The database refused to answer.
    #[error(transparent)]
    Database(#[from] Error),
    /// The operating system refused an operation on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
}
