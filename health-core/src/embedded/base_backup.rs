//! Copying the files of a running cluster with PostgreSQL's `pg_basebackup`, and putting a copy back.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::embedded::{
    cluster::Cluster,
    directory::{Directory, OwnerKind},
    error::EmbeddedError,
    find::{self, SearchPath},
    instance::{USER, run_blocking},
    log_tail::LogTail,
    options::Options,
    os_user::OsUser,
    program_environment::program_environment,
};

/// The program that copies a running cluster.
const PROGRAM: &str = "pg_basebackup";

/// Copies the cluster into `target`, which must not exist or be empty, with the WAL that makes the copy consistent.
///
/// The copy is synced to the disk. If this future is dropped, the program is killed.
pub(crate) async fn copy_running(cluster: &Cluster, target: &Path) -> Result<(), EmbeddedError> {
    let pgdata = cluster.pgdata();
    let bindir = cluster.bindir().map(Path::to_owned);
    let programs = run_blocking(move || find::choose(&SearchPath::new(bindir.as_deref()), &pgdata)).await?;
    let beside = programs.bindir.join(PROGRAM);
    // Some packages keep the client programs apart from those of the server.
    let program = if beside.exists() {
        beside
    } else {
        PathBuf::from(PROGRAM)
    };
    let address = cluster.address();
    let mut command = Command::new(&program);
    command
        .arg("--pgdata")
        .arg(target)
        .arg("--host")
        .arg(&address.socket_directory)
        .args(["--port", &address.port.to_string(), "--username", USER, "--no-password"])
        .args([
            "--checkpoint=fast",
            "--wal-method=stream",
            "--label=health-server backup",
        ])
        .env_clear()
        .envs(program_environment())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match command.output().await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(EmbeddedError::NoBaseBackup {
                bindir: programs.bindir,
                major: programs.major,
            });
        }
        output => output.map_err(EmbeddedError::io("run", program))?,
    };
    if output.status.success() {
        return Ok(());
    }
    Err(EmbeddedError::BaseBackup {
        directory: cluster.data_dir().to_owned(),
        status: output.status,
        log: LogTail::of(&String::from_utf8_lossy(&output.stderr)),
    })
}

/// Makes `copy`, the files of a cluster, the cluster of the data directory of `options`, which must have none.
///
/// The cluster gets its name when it is complete and on the disk. After a kill before that, another restore can use the
/// data directory as if it were empty.
pub(crate) async fn put_back(copy: &Path, options: &Options) -> Result<PathBuf, EmbeddedError> {
    let directory = Directory::new(options.resolve_data_dir()?);
    let copy = copy.to_owned();
    let bindir = options.chosen_bindir().map(Path::to_owned);
    let is_durable = options.is_durable();
    run_blocking(move || {
        // Before anything is created: a version that cannot read the copy would leave an unusable directory.
        find::choose(&SearchPath::new(bindir.as_deref()), &copy)?;
        let user = OsUser::choose(&directory.pgdata())?;
        directory.check_is_unused()?;
        directory.prepare(&user)?;
        let owner_lock = directory.lock_for_owner(&user, OwnerKind::Command)?;
        let Some(_lock) = directory.lock_for_postgres(&user)? else {
            return Err(EmbeddedError::NotEmpty {
                directory: directory.path().to_owned(),
                entry: "a running PostgreSQL".to_owned(),
            });
        };
        directory.remove_stale_files()?;
        directory.begin_cluster(&user)?;
        if let Err(error) = copy_contents(&copy, &directory.pgdata_new(), &user, is_durable) {
            // A part of the data is of no use, and the disk may be full. The first error says more than a failure to
            // clean up.
            let _ = directory.remove_stale_files();
            return Err(error);
        }
        directory.finish_cluster(is_durable)?;
        drop(owner_lock);
        Ok(directory.path().to_owned())
    })
    .await
}

/// Copies everything in `from` into the directory `to`.
fn copy_contents(from: &Path, to: &Path, user: &OsUser, is_durable: bool) -> Result<(), EmbeddedError> {
    let entries = fs::read_dir(from).map_err(EmbeddedError::io("read the directory", from))?;
    for entry in entries {
        let entry = entry.map_err(EmbeddedError::io("read the directory", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry
            .file_type()
            .map_err(EmbeddedError::io("read the metadata of", &source))?;
        if kind.is_dir() {
            fs::create_dir(&target).map_err(EmbeddedError::io("create the directory", &target))?;
            copy_contents(&source, &target, user, is_durable)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).map_err(EmbeddedError::io("copy to the data directory the file", &source))?;
        } else {
            // A cluster of ours has no tablespaces, so nothing else can be in its copy.
            return Err(EmbeddedError::ForeignDirectory {
                directory: source,
                reason: "a backup holds only files and directories",
            });
        }
        if is_durable {
            File::open(&target)
                .and_then(|file| file.sync_all())
                .map_err(EmbeddedError::io("sync to the disk", &target))?;
        }
        fs::set_permissions(&target, private(kind.is_dir()))
            .map_err(EmbeddedError::io("change the permissions of", &target))?;
        user.make_owner_of(&target)?;
    }
    Ok(())
}

/// The permissions that PostgreSQL demands, whatever those of the copy have become on the way.
fn private(is_directory: bool) -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(if is_directory { 0o700 } else { 0o600 })
}
