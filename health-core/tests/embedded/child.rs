//! A process that can be killed: this test binary once more, told by a variable to keep a cluster.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
};

use health_core::embedded::{Cluster, Options};

/// Where the child keeps its cluster; a throw-away one where this is empty.
const DIRECTORY: &str = "HEALTH_TEST_CHILD";

/// A process with a cluster. Dropping it kills it.
pub(crate) struct Keeper {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Keeper {
    pub(crate) fn start(data: &Path) -> Keeper {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::keeps_a_cluster", "--nocapture"])
            .env(DIRECTORY, data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Keeper { child, output }
    }

    /// The data directory and the URL, as soon as PostgreSQL answers.
    pub(crate) fn wait_until_ready(&mut self) -> (String, String) {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the child has ended");
            // The harness writes the test's name without an end of line in front.
            if let Some((_, ready)) = line.split_once("READY ") {
                let (data, url) = ready.trim_end().split_once('\t').unwrap();
                return (data.to_owned(), url.to_owned());
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing in the child gets to run.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side. On its own, without the variable, it starts and stops a throw-away cluster.
#[tokio::test]
async fn keeps_a_cluster() {
    let data = std::env::var_os(DIRECTORY);
    let options = match &data {
        Some(data) if !data.is_empty() => Options::new().data_dir(data),
        _ => Options::throw_away(),
    };
    let cluster = Cluster::start(options).await.unwrap();
    if data.is_some() {
        println!("READY {}\t{}", cluster.data_dir().display(), cluster.url("postgres"));
        // Until the parent has ended, too.
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
    let directory = cluster.data_dir().to_owned();
    cluster.stop().await.unwrap();
    if data.is_none() {
        assert!(!directory.exists(), "a throw-away directory is removed");
    }
}
