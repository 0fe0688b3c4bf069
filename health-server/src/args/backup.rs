//! The options of `backup` and `restore`.

use std::path::PathBuf;

use crate::args::database::DatabaseArgs;

/// Options of `backup`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BackupArgs {
    /// New directory for the backup. With --verify it may also be an existing backup, which then is only verified.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Then restore the backup beside itself, read all samples, and compare their number and sums with the database.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
}

/// Options of `restore`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RestoreArgs {
    /// Directory of the backup.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
}
