//! The end of an access on every door, on each server of a database: each endpoint, feeds, replays, streams, exports,
//! uploads.

mod doors;
mod opened;

use std::time::Duration;

use futures_util::future::join_all;
use health_core::{Config, Limits, access::TokenAdmin, token::NewToken};
use health_server::ServerLimits;
use test_support::TestDatabase;
use tokio::time::{Instant, timeout};

use crate::{
    access_end::{doors::Doors, opened::Opened},
    client::FeedConnection,
    guarded::{Bearer, Guarded, RANGE, in_time, new_token},
    proxy::PausableProxy,
    support::{Server, records},
};

/// How long the token that expires is valid at least. Everything is opened with it in this time; on a busy machine, it
/// is valid for longer, see [`TwoServers::open_all`].
const VALID_FOR_MIN: Duration = Duration::from_secs(20);

/// How much longer the token that expires is valid than it took to open everything with another one.
const MARGIN: u32 = 4;

/// How long after the expiry of a token what it has opened may still be open on a busy machine.
const EXPIRY_TIMEOUT: Duration = Duration::from_mins(1);

/// Longer than the test takes on a busy machine, so that no other limit ends what is open.
const PATIENCE: Duration = Duration::from_hours(1);

/// What happens to a token that permitted everything to everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Revoked,
    Expired,
    /// Limited to another user.
    OtherUser,
    /// Of its scopes, only this one is left.
    OnlyScope(&'static str),
}

/// The changes that the test makes. The expiry comes by itself.
const CHANGES: [Change; 4] = [
    Change::Revoked,
    Change::OtherUser,
    Change::OnlyScope("read"),
    Change::OnlyScope("ingest"),
];

/// Two servers on one database. The first hears of changed tokens by notification, the other one has only its timer.
struct TwoServers {
    servers: [Server; 2],
    _deaf: PausableProxy,
    admin: TokenAdmin,
    /// A token that nothing changes.
    lasting: Bearer,
    /// The tokens that will be changed.
    tokens: Vec<(Change, Bearer)>,
    /// The cursor before all samples.
    start: String,
    /// How long the token that expires is valid.
    valid_for: Duration,
}

impl Change {
    fn token_name(self) -> String {
        match self {
            Self::Revoked => "revoked".to_owned(),
            Self::Expired => "expired".to_owned(),
            Self::OtherUser => "of-other-user".to_owned(),
            Self::OnlyScope(scope) => format!("only-{scope}"),
        }
    }

    fn token(self) -> NewToken {
        new_token(&self.token_name(), "ingest,read,erase", None)
    }

    /// Returns what `bye` and the response to an upload say of the change.
    fn reason(self) -> &'static str {
        match self {
            Self::Expired => "has expired",
            _ => "was revoked or changed",
        }
    }
}

impl TwoServers {
    /// An export of user 101, and a replay, are more than the buffers of a connection hold.
    async fn start() -> Self {
        let database = TestDatabase::new().await;
        let config = Config::from_url(database.url()).unwrap();
        let mut admin = TokenAdmin::connect(&config).await.unwrap();
        let lasting = Bearer::new(&admin.create(&new_token("lasting", "ingest,read", None)).await.unwrap());
        let mut tokens = Vec::new();
        for change in CHANGES {
            tokens.push((change, Bearer::new(&admin.create(&change.token()).await.unwrap())));
        }
        let deaf = PausableProxy::deaf_to_tokens(database.url()).await;
        let patient = |server: &mut ServerLimits, core: &mut Limits| {
            (server.body_timeout, server.write_timeout) = (PATIENCE, PATIENCE);
            core.connection_wait = PATIENCE;
        };
        let one = Server::with_database(database, None, patient).await;
        let other = Server::with_database(TestDatabase::empty().await, Some(&deaf.url), patient).await;
        one.fill(101).await;
        in_time(async { while !deaf.has_deafened().await {} }).await;
        let hello = FeedConnection::connect(one.feed).await.event().await;
        let start = hello["cursor"].as_str().unwrap().to_owned();
        let headers = [
            ("authorization", lasting.header.as_str()),
            ("content-type", "application/x-ndjson"),
        ];
        for user in 11..=16 {
            assert_eq!(one.post_with(&headers, records(user, 5000)).await.status, 200);
        }
        Self {
            servers: [one, other],
            _deaf: deaf,
            admin,
            lasting,
            tokens,
            start,
            valid_for: VALID_FOR_MIN,
        }
    }

    /// Opens everything with a token on both servers.
    async fn open(&self, change: Change, bearer: &Bearer) -> Vec<(Change, Opened)> {
        let opening = self.servers.iter().map(async |server| {
            in_time(async { while bearer.get(server, "/openapi.json").await.status == 401 {} }).await;
            (change, Opened::on(server, bearer, &self.start).await)
        });
        join_all(opening).await
    }

    /// Opens everything with every token on both servers.
    async fn open_all(&mut self) -> Vec<(Change, Opened)> {
        let mut opened = Vec::new();
        for (change, bearer) in &self.tokens {
            let began = Instant::now();
            opened.extend(self.open(*change, bearer).await);
            self.valid_for = self.valid_for.max(began.elapsed() * MARGIN);
        }
        // Last, because its time begins when it is created.
        let token = NewToken {
            valid_for: Some(self.valid_for),
            ..Change::Expired.token()
        };
        let expiring = Bearer::new(&self.admin.create(&token).await.unwrap());
        opened.extend(self.open(Change::Expired, &expiring).await);
        self.tokens.push((Change::Expired, expiring));
        opened
    }

    /// Makes all changes but the expiry, which comes by itself.
    async fn change_tokens(&mut self) {
        self.admin.revoke(&Change::Revoked.token_name()).await.unwrap();
        let sql = self.servers[0].sql().await;
        // As an operator does by hand.
        sql.batch_execute(
            "UPDATE health_tokens SET users = '{999}' WHERE name = 'of-other-user'; \
             UPDATE health_tokens SET scopes = '{read}' WHERE name = 'only-read'; \
             UPDATE health_tokens SET scopes = '{ingest}' WHERE name = 'only-ingest'; \
             NOTIFY health_tokens",
        )
        .await
        .unwrap();
    }

    /// Waits for an event that must come soon after the change.
    async fn in_time_of<T>(&self, change: Change, event: impl Future<Output = T>) -> T {
        if change == Change::Expired {
            // It was created last, so it expires after this call.
            let ended = timeout(self.valid_for + EXPIRY_TIMEOUT, event).await;
            return ended.expect("an end in time after the token has expired");
        }
        in_time(event).await
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

#[tokio::test]
async fn the_end_of_an_access_closes_every_door_of_every_server_in_time() {
    let mut fixture = TwoServers::start().await;
    let doors = Doors::all(&fixture.servers[0], &fixture.lasting).await;
    let opened = fixture.open_all().await;
    fixture.change_tokens().await;
    let ends = opened
        .into_iter()
        .map(|(change, opened)| fixture.in_time_of(change, opened.ended(change.reason())));
    let unread = join_all(ends).await;
    // Also those that the client does not read.
    fixture.nothing_is_open().await;
    for unread in unread {
        unread.are_cut_off().await;
    }
    for (change, bearer) in &fixture.tokens {
        for server in &fixture.servers {
            doors.are_closed_to(server, bearer, *change).await;
        }
    }
}

#[tokio::test]
async fn a_query_that_waits_is_refused_when_its_access_ends() {
    let mut guarded = Guarded::start().await;
    let token = guarded.token("doomed", "read", None).await;
    let server = &guarded.server;
    let (mut sql, observer) = (server.sql().await, server.sql().await);
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE health_metrics").await.unwrap();
    let targets = [
        "/users".to_owned(),
        format!("/metrics?{RANGE}"),
        format!("/metrics/series?{RANGE}&bucket=1h"),
        format!("/metrics/percentiles?{RANGE}"),
        format!("/samples?{RANGE}"),
    ];
    let mut waiting = Vec::new();
    for target in &targets {
        let mut connection = server.connect().await;
        let authorization = &token.header;
        connection
            .send(format!(
                "GET {target} HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\n\r\n"
            ))
            .await;
        waiting.push((target, connection));
    }
    let all_wait = "SELECT count(*) = 5 FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name LIKE '% reader'";
    in_time(async { while !observer.query_one(all_wait, &[]).await.unwrap().get::<_, bool>(0) {} }).await;

    guarded.revoke("doomed").await;
    for (target, mut connection) in waiting {
        let response = in_time(connection.response()).await;
        assert_eq!(response.status, 401, "{target}: {response:?}");
        assert!(
            response.problem().contains("was revoked or changed"),
            "{target}: {response:?}"
        );
    }
    lock.rollback().await.unwrap();
}
