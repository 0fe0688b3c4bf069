//! Backups of an [embedded](crate::embedded) PostgreSQL: made while it runs, put back, and verified.
//!
//! A backup is a directory with a copy of all files of the cluster, made by PostgreSQL's `pg_basebackup`, and a file
//! that describes it. It is consistent: it holds exactly what was committed when the copy ended. Only the same major
//! version of PostgreSQL can read it.
//!
//! After a restore, the feed refuses the cursors of the time that was lost, as after any return to an earlier state.

mod compare;
mod error;
mod files;

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use crate::backup::error::BackupError;
use crate::{
    backup::{
        compare::{Comparison, compare, total_samples},
        files::{Place, create_new, io, resolve, sync, write_json},
    },
    config::Config,
    embedded::{Cluster, EmbeddedError, Options, copy_running, put_back},
    error::Error,
    store::{connection::Session, totals},
};

/// The copy of the cluster in a backup.
const CLUSTER: &str = "pgdata";

/// The copy while it is being made.
const UNFINISHED: &str = "pgdata.new";

/// The file that describes a backup.
const DESCRIPTION: &str = "backup.json";

/// The file in a data directory that tells when it was last backed up.
const LAST_BACKUP: &str = "last-backup.json";

/// A finished backup.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use health_core::{
///     backup::Backup,
///     embedded::{Cluster, Options},
/// };
///
/// let cluster = Cluster::attach(Options::new()).await?;
/// let backup = Backup::make(&cluster, "/backups/monday").await?;
/// let verified = backup.verify(Some(&cluster), "health_db").await?;
/// println!("{} samples can be restored", verified.samples);
/// cluster.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Backup {
    directory: PathBuf,
    description: Description,
}

/// What the description of a backup says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    finished_at: DateTime<Utc>,
    /// The version of this crate.
    version: String,
}

/// What the data directory says of the last backup that was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LastBackup {
    /// When it was finished.
    pub finished_at: DateTime<Utc>,
    /// Where it was written to.
    pub directory: PathBuf,
}

/// The result of a verification that found no fault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The users in the backup.
    pub users: usize,
    /// The samples in the backup. All of them were read.
    pub samples: i64,
    /// How they compare with those in the database.
    pub compared: Compared,
}

/// How much of a backup was compared with the database that it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compared {
    /// The numbers and sums of all samples that were not written or erased since the backup are equal.
    Equal {
        /// The number of users with samples that were changed or erased since the backup. Their sums were not compared.
        changed_users: usize,
    },
    /// There was no database to compare with.
    NoDatabase,
    /// The commit log of the database does not reach back to the backup, or belongs to another history.
    OtherHistory,
}

impl Backup {
    /// Copies the cluster into a new directory of mode 0700, while it runs.
    ///
    /// When this returns, the backup is on the disk. If it fails or is dropped, what was copied so far is removed.
    /// After a kill it stays, is no backup, and [`open`](Self::open) refuses it.
    ///
    /// # Errors
    /// [`BackupError::NotNew`] if the directory holds something, [`BackupError::Embedded`] if `pg_basebackup` is
    /// missing or fails.
    pub async fn make(cluster: &Cluster, directory: impl Into<PathBuf>) -> Result<Self, BackupError> {
        let directory = directory.into();
        check_place(&directory, cluster)?;
        create_new(&directory)?;
        // Removed after an error, and if this future is dropped. After the last step it has another name.
        let unfinished = Place::at(directory.join(UNFINISHED));
        copy_running(cluster, unfinished.path()).await?;
        let description = Description {
            finished_at: Utc::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        write_json(&directory.join(DESCRIPTION), &description)?;
        // The last step: a directory without this name is not a backup.
        fs::rename(unfinished.path(), directory.join(CLUSTER)).map_err(io("rename", unfinished.path()))?;
        sync(&directory)?;
        if let Some(parent) = directory.parent() {
            // As in PostgreSQL, a file system that cannot sync a directory is no reason to fail.
            let _ = sync(parent);
        }
        let last = LastBackup {
            finished_at: description.finished_at,
            directory: std::path::absolute(&directory).unwrap_or_else(|_| directory.clone()),
        };
        if let Err(error) = write_json(&cluster.data_dir().join(LAST_BACKUP), &last) {
            tracing::warn!(%error, "the backup is finished, but the data directory does not tell of it");
        }
        Ok(Self { directory, description })
    }

    /// Opens a backup that was made before.
    ///
    /// # Errors
    /// [`BackupError::NoBackup`] if the directory holds no finished backup.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, BackupError> {
        let directory = directory.into();
        let is_missing =
            |error: &std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        let no_backup = |missing| BackupError::NoBackup {
            directory: directory.clone(),
            missing,
        };
        let cluster = directory.join(CLUSTER);
        // A directory that this user may not enter is another fault, with another remedy.
        match fs::metadata(&cluster) {
            Ok(metadata) if metadata.is_dir() => {}
            Err(error) if !is_missing(&error) => return Err(io("read", &cluster)(error)),
            _ => return Err(no_backup(CLUSTER)),
        }
        let path = directory.join(DESCRIPTION);
        let text = match fs::read(&path) {
            Err(error) if is_missing(&error) => return Err(no_backup(DESCRIPTION)),
            text => text.map_err(io("read", &path))?,
        };
        match serde_json::from_slice(&text) {
            Ok(description) => Ok(Self { directory, description }),
            Err(error) => Err(BackupError::Damaged {
                directory,
                reason: error.to_string(),
            }),
        }
    }

    /// Returns the directory of the backup.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns when the backup was finished.
    pub fn finished_at(&self) -> DateTime<Utc> {
        self.description.finished_at
    }

    /// Copies the backup into the data directory of `options`, and returns that directory.
    ///
    /// The cluster is not started; [`Cluster::start`] does that as usual. A kill meanwhile leaves a directory without
    /// cluster, into which a backup can be restored again.
    ///
    /// # Errors
    /// [`EmbeddedError::NotEmpty`] if the data directory holds anything, [`EmbeddedError::OtherVersion`] if the major
    /// version of PostgreSQL that made the backup is not installed.
    pub async fn restore(&self, options: &Options) -> Result<PathBuf, BackupError> {
        Ok(put_back(&self.directory.join(CLUSTER), options).await?)
    }

    /// Restores the backup into a directory beside it (or beside the data directory, if the user that runs PostgreSQL
    /// cannot enter the directory of the backup), starts PostgreSQL there, reads all samples, and compares their number
    /// and sums with those in `database` of the cluster that it was made of.
    ///
    /// Samples that were written or erased since the backup are left out of the comparison. If `cluster` is `None`, the
    /// samples are only read.
    ///
    /// # Errors
    /// [`BackupError::Differs`] if a sample is missing or differs, [`BackupError::Embedded`] if the backup does not
    /// start, [`BackupError::Database`] if a row cannot be read.
    pub async fn verify(&self, cluster: Option<&Cluster>, database: &str) -> Result<Verified, BackupError> {
        let (_place, options) = self.restore_to_verify(cluster).await?;
        let restored = Cluster::start(options).await?;
        let verified = self.compare(&restored, cluster, database).await;
        let stopped = restored.stop().await;
        let verified = verified?;
        stopped?;
        Ok(verified)
    }

    /// Restores the backup into a directory that is removed with the returned place.
    ///
    /// Root runs PostgreSQL as another user, who cannot enter a private directory of backups. Then the place is beside
    /// the data directory of the cluster, which that user can enter.
    async fn restore_to_verify(&self, cluster: Option<&Cluster>) -> Result<(Place, Options), BackupError> {
        let restore_beside = async |directory: &Path| {
            let place = Place::beside(directory)?;
            let options = Options::new().data_dir(place.path()).durable(false).restart(false);
            self.restore(&options).await?;
            Ok((place, options))
        };
        match (restore_beside(&self.directory).await, cluster) {
            (Err(BackupError::Embedded(EmbeddedError::Unreachable { .. })), Some(cluster)) => {
                restore_beside(cluster.data_dir()).await
            }
            (restored, _) => restored,
        }
    }

    async fn compare(
        &self,
        restored: &Cluster,
        original: Option<&Cluster>,
        database: &str,
    ) -> Result<Verified, BackupError> {
        let mut backup = session(restored, database).await?;
        let totals = totals::of_all(&mut backup).await.map_err(Error::from)?;
        let mut verified = Verified {
            users: totals.users.len(),
            samples: total_samples(&totals.users),
            compared: Compared::NoDatabase,
        };
        let Some(original) = original else { return Ok(verified) };
        let mut original = session(original, database).await?;
        let unchanged = totals::unchanged_since(&mut original, totals.newest).await;
        let Some((unchanged, bound)) = unchanged.map_err(Error::from)? else {
            verified.compared = Compared::OtherHistory;
            return Ok(verified);
        };
        let restored = totals::below(&mut backup, bound).await.map_err(Error::from)?;
        match compare(&restored, &unchanged) {
            Comparison::Equal { changed_users } => verified.compared = Compared::Equal { changed_users },
            Comparison::Differs(difference) => {
                return Err(BackupError::Differs {
                    directory: self.directory.clone(),
                    difference,
                });
            }
        }
        Ok(verified)
    }
}

/// Refuses a directory among the files that are copied, and warns of one that is lost together with them.
fn check_place(directory: &Path, cluster: &Cluster) -> Result<(), BackupError> {
    let resolved = resolve(directory);
    if resolved.starts_with(resolve(&cluster.pgdata())) {
        return Err(BackupError::InsideCluster {
            directory: directory.to_owned(),
        });
    }
    let data_dir = cluster.data_dir();
    if resolved.starts_with(resolve(data_dir)) {
        tracing::warn!(
            "the backup lies in the data directory {}, and is lost together with it: keep a copy elsewhere",
            data_dir.display()
        );
    }
    Ok(())
}

/// Returns when a data directory was last backed up; `None` if it never was, or if its note cannot be read.
pub fn last_backup(data_dir: &Path) -> Option<LastBackup> {
    serde_json::from_slice(&fs::read(data_dir.join(LAST_BACKUP)).ok()?).ok()
}

async fn session(cluster: &Cluster, database: &str) -> Result<Session, BackupError> {
    let config = Config::from_url(&cluster.url(database))?;
    Ok(Session::writer(&config).await?)
}
