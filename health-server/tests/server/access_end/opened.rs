//! What a client with a token may have open for long.

use crate::{
    client::{EventStream, FeedConnection, HttpConnection},
    guarded::{Bearer, RANGE},
    support::{Server, counts, record, records},
};

/// What a client has open on one server.
pub(crate) struct Opened {
    /// A feed connection with a subscription, and one without.
    feeds: Vec<FeedConnection>,
    stream: EventStream,
    uploads: Vec<OpenUpload>,
    unread: Unread,
}

/// What has more to say than its client reads.
pub(crate) struct Unread {
    _replay: FeedConnection,
    stream: EventStream,
    exports: Vec<HttpConnection>,
}

struct OpenUpload {
    connection: HttpConnection,
    name: String,
    /// How many samples were stored before the end of the access. `None` if the response does not say it.
    stored: Option<i64>,
}

/// Uploads that go on: the target, the media type, what has arrived, and how many samples of it are stored meanwhile.
fn uploads() -> Vec<(&'static str, &'static str, String, Option<i64>)> {
    const JSON: &str = "application/json";
    let health_auto_export = r#"{"data":{"metrics":[{"name":"step_count","units":"count","data":[{"date":"2025-03-02 18:00:00 +0000","qty":3},"#;
    let health_connect = r#"{"heart_rate":[{"bpm":60,"time":"2025-03-02T18:00:00Z"},"#;
    let line = "h,user_id=7 steps=1i 1740938401\n";
    vec![
        ("/ingest", "application/x-ndjson", records(7, 1), Some(1)),
        ("/ingest", JSON, format!("[{},", record(7, 1)), None),
        (
            "/ingest/health-auto-export?user_id=7",
            JSON,
            health_auto_export.to_owned(),
            Some(1),
        ),
        (
            "/ingest/health-connect?user_id=7",
            JSON,
            health_connect.to_owned(),
            Some(1),
        ),
        ("/api/v2/write?precision=s", "text/plain", line.to_owned(), Some(1)),
        ("/write?precision=s", "text/plain", line.to_owned(), Some(1)),
        ("/ingest", "application/x-ndjson", String::new(), Some(0)),
        ("/write", "text/plain", String::new(), Some(0)),
    ]
}

impl Opened {
    /// Opens everything. `start` is a cursor after which there is more than a client's buffers hold.
    pub(crate) async fn on(server: &Server, bearer: &Bearer, start: &str) -> Self {
        let authorization = [("authorization", bearer.header.as_str())];
        let mut replay = bearer.feed(server).await;
        replay.send(format!("SUBSCRIBE after={start}\n")).await;
        assert_eq!(replay.event().await["resumed"], true);
        let mut stream = EventStream::open(server.http, "/feed", &authorization).await;
        assert_eq!(stream.block().await.as_deref(), Some("retry: 2000"));
        assert_eq!(stream.event().await.name, "subscribed");
        let replayed = EventStream::open(server.http, &format!("/feed?after={start}"), &authorization).await;
        assert_eq!(replayed.head.status, 200);
        let mut exports = Vec::new();
        for media_type in ["application/x-ndjson", "text/csv"] {
            let mut export = server.connect().await;
            let head = request(
                bearer,
                &format!("GET /samples?{RANGE}"),
                &format!("accept: {media_type}"),
            );
            export.send(head).await;
            assert_eq!(export.response_head().await.status, 200);
            exports.push(export);
        }
        Self {
            feeds: vec![bearer.subscribed(server).await, bearer.feed(server).await],
            stream,
            uploads: OpenUpload::all_on(server, bearer).await,
            unread: Unread {
                _replay: replay,
                stream: replayed,
                exports,
            },
        }
    }

    /// Waits for the end of what tells the client why it ends. Returns what the client does not read.
    pub(crate) async fn ended(mut self, reason: &str) -> Unread {
        for feed in &mut self.feeds {
            let said = loop {
                let (event, reason) = feed.event_and_reason().await;
                if event == "bye" {
                    break reason;
                }
            };
            assert!(said.contains(reason), "{said}");
            assert!(feed.is_closed().await);
        }
        let said = loop {
            let event = self.stream.event().await;
            if event.name == "bye" {
                break event.data["reason"].as_str().unwrap().to_owned();
            }
        };
        assert!(said.contains(reason), "{said}");
        assert!(self.stream.is_closed().await);
        for upload in self.uploads {
            upload.ended(reason).await;
        }
        self.unread
    }
}

impl OpenUpload {
    async fn all_on(server: &Server, bearer: &Bearer) -> Vec<Self> {
        let mut all = Vec::new();
        for (target, media_type, begin, stored) in uploads() {
            let mut connection = server.connect().await;
            let headers = format!("content-type: {media_type}\r\ntransfer-encoding: chunked");
            connection
                .send(request(bearer, &format!("POST {target}"), &headers))
                .await;
            if !begin.is_empty() {
                connection.send_chunk(&begin).await;
            }
            all.push(Self {
                connection,
                name: format!("{target} {media_type} {begin}"),
                stored,
            });
        }
        all
    }

    async fn ended(mut self, reason: &str) {
        let response = self.connection.response().await;
        assert_eq!(response.status, 401, "{}: {response:?}", self.name);
        assert_eq!(response.header("www-authenticate"), Some("Bearer"), "{}", self.name);
        assert!(response.problem().contains(reason), "{}: {response:?}", self.name);
        if let Some(stored) = self.stored {
            assert_eq!(counts(&response)[0], stored, "{}", self.name);
        }
    }
}

impl Unread {
    /// Checks that what the client has not read says that it is incomplete, or looks so.
    pub(crate) async fn are_cut_off(self) {
        for export in self.exports {
            assert!(!looks_complete(&rest_of(export).await), "an export that is cut off");
        }
        let rest = rest_of(self.stream.into_connection()).await;
        let says_bye = String::from_utf8_lossy(&rest).contains("event: bye");
        assert!(says_bye || !looks_complete(&rest), "a stream that is cut off");
    }
}

async fn rest_of(mut connection: HttpConnection) -> Vec<u8> {
    let mut rest = Vec::new();
    // The system may report the cut as a reset.
    let _ = connection.read_rest(&mut rest).await;
    rest
}

fn looks_complete(body: &[u8]) -> bool {
    body.ends_with(b"0\r\n\r\n")
}

/// Returns the head of a request with a token.
fn request(bearer: &Bearer, line: &str, headers: &str) -> String {
    let authorization = &bearer.header;
    format!("{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\n{headers}\r\n\r\n")
}
