//! The commands of the pages work as they are written.
//!
//! A test runs all shell blocks of a page in their order, in one shell, on ports and in a home directory of its own. A
//! block that a test cannot run is marked in the page, with the reason: see [`UseInTest`].

use std::{
    fmt::Write as _,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use test_support::{ReservedPort, TempDir, test_directory};

use crate::{
    blocks::{Block, UseInTest, blocks},
    fixtures, read,
};

/// The pages whose shell blocks are run.
const PAGES: [&str; 4] = ["README.md", "docs/import.md", "docs/operate.md", "docs/phones.md"];

/// What the commands need beside the programs of every Debian.
const PROGRAMS: [&str; 2] = ["bash", "curl"];

/// Ends all processes that the blocks have started, also if a command fails. Each job is a process group (`set -m`),
/// because some blocks start several processes. `cargo run` runs the program of this test.
const PRELUDE: &str = r#"
set -eum
trap 'status=$?; for job in $(jobs -p); do kill -- -$job 2>/dev/null || true; done; wait; exit $status' EXIT

cargo() {
    [ "$1 $2 $3" = 'run --release --bin' ]
    program=$4; shift 4
    "$program" "$@"
}

printed() { # FILE TEXT JOB
    until grep -qF -e "$2" "$1"; do
        kill -0 "$3" 2>/dev/null || { cat "$1"; echo "ended without printing $2"; return 1; }
        sleep 0.1
    done
}
"#;

/// The program as the pages call it. Its `check` also judges the disk of this machine: the commands of a page work as
/// well if that is nearly full.
const PROGRAM: &str = r#"#!/bin/sh
[ "$1" = check ] || exec PROGRAM "$@"
page=$(PROGRAM "$@") && status=0 || status=$?
printf '%s\n' "$page"
case $(printf '%s\n' "$page" | sed -n 's/^wrong  *\([^ ]*\).*/\1/p') in
    disk) ;;
    *) exit "$status" ;;
esac
"#;

/// Starts a server for a page that expects one to run.
const SERVER: &str = "health-server > listening 2> server.log &\nprinted listening 'listening http=' $!\n";

/// Creates the tokens in whose place docs/phones.md has an ellipsis.
const TOKENS: &str = "health-server token create --name test-reader --scope read > READER\n\
     health-server token create --name test-phone --scope ingest --users 101 > TOKEN\n";

/// The home directory and the ports of one page.
struct Place {
    home: TempDir,
    http: ReservedPort,
    feed: ReservedPort,
}

/// What the commands of a page printed.
struct Output {
    stdout: String,
    place: Place,
}

impl Place {
    fn new() -> Self {
        Self {
            home: test_directory(),
            http: ReservedPort::new(),
            feed: ReservedPort::new(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Returns the commands of a block with the ports and tokens of this place.
    fn commands(&self, block: &Block) -> String {
        let mut text = block.text.clone();
        for (default, port) in [("8000", &self.http), ("8001", &self.feed)] {
            let port = port.address().port();
            for host in ["localhost:", "127.0.0.1:", "localhost/"] {
                text = text.replace(&format!("{host}{default}"), &format!("{host}{port}"));
            }
        }
        for name in ["TOKEN", "READER"] {
            text = text.replace(&format!("{name}=health_…"), &format!("{name}=$(cat {name})"));
        }
        text
    }

    /// Runs the shell blocks of a page after `before`.
    fn run(self, page: &str, before: &str) -> Output {
        let mut script = format!("{PRELUDE}\n{before}");
        let blocks = blocks(&read(page));
        let shell = blocks.iter().filter(|block| block.language == "sh");
        for (index, block) in shell.enumerate() {
            let commands = self.commands(block);
            match &block.use_in_test {
                UseInTest::Runs | UseInTest::WithoutPackage => script += &commands,
                UseInTest::InBackground { until } => write!(
                    script,
                    "(\n{commands}) > block{index} 2>> block.log &\nprinted block{index} '{until}' $!\n"
                )
                .unwrap(),
                UseInTest::InPackage | UseInTest::NotRun => {}
            }
        }
        let output = self.command(&script).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let log = fs::read_to_string(self.file("server.log")).unwrap_or_default();
        assert!(output.status.success(), "{page}: {stdout}\n{stderr}\n{log}\n{script}");
        for answer in answers(&blocks) {
            assert!(stdout.contains(answer), "{page}: {answer} is not in {stdout}");
        }
        Output { stdout, place: self }
    }

    fn command(&self, script: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_health-server"));
        let (own, built) = (self.file(".programs"), program.parent().unwrap().to_owned());
        fs::create_dir(&own).unwrap();
        let wrapper = own.join("health-server");
        fs::write(
            &wrapper,
            PROGRAM.replace("PROGRAM", &format!("'{}'", program.display())),
        )
        .unwrap();
        fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths([own, built].into_iter().chain(std::env::split_paths(&path)));
        let mut command = Command::new("bash");
        command
            .args(["-c", script])
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .env("PATH", path.unwrap())
            .env("HEALTH_DATA_DIR", self.file("data"))
            .env("HEALTH_HTTP", self.http.address().to_string())
            .env("HEALTH_FEED", self.feed.address().to_string())
            .env("HEALTH_SERVER", format!("http://{}", self.http.address()))
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null());
        command
    }
}

/// Returns the answers of the server that a page shows after commands that were run.
fn answers(blocks: &[Block]) -> impl Iterator<Item = &str> {
    let pairs = blocks.iter().zip(blocks.iter().skip(1));
    pairs
        .filter(|(commands, answer)| {
            commands.language == "sh" && commands.use_in_test == UseInTest::Runs && answer.language == "json"
        })
        .map(|(_, answer)| answer.text.trim())
}

impl Output {
    /// Returns how many requests were answered with an error.
    fn problems(&self) -> usize {
        self.stdout.matches("\"status\":").count()
    }
}

/// Returns whether the programs are missing that the commands need.
fn is_skipped() -> bool {
    let missing = PROGRAMS
        .iter()
        .find(|program| Command::new(program).arg("--version").output().is_err());
    if let Some(program) = missing {
        println!("skipped: {program} is not installed");
    }
    missing.is_some()
}

#[test]
fn the_commands_of_the_page_for_operators_work_as_written() {
    if is_skipped() {
        return;
    }
    let output = Place::new().run("docs/operate.md", "");
    let stdout = &output.stdout;
    assert!(stdout.contains("equal those of the database"), "{stdout}");
    let users = stdout.matches("{\"users\":[{\"user_id\":101").count();
    assert_eq!(users, 2, "before the loss and after the restore: {stdout}");
}

#[test]
fn the_commands_of_the_readme_work_as_written() {
    if is_skipped() {
        return;
    }
    let place = Place::new();
    fixtures::write(place.home.path());
    let output = place.run("README.md", "");
    let stdout = &output.stdout;
    assert_eq!(
        output.problems(),
        1,
        "the invalid record that the page announces: {stdout}"
    );
    for part in [
        "\"time_weighted_heart_rate\"",
        "\"buckets\"",
        "\"percentiles\"",
        "user_id,timestamp",
        "\"erased\":1",
    ] {
        assert!(stdout.contains(part), "{part} is not in {stdout}");
    }
    let cursor = fs::read_to_string(output.place.file("cursor")).unwrap();
    assert!(cursor.contains('.'), "the loop with curl keeps the cursor: {cursor}");
}

#[test]
fn the_commands_of_the_page_about_imports_work_as_written() {
    if is_skipped() {
        return;
    }
    let place = Place::new();
    fixtures::write(place.home.path());
    let output = place.run("docs/import.md", SERVER);
    assert_eq!(output.problems(), 0, "{}", output.stdout);
    assert!(output.stdout.contains("\"samples\":"), "{}", output.stdout);
}

#[test]
fn the_commands_of_the_page_about_phones_work_as_written() {
    if is_skipped() {
        return;
    }
    let output = Place::new().run("docs/phones.md", &[TOKENS, SERVER].concat());
    assert_eq!(output.problems(), 0, "{}", output.stdout);
    assert!(output.stdout.contains("\"samples\":"), "{}", output.stdout);
}

#[test]
fn every_block_with_commands_is_a_shell_block() {
    let starts = [
        "health-server ",
        "health-tui",
        "curl ",
        "cargo ",
        "docker ",
        "systemctl ",
        "apt-get ",
        "openssl ",
    ];
    for page in PAGES {
        for block in blocks(&read(page)).iter().filter(|block| block.language != "sh") {
            assert_eq!(block.use_in_test, UseInTest::Runs, "{page}: a mark for {block:?}");
            let command = block
                .text
                .lines()
                .find(|line| starts.iter().any(|start| line.starts_with(start)));
            assert_eq!(
                command, None,
                "{page}: no test runs a block of the language {:?}",
                block.language
            );
        }
    }
}

#[test]
fn the_script_that_tests_the_package_knows_its_mark() {
    assert!(read("script/test-package").contains("<!-- run by script/test-package -->"));
}
