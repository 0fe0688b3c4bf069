//! The commands `backup` and `restore`.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use health_core::{
    backup::{Backup, Compared, Verified},
    counted,
    embedded::Cluster,
    format_timestamp,
};

use crate::{
    args::{
        backup::{BackupArgs, RestoreArgs},
        database::DatabaseArgs,
    },
    database::{EMBEDDED_DATABASE, options},
    error::ProgramError,
};

/// Backs up the server's own PostgreSQL, or verifies an existing backup.
pub(crate) async fn back_up(args: BackupArgs) -> Result<(), ProgramError> {
    require_own_postgres(&args.database, "backup")?;
    let options = options(&args.database);
    // Attaching to an empty data directory would create a database.
    let cluster = if options.has_cluster()? {
        Some(Cluster::attach(options.clone()).await?)
    } else {
        None
    };
    let outcome = if args.verify && is_filled(&args.directory) {
        match Backup::open(&args.directory) {
            Ok(backup) => verify(&backup, cluster.as_ref()).await,
            Err(error) => Err(error.into()),
        }
    } else {
        match &cluster {
            Some(cluster) => make(cluster, &args).await,
            None => Err(ProgramError::NothingToBackUp {
                directory: options.resolve_data_dir()?.display().to_string(),
            }),
        }
    };
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    outcome
}

/// Returns whether a directory holds something. A new backup goes into one that is missing or empty.
fn is_filled(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

async fn make(cluster: &Cluster, args: &BackupArgs) -> Result<(), ProgramError> {
    let backup = Backup::make(cluster, &args.directory).await?;
    print(&format!(
        "backed up {} to {}",
        cluster.data_dir().display(),
        backup.directory().display()
    ))?;
    if args.verify {
        verify(&backup, Some(cluster)).await?;
    }
    Ok(())
}

async fn verify(backup: &Backup, cluster: Option<&Cluster>) -> Result<(), ProgramError> {
    let verified = backup.verify(cluster, EMBEDDED_DATABASE).await?;
    print(&sentence(backup.directory(), &verified))
}

/// Puts a backup back.
pub(crate) async fn restore(args: RestoreArgs) -> Result<(), ProgramError> {
    require_own_postgres(&args.database, "restore")?;
    let backup = Backup::open(&args.directory)?;
    let options = options(&args.database);
    let data_dir = backup.restore(&options).await?;
    // The first start replays the WAL of the backup. A fault in it should be seen now, not when the server is needed.
    Cluster::attach(options).await?.stop().await?;
    print(&format!(
        "restored {} to {}: everything that was stored before {}",
        args.directory.display(),
        data_dir.display(),
        format_timestamp(backup.finished_at())
    ))
}

fn sentence(backup: &Path, verified: &Verified) -> String {
    let contents = format!(
        "verified {}: {} of {} can be restored",
        backup.display(),
        counted(verified.samples, "sample"),
        counted(u64::try_from(verified.users).unwrap_or(u64::MAX), "user"),
    );
    let comparison = match verified.compared {
        Compared::Equal { changed_users: 0 } => "numbers and sums equal those of the database".to_owned(),
        Compared::Equal { changed_users } => format!(
            "numbers and sums equal those of the database, without what was changed since ({})",
            counted(u64::try_from(changed_users).unwrap_or(u64::MAX), "user")
        ),
        Compared::OtherHistory => {
            "they were not compared with the database, whose commit log does not reach back to this backup".to_owned()
        }
        _ => "they were not compared, because the data directory has no database".to_owned(),
    };
    format!("{contents}; {comparison}")
}

fn require_own_postgres(args: &DatabaseArgs, command: &'static str) -> Result<(), ProgramError> {
    if args.is_external() {
        return Err(ProgramError::NotOwnPostgres { command });
    }
    Ok(())
}

fn print(line: &str) -> Result<(), ProgramError> {
    writeln!(io::stdout(), "{line}").map_err(ProgramError::System)
}
