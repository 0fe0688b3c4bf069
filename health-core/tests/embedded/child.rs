//! A process with a cluster that a test can kill: this test program again, with a variable that says what to do.

use std::{
    io::{self, Read},
    path::Path,
};

use health_core::embedded::{Cluster, Options};
use test_support::TestProcess;
use tokio::process::Command;

/// The variable with the child's data directory. If it is empty, the child starts a throw-away cluster.
const DATA_DIR_VARIABLE: &str = "HEALTH_TEST_CHILD";

/// A process that runs a cluster. Dropping the value kills the process.
pub(crate) struct ClusterProcess(TestProcess);

impl ClusterProcess {
    pub(crate) fn start(data: &Path) -> ClusterProcess {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child::runs_a_cluster", "--nocapture"])
            .env(DATA_DIR_VARIABLE, data);
        ClusterProcess(TestProcess::start(command))
    }

    /// Waits until the process has just run the shell that runs PostgreSQL.
    pub(crate) async fn wait_until_spawned(&mut self) {
        self.0.line_after("starting PostgreSQL").await;
    }

    /// Waits until PostgreSQL answers. Returns the data directory and the URL.
    pub(crate) async fn wait_until_ready(&mut self) -> (String, String) {
        let line = self.0.line_after("READY ").await;
        let (data, url) = line.split_once('\t').unwrap();
        (data.to_owned(), url.to_owned())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Kills the process with SIGKILL, so that nothing in it gets to run.
    pub(crate) async fn kill(self) {
        self.0.kill().await;
    }
}

/// The code of the child process. As a test of its own, it starts and stops a throw-away cluster.
#[tokio::test]
async fn runs_a_cluster() {
    let data = std::env::var_os(DATA_DIR_VARIABLE);
    if data.is_some() {
        tracing_subscriber::fmt().with_writer(io::stdout).init();
    }
    let options = match &data {
        Some(data) if !data.is_empty() => Options::new().data_dir(data),
        _ => Options::throw_away(),
    };
    let cluster = Cluster::start(options).await.unwrap();
    if data.is_some() {
        println!("READY {}\t{}", cluster.data_dir().display(), cluster.url("postgres"));
        // The standard input ends when the parent ends.
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
    let directory = cluster.data_dir().to_owned();
    cluster.stop().await.unwrap();
    if data.is_none() {
        assert!(!directory.exists(), "a throw-away directory is removed");
    }
}
