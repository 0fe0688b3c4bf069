//! The end of an access on everything that lives long: feeds, replays, exports and uploads, on each server of a database.

use std::time::Duration;

use futures_util::future::join_all;
use health_core::{Config, access::TokenAdmin, token::NewToken};
use test_support::TestDatabase;

use crate::{
    access::{Bearer, in_time, new_token},
    client::{FeedConnection, HttpConnection},
    support::{Server, counts, records},
};

/// How long the token that expires is valid. Everything is opened in this time.
const VALID_FOR: Duration = Duration::from_secs(8);

/// Two servers on one database, and a token that nothing ends.
struct TwoServers {
    servers: [Server; 2],
    admin: TokenAdmin,
    lasting: Bearer,
    /// The cursor before all samples.
    start: String,
}

/// What a client with a token has open on one server.
struct Opened {
    feed: FeedConnection,
    /// Has more to say than the client reads.
    replay: FeedConnection,
    /// Has more to say than the client reads.
    export: HttpConnection,
    /// Has sent one record, and goes on later.
    upload: HttpConnection,
    /// Has sent its head only.
    silent_upload: HttpConnection,
}

impl TwoServers {
    /// An export of user 1, and a replay, are more than the buffers of a connection hold.
    async fn start() -> Self {
        let database = TestDatabase::new().await;
        let mut admin = TokenAdmin::connect(&Config::from_url(database.url()).unwrap())
            .await
            .unwrap();
        let lasting = Bearer::new(&admin.create(&new_token("lasting", "ingest,read", None)).await.unwrap());
        let url = database.url().to_owned();
        let one = Server::with_database(database, None, |_, _| {}).await;
        let other = Server::with_database(TestDatabase::empty().await, Some(&url), |_, _| {}).await;
        one.fill(1).await;
        let start = FeedConnection::connect(one.feed).await.event().await["cursor"]
            .as_str()
            .unwrap()
            .to_owned();
        let headers = [
            ("authorization", lasting.header.as_str()),
            ("content-type", "application/x-ndjson"),
        ];
        for user in 11..=16 {
            assert_eq!(one.post_with(&headers, records(user, 5000)).await.status, 200);
        }
        Self {
            servers: [one, other],
            admin,
            lasting,
            start,
        }
    }

    /// Creates a token, and opens everything with it on both servers.
    async fn open(&mut self, token: &NewToken) -> (Bearer, Vec<Opened>) {
        let bearer = Bearer::new(&self.admin.create(token).await.unwrap());
        let opening = self.servers.iter().map(async |server| {
            in_time(async { while bearer.get(server, "/openapi.json").await.status == 401 {} }).await;
            Opened::on(server, &bearer, &self.start).await
        });
        let opened = join_all(opening).await;
        (bearer, opened)
    }

    /// Waits until each server has no connection but the one that asks.
    async fn nothing_is_open(&self) {
        for server in &self.servers {
            let is_alone = async || {
                let metrics = self.lasting.get(server, "/-/metrics").await.body;
                metrics.contains("\nhealth_http_connections 1\n") && metrics.contains("\nhealth_feed_connections 0\n")
            };
            in_time(async { while !is_alone().await {} }).await;
        }
    }
}

impl Opened {
    async fn on(server: &Server, bearer: &Bearer, start: &str) -> Self {
        let feed = bearer.subscribed(server).await;
        let mut replay = bearer.feed(server).await;
        replay.send(format!("SUBSCRIBE after={start}\n")).await;
        assert_eq!(replay.event().await["resumed"], true);
        let mut export = server.connect().await;
        let query = "user_id=1&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
        let request = |line: &str, headers: &str| {
            format!(
                "{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n{headers}\r\n",
                bearer.header
            )
        };
        export.send(request(&format!("GET /samples?{query}"), "")).await;
        assert_eq!(export.response_head().await.status, 200);
        let uploading = "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n";
        let (mut upload, mut silent_upload) = (server.connect().await, server.connect().await);
        upload.send(request("POST /ingest", uploading)).await;
        upload.send_chunk(&records(7, 1)).await;
        silent_upload.send(request("POST /ingest", uploading)).await;
        Self {
            feed,
            replay,
            export,
            upload,
            silent_upload,
        }
    }

    /// Waits for the end of what tells the client why it ends. Returns the connections that tell nothing.
    async fn ended(mut self, reason: &str) -> (FeedConnection, HttpConnection) {
        let said = in_time(async {
            loop {
                let (event, reason) = self.feed.event_and_reason().await;
                if event == "bye" {
                    return reason;
                }
            }
        });
        let said = said.await;
        assert!(said.contains(reason), "{said}");
        let upload = in_time(self.upload.response()).await;
        assert_eq!(
            (upload.status, counts(&upload)[0]),
            (401, 1),
            "what had arrived before is stored: {upload:?}"
        );
        let upload = in_time(self.silent_upload.response()).await;
        assert_eq!(upload.status, 401, "{upload:?}");
        (self.replay, self.export)
    }
}

#[tokio::test]
async fn revocation_narrowing_and_expiry_end_everything_on_both_servers_even_if_the_client_reads_nothing() {
    let mut fixture = TwoServers::start().await;
    let (_, revoked) = fixture.open(&new_token("revoked", "ingest,read", None)).await;
    let (narrowed, of_narrowed) = fixture.open(&new_token("narrowed", "ingest,read", None)).await;
    let expiring = NewToken {
        valid_for: Some(VALID_FOR),
        ..new_token("expiring", "ingest,read", None)
    };
    let (_, expired) = fixture.open(&expiring).await;

    fixture.admin.revoke("revoked").await.unwrap();
    // Without a notification, as an operator would by hand.
    let sql = fixture.servers[0].sql().await;
    sql.batch_execute("UPDATE health_tokens SET users = '{999}' WHERE name = 'narrowed'")
        .await
        .unwrap();
    let mut unread = Vec::new();
    for opened in revoked.into_iter().chain(of_narrowed) {
        unread.push(opened.ended("revoked or changed").await);
    }
    for opened in expired {
        unread.push(opened.ended("expired").await);
    }
    fixture.nothing_is_open().await;
    for (_, mut export) in unread {
        let mut rest = Vec::new();
        // The system may report the cut as a reset.
        let _ = export.read_rest(&mut rest).await;
        assert!(
            !rest.ends_with(b"0\r\n\r\n"),
            "an export that is cut off must not look complete"
        );
    }
    let query = "start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    for server in &fixture.servers {
        for (user, expected) in [(1, 403), (999, 200)] {
            let path = format!("/metrics?user_id={user}&{query}");
            assert_eq!(narrowed.get(server, &path).await.status, expected, "user {user}");
        }
    }
}
