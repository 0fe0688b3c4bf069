//! A server on which tokens are in force, and clients that send one.

use std::{future::Future, time::Duration};

use health_core::{
    Config, Limits, UserId,
    access::TokenAdmin,
    token::{NewToken, TokenSecret},
};
use health_server::ServerLimits;
use test_support::TestDatabase;
use tokio::time::timeout;

use crate::{
    client::{FeedConnection, Response},
    support::Server,
};

/// Longer than a change of tokens takes to take effect on a busy machine. The contract allows 10 s; the intervals in
/// `health-core/src/access/authenticator.rs` are chosen for that, and checked there.
const EFFECT_TIMEOUT: Duration = Duration::from_mins(1);

/// A server on which tokens are in force.
pub(crate) struct Guarded {
    pub(crate) server: Server,
    pub(crate) admin: TokenAdmin,
}

impl Guarded {
    pub(crate) async fn start() -> Self {
        Self::with_limits(|_, _| {}).await
    }

    /// Starts a server with the default limits, changed by `change`.
    pub(crate) async fn with_limits(change: impl FnOnce(&mut ServerLimits, &mut Limits)) -> Self {
        let database = TestDatabase::new().await;
        let mut admin = admin(&database).await;
        admin.create(&new_token("first", "read", None)).await.unwrap();
        let server = Server::with_database(database, None, change).await;
        Self { server, admin }
    }

    /// Starts a server that serves everyone until the first token is created.
    pub(crate) async fn before_the_first_token() -> Self {
        let server = Server::start().await;
        let admin = admin(&server.database).await;
        Self { server, admin }
    }

    /// Creates a token and waits until the server knows it.
    pub(crate) async fn token(&mut self, name: &str, scopes: &str, users: Option<&[i64]>) -> Bearer {
        let secret = self.admin.create(&new_token(name, scopes, users)).await.unwrap();
        let bearer = Bearer::new(&secret);
        in_time(async { while bearer.get(&self.server, "/openapi.json").await.status == 401 {} }).await;
        bearer
    }

    /// Creates a token to read that is valid for this long.
    pub(crate) async fn token_for(&mut self, name: &str, length: Duration) {
        let token = NewToken {
            valid_for: Some(length),
            ..new_token(name, "read", None)
        };
        self.admin.create(&token).await.unwrap();
    }

    pub(crate) async fn revoke(&mut self, name: &str) {
        self.admin.revoke(name).await.unwrap();
    }
}

pub(crate) async fn admin(database: &TestDatabase) -> TokenAdmin {
    TokenAdmin::connect(&Config::from_url(database.url()).unwrap())
        .await
        .unwrap()
}

/// A client that sends a token.
pub(crate) struct Bearer {
    pub(crate) secret: String,
    pub(crate) header: String,
}

impl Bearer {
    pub(crate) fn new(secret: &TokenSecret) -> Self {
        Self {
            secret: secret.as_str().to_owned(),
            header: format!("Bearer {}", secret.as_str()),
        }
    }

    pub(crate) async fn request(&self, server: &Server, method: &str, path: &str, body: &str) -> Response {
        let headers = [
            ("authorization", self.header.as_str()),
            ("content-type", "application/json"),
        ];
        server
            .connect()
            .await
            .request(method, path, &headers, body.as_bytes())
            .await
    }

    pub(crate) async fn get(&self, server: &Server, path: &str) -> Response {
        self.request(server, "GET", path, "").await
    }

    pub(crate) async fn post(&self, server: &Server, body: &str) -> Response {
        self.request(server, "POST", "/ingest", body).await
    }

    /// Opens a feed connection and sends AUTH.
    pub(crate) async fn feed(&self, server: &Server) -> FeedConnection {
        let mut feed = server.feed().await;
        feed.send(format!("AUTH {}\n", self.secret)).await;
        feed
    }

    pub(crate) async fn subscribed(&self, server: &Server) -> FeedConnection {
        let mut feed = self.feed(server).await;
        feed.send("SUBSCRIBE\n").await;
        assert_eq!(feed.event().await["event"], "subscribed");
        feed
    }
}

pub(crate) fn new_token(name: &str, scopes: &str, users: Option<&[i64]>) -> NewToken {
    NewToken {
        name: name.parse().unwrap(),
        scopes: scopes.parse().unwrap(),
        users: users.map(|users| users.iter().map(|user| UserId::new(*user).unwrap()).collect()),
        valid_for: None,
    }
}

pub(crate) async fn in_time<T>(event: impl Future<Output = T>) -> T {
    timeout(EFFECT_TIMEOUT, event)
        .await
        .expect("the change takes effect in time")
}

/// Waits for `bye`, and returns its reason.
pub(crate) async fn bye(feed: &mut FeedConnection) -> String {
    let (event, reason) = feed.event_and_reason().await;
    assert_eq!(event, "bye");
    assert!(feed.is_closed().await);
    reason
}

pub(crate) const RANGE: &str = "user_id=101&start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
