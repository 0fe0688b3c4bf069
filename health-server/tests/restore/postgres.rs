//! A durable PostgreSQL that is stopped, copied and put back.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use health_core::embedded::{Cluster, Options};
use rustix::process::{Pid, kill_process};
use test_support::Signal;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

/// Longer than a recovery takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(3);

/// The pause between two questions whether something has happened in PostgreSQL.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// A PostgreSQL and its directory, which may also hold copies of its data.
pub(crate) struct Postgres {
    /// The directory of the test.
    directory: PathBuf,
    /// The data directory of the instance.
    instance: PathBuf,
    url: String,
    cluster: Option<Cluster>,
}

/// Adds another host, with the same port, to a URL. Connections go to the first host that accepts writes.
pub(crate) fn add_host(url: &str, socket_directory: &Path) -> String {
    let second = socket_directory.display().to_string().replace('/', "%2F");
    let hosts = url.replacen("&port", &format!(",{second}&port"), 1);
    format!("{hosts}&target_session_attrs=read-write")
}

impl Postgres {
    /// Starts PostgreSQL in the directory `name` of a test's directory, with settings.
    pub(crate) async fn start(directory: &Path, name: &str, settings: &[(&str, String)]) -> Self {
        let mut postgres = Self {
            directory: directory.to_owned(),
            instance: directory.join(name),
            url: String::new(),
            cluster: None,
        };
        postgres.restart(settings).await;
        postgres
    }

    /// Returns the URL of the server's database.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Starts PostgreSQL again.
    pub(crate) async fn restart(&mut self, settings: &[(&str, String)]) {
        // The test decides when PostgreSQL runs.
        let mut options = Options::new()
            .restart(false)
            .data_dir(&self.instance)
            // One call instead of one for each of a thousand files.
            .setting("recovery_init_sync_method", "syncfs");
        for (name, value) in settings {
            options = options.setting(*name, value);
        }
        let cluster = Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        self.url = cluster.url("health_db");
        self.cluster = Some(cluster);
    }

    /// Stops PostgreSQL in order.
    pub(crate) async fn stop(&mut self) {
        self.cluster.take().unwrap().stop().await.unwrap();
    }

    /// Ends PostgreSQL by a signal.
    pub(crate) async fn end(&mut self, signal: Signal) {
        let pid_file = fs::read_to_string(self.pgdata().join("postmaster.pid")).unwrap();
        let process = pid_file.lines().next().unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(process).unwrap(), signal).unwrap();
        let _how_it_ended = self.cluster.take().unwrap().ended().await;
    }

    /// Connects to the server's database.
    pub(crate) async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Copies the data. PostgreSQL must be stopped.
    pub(crate) fn copy_to(&self, name: &str) {
        copy(&self.pgdata(), &self.directory.join(name));
    }

    /// Replaces the data by a copy. PostgreSQL must be stopped.
    pub(crate) fn put_back(&self, name: &str) {
        fs::remove_dir_all(self.pgdata()).unwrap();
        copy(&self.directory.join(name), &self.pgdata());
    }

    /// Creates a directory in which PostgreSQL may write.
    pub(crate) fn create_directory(&self, name: &str) {
        let path = self.directory.join(name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).unwrap();
        let owner = fs::metadata(self.pgdata()).unwrap();
        chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    /// Creates one of the empty files that tell PostgreSQL how to start.
    pub(crate) fn create_signal_file(&self, name: &str) {
        fs::write(self.pgdata().join(name), "").unwrap();
    }

    /// Makes a base backup while PostgreSQL runs, by its functions: some packages of it have no `pg_basebackup`.
    pub(crate) async fn base_backup(&self, name: &str) {
        let target = self.directory.join(name);
        if let Some(parent) = target.parent().filter(|parent| *parent != self.directory) {
            self.create_directory(parent.file_name().unwrap().to_str().unwrap());
        }
        let client = self.connect().await;
        let version = "SELECT current_setting('server_version_num')::int";
        let version: i32 = client.query_one(version, &[]).await.unwrap().get(0);
        let (begin, end) = if version < 150_000 {
            ("pg_start_backup('test', true, false)", "pg_stop_backup(false, false)")
        } else {
            ("pg_backup_start('test', true)", "pg_backup_stop(false)")
        };
        client.batch_execute(&format!("SELECT {begin}")).await.unwrap();
        // A file may disappear meanwhile. PostgreSQL repairs the copy from the WAL.
        let _status = Command::new("cp")
            .arg("-a")
            .arg(self.pgdata())
            .arg(&target)
            .status()
            .unwrap();
        let label = format!("SELECT labelfile FROM {end}");
        let label: String = client.query_one(&label, &[]).await.unwrap().get(0);
        fs::remove_file(target.join("postmaster.pid")).unwrap();
        self.write_file(&target.join("backup_label"), &label);
    }

    /// Makes a base backup that becomes a standby of this instance.
    pub(crate) async fn base_backup_for_standby(&self, name: &str) {
        self.base_backup(name).await;
        let target = self.directory.join(name);
        let socket = self.instance.join("run");
        let settings = format!(
            "primary_conninfo = 'host={} port=5432 user=postgres'\n",
            socket.display()
        );
        self.write_file(&target.join("postgresql.auto.conf"), &settings);
        self.write_file(&target.join("standby.signal"), "");
    }

    /// Writes a file that PostgreSQL may read and change.
    fn write_file(&self, path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        let owner = fs::metadata(self.pgdata()).unwrap();
        chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    /// Ends the present segment of the WAL, and waits until it is in the archive.
    pub(crate) async fn archive_wal(&self) {
        let client = self.connect().await;
        let switch = "SELECT pg_walfile_name(pg_switch_wal())";
        let segment: String = client.query_one(switch, &[]).await.unwrap().get(0);
        let archived = "SELECT coalesce(last_archived_wal >= $1, false) FROM pg_stat_archiver";
        timeout(TIMEOUT, async {
            while !client.query_one(archived, &[&segment]).await.unwrap().get::<_, bool>(0) {
                sleep(POLL_PAUSE).await;
            }
        })
        .await
        .expect("the segment is archived in time");
    }

    /// Waits until the recovery has ended.
    pub(crate) async fn recovered(&self) {
        let client = self.connect().await;
        poll(&client, "SELECT NOT pg_is_in_recovery()").await;
    }

    /// Lets a standby receive everything that the primary has written so far, and nothing more.
    pub(crate) async fn stop_receiving_after(&self, primary: &Self) {
        let written = "SELECT pg_current_wal_lsn()::text";
        let written: String = primary.connect().await.query_one(written, &[]).await.unwrap().get(0);
        let client = self.connect().await;
        poll(
            &client,
            &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn"),
        )
        .await;
        client
            .batch_execute("ALTER SYSTEM SET primary_conninfo = ''")
            .await
            .unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        poll(&client, "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)").await;
    }

    fn pgdata(&self) -> PathBuf {
        self.instance.join("pgdata")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Ends PostgreSQL before the test's directory is removed.
        self.cluster = None;
    }
}

/// Asks until the answer is true.
async fn poll(client: &Client, question: &str) {
    let answer = async {
        while !client.query_one(question, &[]).await.unwrap().get::<_, bool>(0) {
            sleep(POLL_PAUSE).await;
        }
    };
    timeout(TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| panic!("{question}: never true"));
}

/// Copies a directory with its owners and modes.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}
