//! The disk of PostgreSQL is full: that of some tables, or that of everything. The server answers 503 with the reason,
//! and stores again as soon as there is space.

use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use test_support::{ReservedPort, TempDir, test_directory};
use tokio::time::timeout;
use tokio_postgres::NoTls;

use crate::{
    client::{Client, records},
    database::Database,
    server::Server,
};

/// A small file system in memory. It is unmounted on drop.
struct SmallDisk(TempDir);

/// Large enough for some samples. See [`TABLES_BALLAST_BYTES`].
const TABLES_DISK: &str = "12m";

/// Fills most of the disk of the tables, so that few requests fill the rest.
const TABLES_BALLAST_BYTES: usize = 8 << 20;

/// Large enough for a new cluster (about 60 MiB) and some segments of its WAL (16 MiB each).
const CLUSTER_DISK: &str = "160m";

/// Ends the present segment of the WAL. The next write needs a new one, which a full disk has no space for.
const END_SEGMENT: &str = "SELECT pg_switch_wal()";

/// Longer than it takes on a busy machine until PostgreSQL runs again after there is space: the longest pause is 30 s.
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(4);

/// What the responses say.
const REASON: &str = "its disk is full";

/// Records of one request: enough for the server to write them with COPY.
const RECORDS: i64 = 2_000;

impl SmallDisk {
    /// Mounts the file system. Returns `None` if this process may not mount one.
    fn mount(size: &str) -> Option<Self> {
        let directory = test_directory();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(directory));
        }
        eprintln!("skipped: this process may not mount a small file system");
        None
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for bytes in [1 << 20, 4096, 1] {
            while ballast.write_all(&vec![1; bytes]).is_ok() {}
        }
    }

    fn make_space(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
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
    let Some(disk) = SmallDisk::mount(TABLES_DISK) else {
        return;
    };
    let database = Database::start().await;
    let url = database.url();
    // Longer than the client waits: the reason must come at once, not at the deadline.
    let arguments = ["--database-url", &url, "--ingest-deadline", "1h"];
    let server = Server::start(&arguments, &database.directory().join("server.log")).await;
    let admin = database.connect().await;
    move_samples(&database, &admin, &disk).await;
    fs::write(disk.ballast(), vec![1; TABLES_BALLAST_BYTES]).unwrap();

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

    disk.make_space();
    let body = records(user, RECORDS);
    while client.post("application/x-ndjson", body.as_bytes()).await.unwrap().0 != 200 {}
    acknowledged += RECORDS;
    let count = "SELECT count(*) FROM health_metrics";
    let stored: i64 = admin.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(stored, acknowledged);
    assert_eq!(server.stop().await.code(), Some(0));
}

/// A server whose own PostgreSQL has its data on a small disk.
struct ServerOnDisk {
    disk: SmallDisk,
    log: TempDir,
    /// The samples that were acknowledged, all of one user.
    acknowledged: i64,
}

impl ServerOnDisk {
    fn mount() -> Option<Self> {
        Some(Self {
            disk: SmallDisk::mount(CLUSTER_DISK)?,
            log: test_directory(),
            acknowledged: 0,
        })
    }

    async fn start(&self, http: &str) -> Server {
        let data = self.disk.path().join("data");
        // Longer than the test waits: the reason must come at once, not at the deadline.
        let arguments = ["--data-dir", data.to_str().unwrap(), "--ingest-deadline", "1h"];
        Server::start_at(http, &arguments, &self.log.path().join("server.log")).await
    }

    /// Posts one new sample. Returns the status and the text for the client.
    async fn post(&mut self, http: SocketAddr) -> (u16, String) {
        let (minute, second) = (self.acknowledged / 60, self.acknowledged % 60);
        let body = format!(r#"{{"user_id":1,"timestamp":"2025-03-02T00:{minute:02}:{second:02}Z","steps":1}}"#);
        let mut client = Client::connect(http).await.unwrap();
        let (status, response) = client.post("application/json", body.as_bytes()).await.unwrap();
        self.acknowledged += i64::from(status == 200);
        (status, response["detail"].as_str().unwrap_or_default().to_owned())
    }

    /// Fills the disk until PostgreSQL stops. The server must say why.
    async fn fill_until_postgres_stops(&mut self, http: SocketAddr) {
        self.disk.fill();
        let url = format!(
            "postgres://postgres@/health_db?host={}&port=5432",
            self.disk.path().join("data/run").display()
        );
        let (admin, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let stopped = async {
            loop {
                let _ = admin.batch_execute(END_SEGMENT).await;
                let (status, detail) = self.post(http).await;
                assert!([200, 503].contains(&status), "{status} {detail}");
                if detail.contains(STOPPED) {
                    break;
                }
            }
        };
        timeout(RECOVERY_TIMEOUT, stopped)
            .await
            .expect("PostgreSQL stops, and the server says so");
        let (status, response) = Client::connect(http).await.unwrap().get("/-/ready").await.unwrap();
        assert_eq!(status, 503);
        assert!(response["detail"].as_str().unwrap().contains(STOPPED), "{response}");
        let (status, response) = Client::connect(http).await.unwrap().get("/users").await.unwrap();
        assert_eq!(status, 503);
        assert!(response["detail"].as_str().unwrap().contains(STOPPED), "{response}");
    }

    /// Waits until the server stores a sample, and checks that nothing is lost.
    async fn recovers(&mut self, http: SocketAddr) {
        let stored = async { while self.post(http).await.0 != 200 {} };
        timeout(RECOVERY_TIMEOUT, stored).await.expect("a recovery in time");
        let (status, response) = Client::connect(http).await.unwrap().get("/users").await.unwrap();
        assert_eq!(
            (status, response["users"][0]["samples"].as_i64()),
            (200, Some(self.acknowledged))
        );
    }
}

/// What the responses say if PostgreSQL is down.
const STOPPED: &str = "PostgreSQL has stopped because its disk is full";

#[tokio::test]
async fn a_server_whose_own_postgresql_has_a_full_disk_stays_and_recovers_without_a_restart() {
    let Some(mut test) = ServerOnDisk::mount() else {
        return;
    };
    let server = test.start("127.0.0.1:0").await;
    let http = server.http();
    for _ in 0..2 {
        assert_eq!(test.post(http).await.0, 200);
        test.fill_until_postgres_stops(http).await;
        test.disk.make_space();
        test.recovers(http).await;
    }
    test.fill_until_postgres_stops(http).await;
    // An operator ends the server during a pause.
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_server_that_starts_on_a_full_disk_says_so_and_serves_as_soon_as_there_is_space() {
    let Some(mut test) = ServerOnDisk::mount() else {
        return;
    };
    let server = test.start("127.0.0.1:0").await;
    assert_eq!(test.post(server.http()).await.0, 200);
    assert_eq!(server.stop().await.code(), Some(0));
    test.disk.fill();

    // The program prints its address only when it serves.
    let port = ReservedPort::new();
    let http = port.address();
    let starting = async {
        let get = async |path| {
            let mut client = Client::connect(http).await?;
            client.get(path).await
        };
        let detail = loop {
            if let Ok((503, response)) = get("/-/ready").await {
                break response["detail"].as_str().unwrap().to_owned();
            }
        };
        assert!(detail.contains(STOPPED), "{detail}");
        assert_eq!(get("/-/healthy").await.unwrap().0, 200);
        test.disk.make_space();
    };
    let address = http.to_string();
    let (server, ()) = tokio::join!(test.start(&address), starting);
    test.recovers(http).await;
    assert_eq!(server.stop().await.code(), Some(0));
}
