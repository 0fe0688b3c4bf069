//! A browser for one test, and a client of its `DevTools` protocol: JSON, each message ended by a zero byte, over two
//! pipes.

use std::{
    collections::HashMap,
    env,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use test_support::{TempDir, test_directory};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

use crate::tab::Tab;

/// Longer than the browser takes for anything, also on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(4);

/// The names of the program, by system.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// The shell makes the pipes of its standard streams the file descriptors 3 and 4, over which the browser expects
/// commands and sends answers. A Rust program could do this only with `unsafe`.
const START: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >&2"#;

/// Without a window and without requests of its own to the network. The sandbox does not work for root and in most
/// containers; the browser shows nothing but our page.
const OPTIONS: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-breakpad",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--lang=en-GB",
];

/// A running browser with a profile of its own.
pub(crate) struct Browser {
    link: Arc<Link>,
    child: Child,
    _profile: TempDir,
}

/// The connection to a browser.
pub(crate) struct Link {
    input: Mutex<ChildStdin>,
    next_id: AtomicU64,
    waiting: parking_lot::Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    /// Where the events of each session go.
    sessions: parking_lot::Mutex<HashMap<String, mpsc::UnboundedSender<Value>>>,
}

impl Browser {
    /// Starts a browser in a time zone. Returns `None` if there is none on this machine.
    pub(crate) fn start(zone: &str) -> Option<Self> {
        let Some(program) = program() else {
            println!("skipped: chromium is not installed");
            return None;
        };
        let profile = test_directory();
        let mut child = Command::new("sh")
            .args(["-c", START])
            .arg(program)
            .args(OPTIONS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("TZ", zone)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let link = Arc::new(Link {
            input: Mutex::new(child.stdin.take().unwrap()),
            next_id: AtomicU64::new(1),
            waiting: parking_lot::Mutex::default(),
            sessions: parking_lot::Mutex::default(),
        });
        tokio::spawn(Arc::clone(&link).read(child.stdout.take().unwrap()));
        Some(Self {
            link,
            child,
            _profile: profile,
        })
    }

    /// Opens a tab.
    pub(crate) async fn tab(&self) -> Tab {
        let target = self
            .link
            .call("", "Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let parameters = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.link.call("", "Target.attachToTarget", parameters).await;
        let session = session["sessionId"].as_str().unwrap().to_owned();
        let (sender, events) = mpsc::unbounded_channel();
        self.link.sessions.lock().insert(session.clone(), sender);
        Tab::new(Arc::clone(&self.link), session, events).await
    }

    /// Ends the browser, so that its profile can be removed.
    pub(crate) async fn close(mut self) {
        self.link.call("", "Browser.close", json!({})).await;
        timeout(TIMEOUT, self.child.wait()).await.unwrap().unwrap();
    }
}

impl Link {
    /// Sends a command to a session, or to the browser itself, and returns the result.
    pub(crate) async fn call(&self, session: &str, method: &str, parameters: Value) -> Value {
        let result = self.try_call(session, method, parameters).await;
        result.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Does the same with a command that may fail. Returns the error of the browser.
    pub(crate) async fn try_call(&self, session: &str, method: &str, parameters: Value) -> Result<Value, Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut command = json!({"id": id, "method": method, "params": parameters});
        if !session.is_empty() {
            command["sessionId"] = session.into();
        }
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.input.lock().await.write_all(&bytes).await.unwrap();
        let answer = timeout(TIMEOUT, answer)
            .await
            .expect("an answer in time")
            .expect("an answer");
        if answer["error"].is_null() {
            Ok(answer["result"].clone())
        } else {
            Err(answer["error"].clone())
        }
    }

    /// Reads answers and events until the browser ends.
    async fn read(self: Arc<Self>, output: ChildStdout) {
        let mut output = BufReader::new(output);
        let mut message = Vec::new();
        while output.read_until(0, &mut message).await.is_ok_and(|length| length > 0) {
            message.pop();
            let value: Value = serde_json::from_slice(&message).unwrap();
            message.clear();
            if let Some(id) = value["id"].as_u64() {
                if let Some(sender) = self.waiting.lock().remove(&id) {
                    // The test may have ended.
                    let _ = sender.send(value);
                }
            } else if let Some(sender) = value["sessionId"]
                .as_str()
                .and_then(|id| self.sessions.lock().get(id).cloned())
            {
                let _ = sender.send(value);
            }
        }
        self.waiting.lock().clear();
    }
}

fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let directories: Vec<_> = env::split_paths(&path).collect();
    let mut candidates = NAMES
        .iter()
        .flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    candidates.find(|candidate| candidate.is_file())
}
