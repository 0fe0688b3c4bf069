//! Programs that tests run in processes of their own.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// The longest time to wait for a line of output or for the end of a process. A start takes seconds at most, but the
/// machine may be busy with other tests, and a new cluster waits for the disk. Longer than a server waits for its own
/// PostgreSQL, so that the reason of the server comes first.
const TIMEOUT: Duration = Duration::from_mins(5);

/// A program that a test runs in a process of its own. Dropping the value kills the process with SIGKILL.
///
/// The standard input of the process stays open as long as this value lives. A program that ends when its
/// standard input ends therefore never outlives a test process that is killed.
///
/// ```no_run
/// use test_support::TestProcess;
/// use tokio::process::Command;
///
/// # async fn example() {
/// let mut command = Command::new("health-server");
/// command.args(["--http", "127.0.0.1:0", "--feed", "127.0.0.1:0"]);
/// let mut server = TestProcess::start(command);
/// let addresses = server.listening().await;
/// println!("HTTP is at {}", addresses.http);
/// assert!(server.stop().await.success());
/// # }
/// ```
#[derive(Debug)]
pub struct TestProcess {
    child: Child,
    // Kept until the process ends: writing to a pipe without a reader could end the process.
    stdout: BufReader<ChildStdout>,
}

/// The addresses of a server, read from its `listening` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The address of the HTTP server.
    pub http: SocketAddr,
    /// The address of the TCP feed.
    pub feed: SocketAddr,
}

impl TestProcess {
    /// Starts a command. Its standard input and output are pipes; all other settings are the caller's.
    ///
    /// Must be called on a Tokio runtime.
    ///
    /// # Panics
    ///
    /// If the program cannot be run.
    pub fn start(mut command: Command) -> TestProcess {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let stdout = child.stdout.take().expect("standard output is a pipe");
        TestProcess {
            child,
            stdout: BufReader::new(stdout),
        }
    }

    /// Starts the program `health-server` and waits until it serves. `http` is its address for HTTP, and the port of
    /// the feed is free. `DATABASE_URL` of this process is not passed on.
    ///
    /// # Panics
    ///
    /// Those of [`start`](Self::start) and [`listening`](Self::listening).
    pub async fn health_server(
        program: &str,
        http: &str,
        arguments: &[&str],
        log: impl Into<Stdio>,
    ) -> (TestProcess, Addresses) {
        let mut command = Command::new(program);
        command
            .args(["--http", http, "--feed", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("DATABASE_URL")
            .stderr(log);
        let mut process = TestProcess::start(command);
        let addresses = process.listening().await;
        (process, addresses)
    }

    /// Waits until the process prints `listening http=http://… feed=…` (or `https`), and returns both addresses.
    ///
    /// # Panics
    ///
    /// If the process ends without that line, or the line does not come within 5 minutes.
    pub async fn listening(&mut self) -> Addresses {
        let rest = self.line_after("listening http=").await;
        let addresses = rest.split_once(" feed=").and_then(|(http, feed)| {
            let (_, http) = http.split_once("://")?;
            Some(Addresses {
                http: http.parse().ok()?,
                feed: feed.parse().ok()?,
            })
        });
        addresses.unwrap_or_else(|| panic!("no addresses in {rest:?}"))
    }

    /// Waits for an output line that contains `marker`, and returns what comes after the marker.
    ///
    /// The marker need not begin the line: a test program prints the name of its test in front.
    ///
    /// # Panics
    ///
    /// If the process ends without such a line, or the line does not come within 5 minutes.
    pub async fn line_after(&mut self, marker: &str) -> String {
        let search = async {
            let mut line = String::new();
            loop {
                line.clear();
                let bytes = self.stdout.read_line(&mut line).await.expect("the output is text");
                assert_ne!(bytes, 0, "the process ended without printing {marker:?}");
                if let Some((_, rest)) = line.split_once(marker) {
                    return rest.trim_end().to_owned();
                }
            }
        };
        let found = timeout(TIMEOUT, search).await;
        found.unwrap_or_else(|_| panic!("no line with {marker:?} within {TIMEOUT:?}"))
    }

    /// Reads the rest of the standard output, until the process closes it.
    ///
    /// # Panics
    ///
    /// If the process does not close it within 5 minutes.
    pub async fn rest_of_output(&mut self) -> String {
        let mut text = String::new();
        let read = timeout(TIMEOUT, self.stdout.read_to_string(&mut text)).await;
        read.expect("the output ends in time").expect("the output is text");
        text
    }

    /// Returns the process id.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn id(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    /// Returns the child process, for instance to take its standard error.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), signal).expect("the process runs");
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    ///
    /// If it does not end within 5 minutes.
    pub async fn wait(&mut self) -> ExitStatus {
        // `Child::wait` would close the standard input, which some programs take as the order to end.
        let stdin = self.child.stdin.take();
        let ended = timeout(TIMEOUT, self.child.wait()).await;
        self.child.stdin = stdin;
        ended.expect("an end in time").expect("the status of a child process")
    }

    /// Ends the process with SIGTERM, and waits for its end.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait().await
    }

    /// Ends the process with SIGKILL, so that nothing in it gets to run, and waits for its end.
    pub async fn kill(mut self) {
        self.child.start_kill().expect("the process runs");
        self.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn shell(script: &str) -> TestProcess {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        TestProcess::start(command)
    }

    #[tokio::test]
    async fn the_addresses_are_read_from_the_listening_line() {
        let script = "echo first; echo 'test x ... listening http=http://127.0.0.1:8000 feed=[::1]:8001'; echo last";
        let mut process = shell(script);
        let expected = Addresses {
            http: "127.0.0.1:8000".parse().unwrap(),
            feed: "[::1]:8001".parse().unwrap(),
        };
        assert_eq!(process.listening().await, expected);
        assert_eq!(process.rest_of_output().await, "last\n");
        assert!(process.wait().await.success());
    }

    #[tokio::test]
    async fn the_standard_input_stays_open_until_the_process_is_ended() {
        let mut process = shell("trap 'exit 7' TERM; echo ready; read line; exit 1");
        process.line_after("ready").await;
        assert_eq!(process.stop().await.code(), Some(7));
        let mut process = shell("echo ready; cat");
        process.line_after("ready").await;
        process.signal(Signal::KILL);
        assert_eq!(process.wait().await.signal(), Some(9));
    }

    #[tokio::test]
    #[should_panic(expected = "the process ended without printing \"never\"")]
    async fn a_process_that_ends_too_early_is_reported() {
        shell("echo something else").line_after("never").await;
    }
}
