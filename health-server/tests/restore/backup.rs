//! `health-server backup` and `health-server restore`.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use test_support::{Signal, TempDir, TestProcess, test_directory};
use tokio::{io::AsyncReadExt, process::Command, task::yield_now, time::timeout};
use tokio_postgres::NoTls;

use crate::{
    client::{get, post},
    history::History,
    server::Server,
};

/// Longer than a backup of a small database takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(5);

/// A number that a writer does not reach during a backup, however long the backup takes on a busy machine.
const LATER: u32 = 80_000;

/// A data directory, and a place for backups beside it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(test_directory())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn backup(&self) -> PathBuf {
        self.path().join("backup")
    }

    async fn serve(&self) -> Server {
        Server::start_with(&["--data-dir", self.data().to_str().unwrap()], self.path()).await
    }

    /// Runs a command on the data directory, as somebody whose new files only the owner may read.
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "umask 077; exec \"$0\" \"$@\"",
                env!("CARGO_BIN_EXE_health-server"),
            ])
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data())
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        timeout(TIMEOUT, command.output())
            .await
            .expect("an end in time")
            .unwrap()
    }

    /// Runs a command that must succeed, and returns what it prints.
    async fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail, and returns what it says.
    async fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn back_up(&self) -> String {
        self.succeed(&["backup", "--verify", self.backup().to_str().unwrap()])
            .await
    }

    /// Loses the data directory and restores the backup.
    async fn lose_and_restore(&self) {
        fs::remove_dir_all(self.data()).unwrap();
        let printed = self.succeed(&["restore", self.backup().to_str().unwrap()]).await;
        assert!(printed.contains("restored"), "{printed}");
    }
}

/// Returns the numbers that are stored, in order. Each test sample has its number as its steps.
async fn stored_numbers(server: &Server) -> Vec<u32> {
    let path = "/samples?user_id=7&start=2025-01-01T00:00:00Z&end=2026-01-01T00:00:00Z";
    let (status, response) = get(server.http(), path).await.unwrap();
    assert_eq!(status, "200", "{response}");
    let steps = response.split("\"steps\":").skip(1);
    steps
        .map(|rest| {
            rest.split(|c: char| !c.is_ascii_digit())
                .next()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect()
}

#[tokio::test]
async fn a_backup_that_is_restored_has_everything_up_to_it_and_refuses_the_cursors_after_it() {
    let place = Place::new();
    let server = place.serve().await;
    let history = History::begin(&server).await;
    let printed = place.back_up().await;
    assert!(printed.contains("20 samples of 1 user can be restored"), "{printed}");
    assert!(printed.contains("equal those of the database"), "{printed}");
    let mode = fs::metadata(place.backup()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // The user of the server reads it, who may be another than the one who made the backup.
    let last = fs::metadata(place.data().join("last-backup.json")).unwrap();
    assert_eq!(last.permissions().mode() & 0o777, 0o644);
    let history = history.write_lost(&server).await;
    server.stop().await;

    place.lose_and_restore().await;
    let server = place.serve().await;
    history.check_lost(&server, false).await;
    server.stop().await;
}

#[tokio::test]
async fn a_backup_under_load_has_every_sample_that_was_acknowledged_before_it_began() {
    let place = Place::new();
    let server = place.serve().await;
    let acknowledged = Arc::new(AtomicU32::new(0));
    let writing = tokio::spawn({
        let (acknowledged, http) = (Arc::clone(&acknowledged), server.http());
        async move {
            for number in 1.. {
                post(http, [number]).await;
                acknowledged.store(number, Ordering::Relaxed);
            }
        }
    });
    post(server.http(), [LATER]).await;
    let before = acknowledged.load(Ordering::Relaxed);
    let printed = place.back_up().await;
    assert!(printed.contains("equal those of the database"), "{printed}");
    writing.abort();
    let _ = writing.await;

    // What was written and changed since is left out of the comparison.
    post(server.http(), [LATER + 1]).await;
    let printed = place.back_up().await;
    assert!(
        !printed.contains("backed up") && printed.contains("equal those"),
        "only verified: {printed}"
    );
    server.stop().await;
    let printed = place.back_up().await;
    assert!(printed.contains("equal those"), "without a server too: {printed}");

    place.lose_and_restore().await;
    let server = place.serve().await;
    let mut numbers = stored_numbers(&server).await;
    assert_eq!(numbers.pop(), Some(LATER));
    let count = u32::try_from(numbers.len()).unwrap();
    assert!(count >= before, "{count} restored, {before} acknowledged");
    assert!(numbers.iter().copied().eq(1..=count), "no number in between is missing");
    server.stop().await;
}

#[tokio::test]
async fn damage_in_a_backup_is_found() {
    let place = Place::new();
    let server = place.serve().await;
    post(server.http(), 1..=50).await;
    server.stop().await;
    place.back_up().await;
    let databases = place.backup().join("pgdata/base");
    // Damages every file of tables, behind the head of its first page.
    for database in fs::read_dir(databases).unwrap() {
        for file in fs::read_dir(database.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let is_table = path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .parse::<u32>()
                .is_ok_and(|id| id >= 16_384);
            if is_table && fs::metadata(&path).unwrap().len() > 4_096 {
                let mut file = File::options().write(true).open(path).unwrap();
                file.seek(SeekFrom::Start(4_000)).unwrap();
                file.write_all(&[0x5a; 96]).unwrap();
            }
        }
    }
    let error = place
        .fail(&["backup", "--verify", place.backup().to_str().unwrap()])
        .await;
    assert!(!error.contains("panicked"), "{error}");
    let remains: Vec<_> = fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("verify"))
        .collect();
    assert!(remains.is_empty(), "{remains:?}");
}

#[tokio::test]
async fn nothing_is_overwritten_and_each_refusal_says_what_to_do() {
    let place = Place::new();
    let backup = place.backup();
    let backup = backup.to_str().unwrap();
    let error = place.fail(&["backup", backup]).await;
    assert!(
        error.contains("nothing to back up") && error.contains("--data-dir"),
        "{error}"
    );
    assert!(!place.data().exists(), "no database was created");
    let error = place.fail(&["restore", backup]).await;
    assert!(error.contains("not a finished backup"), "{error}");

    place.serve().await.stop().await;
    place.succeed(&["backup", backup]).await;
    let error = place.fail(&["backup", backup]).await;
    assert!(error.contains("not empty") && error.contains("another name"), "{error}");
    let error = place.fail(&["restore", backup]).await;
    assert!(error.contains("not empty") && error.contains("--data-dir"), "{error}");
    let url = "postgres://localhost/health_db";
    for command in ["backup", "restore"] {
        let error = place.fail(&[command, backup, "--database-url", url]).await;
        assert!(error.contains("pg_dump") && error.contains("--data-dir"), "{error}");
    }

    // A backup that was interrupted has no final name yet.
    fs::rename(place.backup().join("pgdata"), place.backup().join("pgdata.new")).unwrap();
    fs::remove_dir_all(place.data()).unwrap();
    let error = place.fail(&["restore", backup]).await;
    assert!(error.contains("not a finished backup"), "{error}");
    fs::create_dir(place.data()).unwrap();
    fs::write(place.data().join("diary.txt"), "").unwrap();
    fs::rename(place.backup().join("pgdata.new"), place.backup().join("pgdata")).unwrap();
    let error = place.fail(&["restore", backup]).await;
    assert!(error.contains("diary.txt"), "{error}");

    // What cannot be read is not called missing. Nobody, not even root, can read a link to itself.
    fs::rename(place.backup().join("pgdata"), place.backup().join("pgdata.new")).unwrap();
    symlink("pgdata", place.backup().join("pgdata")).unwrap();
    let error = place.fail(&["restore", backup]).await;
    assert!(error.contains("cannot read") && error.contains("pgdata"), "{error}");
}

#[tokio::test]
async fn an_interrupted_verification_leaves_no_copy_of_the_database() {
    let place = Place::new();
    let server = place.serve().await;
    let data = place.data();
    // The comparison with the database waits for this lock, so it never ends.
    let url = format!("postgres://postgres@/health_db?host={}", data.join("run").display());
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE health_metrics").await.unwrap();

    for signal in [Signal::TERM, Signal::INT] {
        let backup = place.path().join(format!("backup-{signal:?}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_health-server"));
        command
            .args(["backup", "--verify"])
            .arg(&backup)
            .arg("--data-dir")
            .arg(&data);
        command.env_remove("DATABASE_URL").stderr(Stdio::piped());
        let mut running = TestProcess::start(command);
        let mut messages = running.child().stderr.take().unwrap();
        running.line_after("backed up ").await;
        let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'health_metrics'::regclass AND NOT granted";
        while transaction.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            yield_now().await;
        }
        running.signal(signal);
        assert_eq!(running.wait().await.code(), Some(1));
        let mut message = String::new();
        messages.read_to_string(&mut message).await.unwrap();
        assert!(
            message.contains("interrupted") && !message.contains("by hand"),
            "{message}"
        );
        let mut names: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.retain(|name| name.to_string_lossy().contains("verify"));
        assert!(names.is_empty(), "{names:?}");
        assert!(backup.join("pgdata").exists(), "the backup was finished");
    }
    transaction.commit().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_restore_that_fails_gives_the_space_back() {
    let place = Place::new();
    place.serve().await.stop().await;
    let backup = place.backup();
    place.succeed(&["backup", backup.to_str().unwrap()]).await;
    fs::remove_dir_all(place.data()).unwrap();
    // Nothing but files and directories is copied.
    let link = backup.join("pgdata/base/link");
    symlink("1", &link).unwrap();
    let error = place.fail(&["restore", backup.to_str().unwrap()]).await;
    assert!(error.contains("only files and directories"), "{error}");
    for name in ["pgdata", "pgdata.new"] {
        assert!(!place.data().join(name).exists(), "{name}");
    }
    fs::remove_file(link).unwrap();
    place.succeed(&["restore", backup.to_str().unwrap()]).await;
}

#[tokio::test]
async fn a_backup_inside_the_data_directory_is_refused_or_warned_of() {
    let place = Place::new();
    place.serve().await.stop().await;
    for name in ["pgdata/backup", "pgdata/base/../x/y"] {
        let directory = place.data().join(name);
        let error = place.fail(&["backup", directory.to_str().unwrap()]).await;
        assert!(error.contains("would contain itself"), "{error}");
        assert!(!directory.exists());
    }
    let inside = place.data().join("backup");
    let output = place.run(&["backup", inside.to_str().unwrap()]).await;
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(log.contains("lost together with it"), "{log}");
}
