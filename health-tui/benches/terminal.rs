//! Measures the binary in a terminal of 200x50 with 10 000 users and 10 000 samples a second.
//!
//! `cargo bench -p health-tui --bench terminal` prints each result next to its budget. The time of a single frame is
//! measured by `cargo test --release -p health-tui --lib budgets -- --nocapture`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its results, and a failure ends it"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fmt::Write as _,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use support::{server::FakeServer, terminal::Terminal, tui};

const USERS: usize = 10_000;
/// The samples that the dashboard keeps of each user.
const SAMPLES_A_USER: usize = 48;
const SAMPLES_A_SECOND: usize = 10_000;
/// The interval between two writes to the feed.
const TICK: Duration = Duration::from_millis(10);
const KEYS: usize = 400;
const BETWEEN_KEYS: Duration = Duration::from_millis(25);

/// Appends one line of the feed.
fn line(out: &mut String, number: usize, at: chrono::DateTime<chrono::Utc>) {
    let user = 1 + number % USERS;
    let (bpm, steps) = (60 + number * 7 % 90, number * 3 % 23);
    let at = at.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    // Writing to a String cannot fail.
    _ = writeln!(
        out,
        r#"{{"event":"sample","cursor":"c{number}","user_id":{user},"timestamp":"{at}","heart_rate":{bpm},"steps":{steps},"calories":0.{},"source":"watch"}}"#,
        number % 10
    );
}

/// Returns a value of `/proc/<pid>/status` in kB.
fn kilobytes(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Returns the CPU time of a process in seconds, user and system together.
fn cpu_seconds(pid: u32) -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS_A_SECOND
}

/// Returns the row of the screen with the cursor.
fn cursor_row(screen: &vt100::Screen) -> Option<u16> {
    (0..50).find(|y| screen.cell(*y, 0).is_some_and(|c| c.contents() == "▌"))
}

/// Moves the cursor. Returns the time until it has moved on the screen.
fn press(terminal: &mut Terminal, down: bool) -> Duration {
    let before = terminal.look(cursor_row);
    let began = Instant::now();
    terminal.send(if down { "j" } else { "k" });
    terminal.wait_until("the cursor moves", |s| cursor_row(s) != before);
    began.elapsed()
}

fn latencies(terminal: &mut Terminal) -> Vec<Duration> {
    let mut all: Vec<Duration> = (0..KEYS)
        .map(|i| {
            thread::sleep(BETWEEN_KEYS);
            press(terminal, i % 2 == 0)
        })
        .collect();
    all.sort_unstable();
    all
}

fn row(name: &str, result: &str, budget: &str) {
    println!("{name:<46} {result:>22}   {budget}");
}

fn milliseconds(all: &[Duration]) -> String {
    let at = |hundredths: usize| all[(all.len() * hundredths / 100).min(all.len() - 1)].as_secs_f64() * 1_000.0;
    format!("{:.1} / {:.1} / {:.1} ms", at(50), at(95), at(99))
}

fn main() {
    let server = FakeServer::start();
    let (url, feed) = (server.url(), server.feed.to_string());
    let mut terminal = Terminal::open(tui(&["--server", &url, "--feed", &feed, "--tz", "UTC"]), 200, 50);
    let pid = terminal.process_id();
    terminal.wait_for("connected");
    server.wait_for_command("SUBSCRIBE");
    let empty_kb = kilobytes(pid, "VmRSS");

    // Fills the rings of all users with samples that are eight seconds apart.
    let now = chrono::Utc::now();
    let mut number = 0;
    for sample in 0..SAMPLES_A_USER {
        let ago = chrono::TimeDelta::seconds(8 * i64::try_from(SAMPLES_A_USER - sample).unwrap());
        for _ in 0..10 {
            let mut lines = String::new();
            for _ in 0..USERS / 10 {
                line(&mut lines, number, now - ago);
                number += 1;
            }
            server.send_line(lines.trim_end());
        }
    }
    terminal.wait_for("10 000 users");
    let quiet = latencies(&mut terminal);

    let ended = AtomicBool::new(false);
    let (under_load, kb_a_second, cpu_share) = thread::scope(|scope| {
        scope.spawn(|| {
            let each = SAMPLES_A_SECOND / 100;
            let mut due = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                let mut lines = String::new();
                for _ in 0..each {
                    line(&mut lines, number, chrono::Utc::now());
                    number += 1;
                }
                server.send_line(lines.trim_end());
                due += TICK;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        // The first seconds are not measured.
        thread::sleep(Duration::from_secs(2));
        let (began, cpu_before, before) = (Instant::now(), cpu_seconds(pid), terminal.bytes_written());
        thread::sleep(Duration::from_secs(10));
        let seconds = began.elapsed().as_secs_f64();
        let bytes = terminal.bytes_written() - before;
        let cpu_share = (cpu_seconds(pid) - cpu_before) / seconds * 100.0;
        let under_load = latencies(&mut terminal);
        ended.store(true, Ordering::Relaxed);
        let kb = f64::from(u32::try_from(bytes).unwrap()) / seconds / 1_000.0;
        (under_load, kb, cpu_share)
    });
    let header = terminal.look(|s| s.contents().lines().next().unwrap_or("").to_owned());
    println!("the header at the end:{}", header.split("stats").nth(1).unwrap_or(""));
    row("measurement", "result", "budget");
    row("key to repaint without samples, p50/p95/p99", &milliseconds(&quiet), "");
    row(
        "key to repaint at 10 000 samples/s",
        &milliseconds(&under_load),
        "p99 below 16 ms",
    );
    row("to the terminal", &format!("{kb_a_second:.1} kB/s"), "at most 60 kB/s");
    row("CPU of the dashboard", &format!("{cpu_share:.0} % of one"), "");
    row(
        "memory without users",
        &format!("{:.1} MB", megabytes(empty_kb)),
        "at most 20 MB",
    );
    row(
        "memory with 10 000 users of 48 samples each",
        &format!("{:.1} MB", megabytes(kilobytes(pid, "VmRSS"))),
        "at most 20 MB and 1 kB a user: 30 MB",
    );
    row(
        "memory, maximum",
        &format!("{:.1} MB", megabytes(kilobytes(pid, "VmHWM"))),
        "",
    );
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

fn megabytes(kb: u64) -> f64 {
    f64::from(u32::try_from(kb).unwrap()) / 1_000.0
}
