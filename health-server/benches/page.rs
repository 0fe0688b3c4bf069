//! Measures the page in Chromium while it shows a running server: the time to the pixel, CPU time and memory.
//!
//! `cargo bench -p health-server --bench page -- --server http://127.0.0.1:8000` stores samples of one user at that
//! server. Let `simulate` send what the page has to show beside them. The time to the pixel begins when the answer to a
//! stored sample has arrived, and ends when the browser has painted the sample's number. Only Linux tells CPU time and
//! memory.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its results, and a failure ends it"
)]

#[path = "../tests/browser/chromium.rs"]
mod chromium;
#[path = "../tests/browser/tab.rs"]
#[expect(dead_code, reason = "the tests press more keys")]
mod tab;

use std::{
    collections::HashMap,
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::{chromium::Browser, tab::Tab};

/// Measures the page of a running server in Chromium.
#[derive(Parser)]
struct Args {
    /// The server, without TLS and tokens
    #[arg(long, value_name = "URL")]
    server: String,
    /// How many samples are stored to measure the time to the pixel
    #[arg(long, value_name = "N", default_value_t = 100)]
    samples: u32,
    /// For how long CPU time is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    seconds: u32,
    /// The user of the stored samples
    #[arg(long, value_name = "ID", default_value_t = 9_000_000_001)]
    user: u64,
    /// `cargo bench` passes it
    #[arg(long, hide = true)]
    bench: bool,
}

/// Keeps when each number of the user's tile was painted. A message is delivered after the frame in which it was sent.
const RECORD_PAINTS: &str = "window.paints = []; \
    const channel = new MessageChannel(); \
    channel.port1.onmessage = ({ data }) => paints.push([data, performance.timeOrigin + performance.now()]); \
    const number = document.querySelector('.tile .rate b'); \
    new MutationObserver(() => channel.port2.postMessage(number.textContent)) \
        .observe(number, { subtree: true, characterData: true, childList: true });";

/// The pause between two samples, in milliseconds: longer than any interval that the page asks for up to 1000 users,
/// and never in step with the frames of the browser.
const PAUSE: std::ops::Range<u64> = 350..650;

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let browser = Browser::start("UTC").unwrap();
    let address = args.server.trim_end_matches('/').to_owned();
    let mut server = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    store(&mut server, args.user, 60).await;
    let tab = browser.tab().await;
    tab.open(&format!("{address}/")).await;
    tab.wait_for_text("#connection", "Connected").await;
    tab.focus("#find").await;
    tab.type_text(&args.user.to_string()).await;
    tab.wait_for_text(".tile", &args.user.to_string()).await;
    // The server closes a connection that was idle while the page loaded.
    server = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    print_times(&time_to_pixel(&tab, &mut server, &args).await);
    // All tiles, as a person would leave the page.
    tab.press("Escape").await;
    sleep(Duration::from_secs(2)).await;
    print_costs(&tab, args.seconds).await;
    browser.close().await;
}

/// Stores one sample of now. Returns when the answer had arrived, in milliseconds of Unix time.
async fn store(server: &mut TcpStream, user: u64, bpm: u32) -> f64 {
    let body = json!({"user_id": user, "heart_rate": bpm, "source": "bench"}).to_string();
    let head = "POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length:";
    let request = format!("{head} {}\r\n\r\n{body}", body.len());
    server.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(
            server.read_buf(&mut answer).await.unwrap() > 0,
            "the server has closed the connection"
        );
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    now.as_secs_f64() * 1e3
}

/// Returns the times from the answer to the painted number, in milliseconds, from the shortest.
async fn time_to_pixel(tab: &Tab, server: &mut TcpStream, args: &Args) -> Vec<f64> {
    tab.eval(&format!("{{ {RECORD_PAINTS} }}")).await;
    let mut answered = Vec::new();
    for number in 0..args.samples {
        let bpm = 61 + number % 80;
        answered.push(store(server, args.user, bpm).await);
        tab.wait_for(&format!("window.paints.length > {number}")).await;
        sleep(Duration::from_millis(fastrand::u64(PAUSE))).await;
    }
    let paints: Vec<(String, f64)> = serde_json::from_value(tab.eval("window.paints").await).unwrap();
    let mut times: Vec<f64> = answered
        .iter()
        .zip(paints)
        .map(|(at, (_, painted))| painted - at)
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

fn print_times(times: &[f64]) {
    let quantile = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "from the answer to the pixel: p50 {:.1}, p90 {:.1}, p99 {:.1}, longest {:.1} ms",
        quantile(50),
        quantile(90),
        quantile(99),
        quantile(100)
    );
}

/// Measures what the processes of the browser use while the tab shows all users.
async fn print_costs(tab: &Tab, seconds: u32) {
    let before = cpu_ticks();
    sleep(Duration::from_secs(seconds.into())).await;
    let after = cpu_ticks();
    let used = |id: &u32| {
        after
            .get(id)
            .map_or(0.0, |ticks| ticks - before.get(id).unwrap_or(&0.0))
    };
    // The system counts 100 ticks a second, so this is the share of one core in percent.
    let share = |ticks: f64| ticks / f64::from(seconds);
    let tab_process = after
        .keys()
        .filter(|id| is_renderer(**id))
        .max_by(|a, b| used(a).total_cmp(&used(b)));
    if let Some(id) = tab_process {
        let all: f64 = after.keys().map(used).sum();
        println!(
            "CPU of the tab: {:.1} %, of all processes of the browser: {:.1} %",
            share(used(id)),
            share(all)
        );
        println!("memory of the tab (its share, PSS): {:.0} MiB", pss_mib(*id));
    }
    let heap = tab.eval("performance.memory.usedJSHeapSize / 1048576").await;
    println!("heap of JavaScript: {:.0} MiB", heap.as_f64().unwrap_or_default());
    println!("tiles: {}", tab.eval("document.querySelectorAll('.tile').length").await);
    println!("{}", tab.text("#live-summary").await);
}

/// Returns the CPU time of each process below this one, by its id.
fn cpu_ticks() -> HashMap<u32, f64> {
    let mut parents = HashMap::new();
    let mut ticks = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // After the name: the state, the parent, …, and as numbers 12 and 13 user and system time (proc(5)).
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        parents.insert(id, fields[1].parse().unwrap_or(0));
        ticks.insert(
            id,
            fields[11].parse::<f64>().unwrap_or(0.0) + fields[12].parse::<f64>().unwrap_or(0.0),
        );
    }
    let is_ours = |id: u32| {
        let ancestors = std::iter::successors(parents.get(&id).copied(), |parent| parents.get(parent).copied());
        ancestors.take(32).any(|ancestor| ancestor == std::process::id())
    };
    ticks.retain(|id, _| is_ours(*id));
    ticks
}

fn is_renderer(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains("--type=renderer"))
}

/// Returns the memory of a process, of which it counts only its share if others use it too.
fn pss_mib(id: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|value| value.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
