//! A fake server that a test controls.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use test_support::ReservedPort;

use super::TIMEOUT;

/// The time between two heartbeats, as of a real server. A client gives a silent connection up.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The feed and the HTTP API of a server, with made-up data. Each connection has a thread.
pub(crate) struct FakeServer {
    pub(crate) http: SocketAddr,
    pub(crate) feed: SocketAddr,
    ports: Arc<Ports>,
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// The ports of a server. No other program gets them while it is down.
#[derive(Default)]
pub(crate) struct Ports {
    http: ReservedPort,
    feed: ReservedPort,
}

#[derive(Default)]
struct Shared {
    state: Mutex<ServerState>,
    changed: Condvar,
    ended: AtomicBool,
}

/// What the feed sends to a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Greeting {
    #[default]
    Hello,
    /// Another protocol.
    Garbage,
    /// A line that never ends.
    Endless,
    /// Nothing: it closes the connection.
    Closed,
    /// `hello`, and then lines that are not events.
    Nonsense,
}

/// How the HTTP API answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HttpBehaviour {
    #[default]
    Normal,
    /// A 500 with a page that is not from a health-server.
    Broken,
    /// It closes the connection without an answer.
    Closed,
    /// It sends bytes that are not HTTP.
    Garbage,
    /// A 200 with a page that is not JSON.
    Unreadable,
    /// It never answers.
    Silent,
}

#[derive(Default)]
struct ServerState {
    greeting: Greeting,
    http_behaviour: HttpBehaviour,
    /// The commands that clients of the feed have sent.
    commands: Vec<String>,
    /// The paths of the HTTP requests.
    requests: Vec<String>,
    /// The subscribed connections.
    feeds: Vec<TcpStream>,
    /// The cursor of the last sample.
    cursor: String,
}

impl FakeServer {
    pub(crate) fn start() -> Self {
        Self::start_on(Arc::default())
    }

    /// Starts a server on the given ports, as a restarted server does.
    pub(crate) fn start_on(ports: Arc<Ports>) -> Self {
        let shared = Arc::new(Shared::default());
        "c0".clone_into(&mut shared.state.lock().unwrap().cursor);
        let (http, feed) = (ports.http.address(), ports.feed.address());
        let of_heartbeats = shared.clone();
        let threads = vec![
            listen(http, &shared, serve_http),
            listen(feed, &shared, serve_feed),
            thread::spawn(move || send_heartbeats(&of_heartbeats)),
        ];
        Self {
            http,
            feed,
            ports,
            shared,
            threads,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Sets the greeting of all later connections.
    pub(crate) fn set_greeting(&self, greeting: Greeting) {
        self.shared.state.lock().unwrap().greeting = greeting;
    }

    /// Sets the behaviour for all later requests.
    pub(crate) fn set_http_behaviour(&self, behaviour: HttpBehaviour) {
        self.shared.state.lock().unwrap().http_behaviour = behaviour;
    }

    /// Closes every connection of the feed. New ones are accepted.
    pub(crate) fn close_feeds(&self) {
        for stream in self.shared.state.lock().unwrap().feeds.drain(..) {
            // The client may have closed it already.
            _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Sends a line to every subscribed client.
    pub(crate) fn send_line(&self, line: &str) {
        self.shared.state.lock().unwrap().send_line(line);
    }

    /// Sends a sample with the present time.
    pub(crate) fn send_sample(&self, cursor: &str, user: u32, bpm: u32) {
        let now = chrono::Utc::now().to_rfc3339();
        let mut state = self.shared.state.lock().unwrap();
        cursor.clone_into(&mut state.cursor);
        state.send_line(&format!(
            r#"{{"event":"sample","cursor":"{cursor}","user_id":{user},"timestamp":"{now}","heart_rate":{bpm},"steps":7,"calories":0.5,"source":"watch"}}"#
        ));
    }

    /// Waits for a command with this beginning.
    pub(crate) fn wait_for_command(&self, beginning: &str) -> String {
        self.wait(|s| s.commands.iter().find(|c| c.starts_with(beginning)).cloned())
    }

    /// Waits until so many connections are subscribed, since the last call of [`close_feeds`](Self::close_feeds).
    pub(crate) fn wait_for_feeds(&self, count: usize) {
        self.wait(|s| (s.feeds.len() >= count).then_some(()));
    }

    /// Waits for an HTTP request whose path has this beginning.
    pub(crate) fn wait_for_request(&self, beginning: &str) -> String {
        self.wait(|s| s.requests.iter().find(|c| c.starts_with(beginning)).cloned())
    }

    /// Closes all connections, and listens no more, as a killed server does. Returns the ports.
    #[must_use = "other programs may get the ports"]
    pub(crate) fn kill(self) -> Arc<Ports> {
        self.ports.clone()
    }

    fn wait<T>(&self, found: impl Fn(&ServerState) -> Option<T>) -> T {
        let end = Instant::now() + TIMEOUT;
        let mut state = self.shared.state.lock().unwrap();
        loop {
            if let Some(found) = found(&state) {
                return found;
            }
            let left = end.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("timed out; commands so far: {:?}", state.commands));
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl ServerState {
    fn send_line(&mut self, line: &str) {
        for stream in &mut self.feeds {
            // The client may have closed the connection.
            _ = stream.write_all(format!("{line}\n").as_bytes());
        }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        // A test that failed may have failed while it held the lock.
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.ended.store(true, Ordering::SeqCst);
        for stream in &state.feeds {
            _ = stream.shutdown(std::net::Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
        // A connection wakes each listener, which then sees that it must end.
        for addr in [self.http, self.feed] {
            _ = TcpStream::connect(addr);
        }
        // Nothing listens on the ports after this, so that a restarted server can.
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

/// Sends heartbeats to the subscribed clients until the server ends.
fn send_heartbeats(shared: &Shared) {
    let mut due = Instant::now() + HEARTBEAT_INTERVAL;
    let mut state = shared.state.lock().unwrap();
    while !shared.ended.load(Ordering::SeqCst) {
        let Some(left) = due.checked_duration_since(Instant::now()) else {
            let cursor = state.cursor.clone();
            state.send_line(&format!(
                r#"{{"event":"heartbeat","cursor":"{cursor}","time":"2025-03-02T18:00:00Z"}}"#
            ));
            due = Instant::now() + HEARTBEAT_INTERVAL;
            continue;
        };
        state = shared.changed.wait_timeout(state, left).unwrap().0;
    }
}

fn listen(addr: SocketAddr, shared: &Arc<Shared>, serve: fn(TcpStream, &Shared)) -> thread::JoinHandle<()> {
    let listener = bind(addr);
    let shared = shared.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if shared.ended.load(Ordering::SeqCst) {
                return;
            }
            let shared = shared.clone();
            thread::spawn(move || serve(stream, &shared));
        }
    })
}

/// Binds an address. If it is in use, tries again: a program that another test is starting may have the old socket for
/// a moment.
fn bind(addr: SocketAddr) -> TcpListener {
    let end = Instant::now() + TIMEOUT;
    loop {
        match TcpListener::bind(addr) {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < end, "{addr}: {error}"),
        }
        thread::yield_now();
    }
}

fn serve_feed(mut stream: TcpStream, shared: &Shared) {
    let hello = r#"{"event":"hello","protocol":"health-feed/1","auth":false,"cursor":"c0"}"#;
    let greeting = shared.state.lock().unwrap().greeting;
    let bytes = match greeting {
        Greeting::Hello => format!("{hello}\n").into_bytes(),
        Greeting::Garbage => b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        Greeting::Endless => vec![b'x'; 1 << 20],
        Greeting::Closed => Vec::new(),
        Greeting::Nonsense => {
            let subscribed = r#"{"event":"subscribed","resumed":true}"#;
            let unknown = r#"{"event":"weather","sky":"blue"}"#;
            format!("{hello}\n{subscribed}\n{unknown}\n{{\"event\":7\nnonsense\n").into_bytes()
        }
    };
    // The client may close the connection before it has read everything.
    if stream.write_all(&bytes).is_err() || greeting != Greeting::Hello {
        return;
    }
    for line in BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok)
    {
        let mut state = shared.state.lock().unwrap();
        if line.starts_with("SUBSCRIBE") {
            _ = writeln!(stream, r#"{{"event":"subscribed","resumed":true}}"#);
            state.feeds.push(stream.try_clone().unwrap());
        }
        state.commands.push(line);
        shared.changed.notify_all();
    }
}

fn serve_http(mut stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or("").to_owned();
        let behaviour = shared.state.lock().unwrap().http_behaviour;
        let (status, body) = match behaviour {
            HttpBehaviour::Normal => answer(&path),
            HttpBehaviour::Broken => (500, "<html>Bad day</html>".to_owned()),
            HttpBehaviour::Unreadable => (200, "<html>Welcome</html>".to_owned()),
            HttpBehaviour::Closed | HttpBehaviour::Garbage | HttpBehaviour::Silent => {
                shared.state.lock().unwrap().requests.push(path);
                shared.changed.notify_all();
                if behaviour == HttpBehaviour::Garbage {
                    _ = stream.write_all(b"\x00\x01 what?\r\n\r\n");
                }
                if behaviour == HttpBehaviour::Silent {
                    // The read returns when the client closes the connection.
                    _ = reader.read(&mut [0; 16]);
                }
                return;
            }
        };
        let kind = if status == 200 {
            "application/json"
        } else {
            "application/problem+json"
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
        shared.state.lock().unwrap().requests.push(path);
        shared.changed.notify_all();
    }
}

fn answer(path: &str) -> (u16, String) {
    let stats = r#""samples":450,"average_heart_rate":78.4,"min_heart_rate":61.0,"max_heart_rate":142.0,"time_weighted_heart_rate":77.9,"heart_rate_coverage":0.98,"total_steps":5120,"total_calories":312.5"#;
    let range = r#""start":"2025-03-02T18:00:00Z","end":"2025-03-02T19:00:00Z""#;
    match path.split('?').next().unwrap_or("") {
        "/users" => (
            200,
            r#"{"users":[{"user_id":909,"samples":1,"first":"2025-03-02T18:00:00Z","last":{"user_id":909,"timestamp":"2025-03-02T18:00:00Z","heart_rate":66,"source":""}}],"next":null}"#.to_owned(),
        ),
        "/metrics" => (200, format!(r#"{{"user_id":101,{range},{stats},"sources":[]}}"#)),
        "/metrics/series" => (
            200,
            format!(r#"{{"user_id":101,"bucket":"1m","tz":"UTC","buckets":[{{{range},{stats}}}]}}"#),
        ),
        "/metrics/percentiles" => (200, r#"{"percentiles":{"50":72,"95":121,"99":140},"samples":450}"#.to_owned()),
        "/samples" if path.contains("user_id=909") => (
            200,
            (0..8)
                .map(|s| {
                    let bpm = 60 + s;
                    format!(r#"{{"user_id":909,"timestamp":"2025-03-02T17:59:{:02}Z","heart_rate":{bpm}}}"#, s * 7) + "\n"
                })
                .collect(),
        ),
        "/samples" => (200, String::new()),
        _ => (
            404,
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no such path"}"#.to_owned(),
        ),
    }
}
