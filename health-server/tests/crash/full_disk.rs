//! The disk of PostgreSQL is full. The server answers 503, and stores again as soon as there is space.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Command,
};

use test_support::{TempDir, test_directory};

use crate::{
    client::{Client, records},
    database::Database,
    server::Server,
};

/// A file system of 12 MiB in memory. It is unmounted on drop.
struct SmallDisk(TempDir);

/// Fills most of the disk, so that few requests fill the rest.
const BALLAST_BYTES: usize = 8 << 20;

/// What the responses say.
const REASON: &str = "its disk is full";

/// Records of one request: enough for the server to write them with COPY.
const RECORDS: i64 = 2_000;

impl SmallDisk {
    /// Mounts the file system. Returns `None` if this process may not mount one.
    fn mount() -> Option<Self> {
        let directory = test_directory();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
            .arg(directory.path())
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily (-l), because PostgreSQL may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Moves the samples and their index to the small disk.
async fn move_samples(database: &Database, admin: &tokio_postgres::Client, disk: &SmallDisk) {
    let directory = disk.path().join("tablespace");
    fs::create_dir(&directory).unwrap();
    // If the tests run as root, PostgreSQL runs as another user: the owner of its data.
    let owner = fs::metadata(database.directory().join("data/pgdata")).unwrap();
    chown(&directory, Some(owner.uid()), Some(owner.gid())).unwrap();
    // CREATE TABLESPACE must be the only statement of its transaction.
    let create = format!("CREATE TABLESPACE small LOCATION '{}'", directory.display());
    admin.batch_execute(&create).await.unwrap();
    admin
        .batch_execute(
            "ALTER TABLE health_metrics SET TABLESPACE small; ALTER INDEX health_metrics_pkey SET TABLESPACE small",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_of_the_tables_gives_503_with_the_reason_at_once_until_there_is_space() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: only root may mount a small file system");
        return;
    };
    let database = Database::start().await;
    let url = database.url();
    // Longer than the client waits: the reason must come at once, not at the deadline.
    let arguments = ["--database-url", &url, "--ingest-deadline", "1h"];
    let server = Server::start(&arguments, &database.directory().join("server.log")).await;
    let admin = database.connect().await;
    move_samples(&database, &admin, &disk).await;
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();

    let mut client = Client::connect(server.http()).await.unwrap();
    let (mut user, mut acknowledged) = (1, 0);
    let (status, response) = loop {
        let body = records(user, RECORDS);
        let (status, response) = client.post("application/x-ndjson", body.as_bytes()).await.unwrap();
        if status != 200 {
            break (status, response);
        }
        acknowledged += RECORDS;
        user += 1;
    };
    assert_eq!((status, response["accepted"].as_i64()), (503, Some(0)), "{response}");
    assert!(response["detail"].as_str().unwrap().contains(REASON), "{response}");
    let (status, response) = client.get("/-/ready").await.unwrap();
    assert_eq!(status, 503);
    assert!(response["detail"].as_str().unwrap().contains(REASON), "{response}");

    fs::remove_file(ballast).unwrap();
    let body = records(user, RECORDS);
    while client.post("application/x-ndjson", body.as_bytes()).await.unwrap().0 != 200 {}
    acknowledged += RECORDS;
    let count = "SELECT count(*) FROM health_metrics";
    let stored: i64 = admin.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(stored, acknowledged);
    assert_eq!(server.stop().await.code(), Some(0));
}
