//! A disk that is full.

use std::{fs, os::unix::fs::chown, path::PathBuf, process::Command};

use crate::{
    client::Client,
    database::{Database, directory},
    server::Server,
};

/// A file system of a few megabytes, unmounted after the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where this process may not mount one.
    fn mount(directory: PathBuf) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
            .arg(&directory)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(directory));
        }
        fs::remove_dir(directory).unwrap();
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: PostgreSQL may still have files open. What is left lies in the temporary directory.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_full_disk_is_a_503_until_there_is_room_again() {
    let Some(disk) = SmallDisk::mount(directory("disk")) else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let database = Database::start("full").await;
    let server = Server::start(
        &["--database-url", &database.url(), "--ingest-deadline", "1s"],
        &database.directory().join("server.log"),
    )
    .await;
    // PostgreSQL may run as another user: the one who has its data.
    let room = disk.0.join("room");
    fs::create_dir(&room).unwrap();
    let owner = fs::metadata(database.directory().join("data/pgdata")).unwrap();
    let (user, group) = {
        use std::os::unix::fs::MetadataExt;
        (owner.uid(), owner.gid())
    };
    chown(&room, Some(user), Some(group)).unwrap();
    let admin = database.connect().await;
    let move_there = format!("CREATE TABLESPACE small LOCATION '{}'", room.display());
    admin.batch_execute(&move_there).await.unwrap();
    admin
        .batch_execute(
            "ALTER TABLE health_metrics SET TABLESPACE small; ALTER INDEX health_metrics_pkey SET TABLESPACE small",
        )
        .await
        .unwrap();
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![1; 8 << 20]).unwrap();

    let mut client = Client::connect(server.http()).await.unwrap();
    let mut stored = 0;
    let mut user = 0;
    // Bodies that are copied, until there is no room.
    let refused = loop {
        user += 1;
        let (status, answer) = client
            .post("application/x-ndjson", body(user).as_bytes())
            .await
            .unwrap();
        if status != 200 {
            break (status, answer);
        }
        stored += ROWS;
    };
    assert_eq!(
        (refused.0, refused.1["accepted"].as_i64()),
        (503, Some(0)),
        "{}",
        refused.1
    );
    assert_eq!(client.get("/-/ready").await.unwrap().0, 503);
    fs::remove_file(ballast).unwrap();
    while client
        .post("application/x-ndjson", body(user).as_bytes())
        .await
        .unwrap()
        .0
        != 200
    {}
    stored += ROWS;
    let count = admin
        .query_one("SELECT count(*) FROM health_metrics", &[])
        .await
        .unwrap();
    assert_eq!(count.get::<_, i64>(0), stored);
    assert_eq!(server.end().await.code(), Some(0));
}

/// Rows a request.
const ROWS: i64 = 2_000;

fn body(user: i64) -> String {
    let record = |second: i64| {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{{\"user_id\":{user},\"timestamp\":\"2025-03-02T{hour:02}:{minute:02}:{second:02}Z\",\"steps\":1}}\n")
    };
    (0..ROWS).map(record).collect()
}
