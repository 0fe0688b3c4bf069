//! The commands of docs/operate.md work as they are written.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use test_support::test_directory;

use crate::read;

/// Programs that the commands need, beside those of every Debian.
const PROGRAMS: [&str; 1] = ["curl"];

/// Returns the blocks of a page that are marked with `sh`, one after the other.
fn commands(page: &str) -> String {
    let blocks = page.split("\n```sh\n").skip(1);
    blocks
        .map(|block| block.split_once("\n```").expect("the block ends").0)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The script ends all processes that it has started, also if a command fails.
const AROUND: &str = "set -eu\ntrap 'status=$?; kill $(jobs -p) 2>/dev/null || true; wait; exit $status' EXIT\n";

#[test]
fn the_commands_of_the_page_for_operators_work_as_written() {
    for program in PROGRAMS {
        if Command::new(program).arg("--version").output().is_err() {
            println!("skipped: {program} is not installed");
            return;
        }
    }
    let home = test_directory();
    let (http, feed) = (free_port().to_string(), free_port().to_string());
    let script = commands(&read("docs/operate.md"))
        .replace("localhost:8000", &format!("localhost:{http}"))
        .replace("127.0.0.1:8000", &format!("127.0.0.1:{http}"));
    assert!(
        script.contains("backup --verify") && script.contains("token create"),
        "{script}"
    );
    let program = Path::new(env!("CARGO_BIN_EXE_health-server")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(program.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let output = Command::new("bash")
        .args(["-c", &format!("{AROUND}{script}")])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("PATH", path.unwrap())
        .env("HEALTH_HTTP", format!("127.0.0.1:{http}"))
        .env("HEALTH_FEED", format!("127.0.0.1:{feed}"))
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = fs::read_to_string(home.path().join("server.log")).unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}\n{log}");
    assert!(stdout.contains("equal those of the database"), "{stdout}");
    let users = stdout.matches("{\"users\":[{\"user_id\":101").count();
    assert_eq!(users, 2, "before the loss and after the restore: {stdout}");
}
