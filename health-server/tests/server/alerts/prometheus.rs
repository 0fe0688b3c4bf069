//! A Prometheus that watches servers with the rules of `ops/prometheus/alerts.yml`.

use std::{fs, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use test_support::{TempDir, TestProcess, test_directory};
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
    time::{sleep, timeout},
};

use crate::client::HttpConnection;

/// Longer than an alert takes on a busy machine, so that one that does not fire fails its test.
const TIMEOUT: Duration = Duration::from_mins(10);

/// How often the tests ask Prometheus, which cannot tell them by itself.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// How often Prometheus scrapes and evaluates.
const INTERVAL: &str = "500ms";

/// How long a fault must last, in place of the minutes of the rules: several scrapes.
const SHORT_FOR: &str = "for: 1s";

/// How often another port is tried if another program takes a free one first.
const STARTS_MAX: u32 = 5;

const RULES: &str = include_str!("../../../../ops/prometheus/alerts.yml");

/// A Prometheus for one test.
pub(super) struct Prometheus {
    address: SocketAddr,
    process: TestProcess,
    _directory: TempDir,
}

/// A server that is scraped.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) http: SocketAddr,
    pub(super) token: Option<String>,
    /// The certificate of the authority, if the server speaks TLS.
    pub(super) authority: Option<PathBuf>,
}

impl From<SocketAddr> for Target {
    fn from(http: SocketAddr) -> Self {
        Self {
            http,
            token: None,
            authority: None,
        }
    }
}

impl Target {
    fn scrape_config(&self) -> Value {
        let mut config = json!({
            "job_name": self.http.to_string(),
            "metrics_path": "/-/metrics",
            // The rules select the job by its name.
            "static_configs": [{"targets": [self.http.to_string()], "labels": {"job": "health"}}],
        });
        if let Some(token) = &self.token {
            config["authorization"] = json!({"credentials": token});
        }
        if let Some(authority) = &self.authority {
            config["scheme"] = "https".into();
            config["tls_config"] = json!({"ca_file": authority});
        }
        config
    }
}

/// Returns the names of all alerts.
pub(super) fn names_of_alerts() -> Vec<&'static str> {
    RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect()
}

/// Returns the rules with a short time that a fault must last.
fn hasty_rules() -> String {
    let hasty = |line: &str| match line.trim_start() {
        text if text.starts_with("for: ") => format!("        {SHORT_FOR}\n"),
        _ => format!("{line}\n"),
    };
    let rules: String = RULES.lines().map(hasty).collect();
    assert_eq!(rules.matches(SHORT_FOR).count(), names_of_alerts().len());
    rules
}

impl Prometheus {
    /// Watches servers, and waits until no alert is active. Returns `None` if Prometheus is not installed.
    pub(super) async fn watch(targets: impl IntoIterator<Item = Target>) -> Option<Self> {
        if Command::new("prometheus").arg("--version").output().await.is_err() {
            println!("skipped: prometheus is not installed");
            return None;
        }
        let targets: Vec<Target> = targets.into_iter().collect();
        let directory = test_directory();
        let config = json!({
            "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": ["alerts.yml"],
            "scrape_configs": targets.iter().map(Target::scrape_config).collect::<Vec<_>>(),
        });
        fs::write(directory.path().join("prometheus.yml"), config.to_string()).unwrap();
        fs::write(directory.path().join("alerts.yml"), hasty_rules()).unwrap();
        let (address, process) = start(&directory).await;
        let prometheus = Self {
            address,
            process,
            _directory: directory,
        };
        for target in &targets {
            prometheus.reaches("sum_over_time(up[1h])", 4.0, target.http).await;
        }
        let is_quiet = || async { prometheus.alerts().await.is_empty() };
        prometheus.until("no alert of a healthy server", is_quiet).await;
        Some(prometheus)
    }

    /// Waits until an alert of a server fires.
    pub(super) async fn fires(&self, alert: &str, server: SocketAddr) {
        let fires = || async { self.state(alert, server).await.as_deref() == Some("firing") };
        self.until(&format!("{alert} of {server} to fire"), fires).await;
    }

    /// Waits until an alert of a server has ended.
    pub(super) async fn ends(&self, alert: &str, server: SocketAddr) {
        let has_ended = || async { self.state(alert, server).await.is_none() };
        self.until(&format!("the end of {alert} of {server}"), has_ended).await;
    }

    /// Waits until the value of an expression for a server is at least this number.
    pub(super) async fn reaches(&self, expression: &str, minimum: f64, server: SocketAddr) {
        let is_reached = || async { self.value(expression, server).await >= Some(minimum) };
        self.until(&format!("{minimum} of {expression}"), is_reached).await;
    }

    /// Returns the value of an expression for a server, if it has one.
    async fn value(&self, expression: &str, server: SocketAddr) -> Option<f64> {
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let answer = self.get(&format!("/api/v1/query?query={query}")).await;
        let found = of_server(&answer["data"]["result"], "metric", server).next()?;
        found["value"][1].as_str()?.parse().ok()
    }

    pub(super) async fn stop(self) {
        self.process.kill().await;
    }

    async fn state(&self, alert: &str, server: SocketAddr) -> Option<String> {
        let alerts = self.alerts().await.into();
        let mut of_server = of_server(&alerts, "labels", server);
        let found = of_server.find(|found| found["labels"]["alertname"] == alert)?;
        found["state"].as_str().map(str::to_owned)
    }

    /// Returns all alerts that fire or are about to.
    async fn alerts(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/alerts").await;
        answer["data"]["alerts"].as_array().expect("a list of alerts").clone()
    }

    async fn get(&self, path: &str) -> Value {
        let mut http = HttpConnection::connect(self.address).await;
        let response = http.request("GET", path, &[], b"").await;
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    async fn until<F: Future<Output = bool>>(&self, what: &str, is_done: impl Fn() -> F) {
        let wait = async {
            while !is_done().await {
                sleep(POLL_EVERY).await;
            }
        };
        let came = timeout(TIMEOUT, wait).await.is_ok();
        assert!(came, "waited in vain for {what}: {:#?}", self.alerts().await);
    }
}

/// Returns the elements of a list whose labels name a server.
fn of_server<'a>(list: &'a Value, labels: &'a str, server: SocketAddr) -> impl Iterator<Item = &'a Value> {
    let instance = server.to_string();
    let list = list.as_array().into_iter().flatten();
    list.filter(move |element| element[labels]["instance"] == instance.as_str())
}

/// Starts Prometheus on a free port, and waits until it answers.
async fn start(directory: &TempDir) -> (SocketAddr, TestProcess) {
    for _ in 0..STARTS_MAX {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        // Prometheus ends with the test process, also if that is killed.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "prometheus", "--config.file=prometheus.yml"])
            .args(["--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(directory.path())
            .stderr(Stdio::null());
        let mut process = TestProcess::start(command);
        let answers = async {
            while process.child().try_wait().unwrap().is_none() {
                // It listens before it is ready.
                if TcpStream::connect(address).await.is_ok() && is_ready(address).await {
                    return true;
                }
                sleep(POLL_EVERY).await;
            }
            false
        };
        if timeout(TIMEOUT, answers).await.expect("a start in time") {
            return (address, process);
        }
    }
    panic!("Prometheus does not start with {}", directory.path().display());
}

async fn is_ready(address: SocketAddr) -> bool {
    let mut http = HttpConnection::connect(address).await;
    http.request("GET", "/-/ready", &[], b"").await.status == 200
}
