//! The soak for some seconds, with its own server: it survives kills, draws every chart and notices what is lost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, kill_process_group};
use test_support::{Signal, TestProcess, test_directory};
use tokio::{io::AsyncReadExt, process::Command};

const TITLES: [&str; 8] = [
    "Samples acknowledged",
    "Time to acknowledge a post",
    "Statistics of 24 hours",
    "Size in PostgreSQL",
    "Memory of a server",
    "Open descriptors of a server",
    "Sealing lag",
    "Dirty slices",
];

#[tokio::test]
async fn a_short_soak_survives_kills_and_draws_every_chart() {
    let directory = test_directory();
    let (svg, csv) = (directory.path().join("soak.svg"), directory.path().join("soak.csv"));
    let output = soak(directory.path())
        .args(["--for", "7s", "--kill-every", "2s", "--csv"])
        .arg(&csv)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}: {stdout}{stderr}", output.status);
    assert!(
        stdout.ends_with("nothing acknowledged was lost or doubled, and nothing erased came back\n"),
        "{stdout}"
    );
    assert!(!stdout.contains("\n0 samples"), "{stdout}");
    let svg = std::fs::read_to_string(svg).unwrap();
    for title in TITLES {
        assert!(svg.contains(title), "{title} in {svg}");
    }
    assert!(!svg.contains(r#"class="m0" d="""#), "a server was killed: {svg}");
    let csv = std::fs::read_to_string(csv).unwrap();
    // The fault, in quotation marks, may have commas of its own.
    let figures = csv.lines().filter_map(|line| line.split('"').next());
    let commas: Vec<usize> = figures.map(|figures| figures.matches(',').count()).collect();
    assert!(
        commas.len() > 1 && commas.iter().all(|count| *count == commas[0]),
        "{csv}"
    );
}

#[tokio::test]
async fn samples_that_are_lost_in_the_database_end_the_soak_with_status_1() {
    let directory = test_directory();
    let mut command = soak(directory.path());
    command
        .args(["--for", "1m", "--kill-every", "1h"])
        .stderr(Stdio::piped());
    let mut running = TestProcess::start(command);
    let url = running.line_after("database ").await;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // Several, because the soak may erase one of them itself before it looks. It may notice, and end its PostgreSQL,
    // meanwhile.
    let delete = "DELETE FROM health_metrics WHERE id = (SELECT min(id) FROM health_metrics)";
    let mut lost = 0;
    while lost < 20 {
        let Ok(deleted) = client.execute(delete, &[]).await else {
            break;
        };
        lost += deleted;
    }
    assert!(lost > 0, "nothing could be deleted");
    let mut stderr = running.child().stderr.take().unwrap();
    assert_eq!(running.wait().await.code(), Some(1));
    let mut message = String::new();
    stderr.read_to_string(&mut message).await.unwrap();
    // A writer compares a user, or sends the lost sample again.
    assert!(
        message.contains("expected") || message.contains("was answered with"),
        "{message}"
    );
}

#[tokio::test]
async fn a_signal_ends_the_writing_and_everything_is_compared() {
    let directory = test_directory();
    let mut command = soak(directory.path());
    // As at a terminal, where Ctrl-C reaches all processes of the group.
    command.args(["--for", "1h", "--kill-every", "1h"]).process_group(0);
    let mut running = TestProcess::start(command);
    running.line_after("database ").await;
    let group = i32::try_from(running.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    let work_directory = work_directory(&running);
    let output = running.rest_of_output().await;
    assert!(output.contains("nothing acknowledged was lost"), "{output}");
    assert_eq!(running.wait().await.code(), Some(0));
    assert!(!work_directory.exists());
}

#[tokio::test]
async fn a_second_signal_ends_the_soak_at_once_and_leaves_nothing_behind() {
    let directory = test_directory();
    let mut command = soak(directory.path());
    command
        .args(["--for", "1h", "--kill-every", "1h"])
        .stderr(Stdio::piped());
    let mut running = TestProcess::start(command);
    running.line_after("database ").await;
    let work_directory = work_directory(&running);
    assert!(work_directory.exists());
    running.signal(Signal::TERM);
    running.signal(Signal::INT);
    let output = running.rest_of_output().await;
    assert!(output.contains("samples acknowledged"), "{output}");
    assert!(!output.contains("nothing acknowledged was lost"), "{output}");
    let mut stderr = running.child().stderr.take().unwrap();
    assert_eq!(running.wait().await.code(), Some(1));
    let mut message = String::new();
    stderr.read_to_string(&mut message).await.unwrap();
    assert!(
        message.contains("interrupted before everything was compared"),
        "{message}"
    );
    assert!(!work_directory.exists());
}

/// Returns where a soak keeps its PostgreSQL.
fn work_directory(running: &TestProcess) -> PathBuf {
    env::temp_dir().join(format!("health-soak-bench-{}", running.id()))
}

/// Returns a command for the example, which `cargo test` builds next to the tests.
fn soak(directory: &Path) -> Command {
    let this_test = env::current_exe().unwrap();
    let program = this_test.ancestors().nth(2).unwrap().join("examples/soak");
    let mut command = Command::new(program);
    command
        .args([
            "--rate",
            "400",
            "--users",
            "20",
            "--writers",
            "4",
            "--measure-every",
            "1s",
            "--out",
        ])
        .arg(directory.join("soak.svg"))
        .kill_on_drop(true);
    command
}
