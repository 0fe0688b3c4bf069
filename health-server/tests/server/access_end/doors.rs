//! A valid request to each endpoint, and how it is answered after each change of its token.

use futures_util::future::join_all;

use crate::{
    access::endpoints,
    access_end::Change,
    client::HttpConnection,
    guarded::{Bearer, RANGE},
    support::{Server, record},
};

/// Each endpoint with each of its methods.
pub(crate) struct Doors(Vec<Door>);

struct Door {
    method: String,
    /// The path as `openapi.json` has it.
    path: String,
    /// `None` for no token, empty for any token.
    scope: Option<&'static str>,
}

impl Doors {
    /// Returns the endpoints that the server describes.
    pub(crate) async fn all(server: &Server, token: &Bearer) -> Self {
        let described = endpoints(server, token).await.into_iter();
        let doors = described.map(|(method, path, scope)| Door { method, path, scope });
        Self(doors.collect())
    }

    /// Checks the answers to a token that was changed.
    pub(crate) async fn are_closed_to(&self, server: &Server, bearer: &Bearer, change: Change) {
        // At the same time, because a wrong token is answered late.
        let answers = self.0.iter().map(async |door| {
            let (status, challenge) = door.knock(server, bearer).await;
            let name = format!("{} {} {change:?}", door.method, door.path);
            match door.refusal_after(change) {
                Some(refusal) => assert_eq!(status, refusal, "{name}"),
                None => assert!(status < 300, "{name}: {status}"),
            }
            assert_eq!(challenge, status == 401, "{name}: WWW-Authenticate");
        });
        join_all(answers).await;
        feed_is_closed_to(server, bearer, change).await;
    }
}

impl Door {
    /// Sends a valid request that concerns user 101. Returns its status, and whether the response asks for a token.
    async fn knock(&self, server: &Server, bearer: &Bearer) -> (u16, bool) {
        let (method, path) = (&self.method, self.path.as_str());
        let target = match path {
            "/metrics" | "/metrics/percentiles" | "/samples" => format!("{path}?{RANGE}"),
            "/metrics/series" => format!("{path}?{RANGE}&bucket=1h"),
            "/ingest/health-auto-export" | "/ingest/health-connect" => format!("{path}?user_id=101"),
            "/feed" => "/feed?users=101".to_owned(),
            _ => path.replace("{user_id}", "101").replace("{file}", "main.js"),
        };
        let (media_type, body) = match path {
            "/ingest/health-auto-export" => ("application/json", r#"{"data":{}}"#.to_owned()),
            "/ingest/health-connect" => ("application/json", r#"{"steps":[]}"#.to_owned()),
            "/api/v2/write" | "/write" => ("text/plain", "h,user_id=101 steps=1i 1740938401000000000".to_owned()),
            _ => ("application/json", record(101, 0)),
        };
        let body = if method == "POST" { body } else { String::new() };
        let mut http = HttpConnection::connect(server.http).await;
        let (authorization, length) = (&bearer.header, body.len());
        http.send(format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\n\
             content-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
        // A stream that is granted does not end.
        let head = http.response_head().await;
        (head.status, head.header("www-authenticate").is_some())
    }

    /// Returns the status of the refusal, or `None` if the token still permits the request.
    fn refusal_after(&self, change: Change) -> Option<u16> {
        let scope = self.scope?;
        match change {
            Change::Revoked | Change::Expired => Some(401),
            _ if scope.is_empty() => None,
            Change::OnlyScope(left) => (scope != left).then_some(403),
            Change::OtherUser => match self.path.as_str() {
                "/ingest"
                | "/ingest/"
                | "/ingest/health-auto-export"
                | "/ingest/health-connect"
                | "/metrics"
                | "/metrics/series"
                | "/metrics/percentiles"
                | "/samples"
                | "/users/{user_id}"
                | "/feed" => Some(403),
                // A point that is refused never is a 403, which Telegraf would send again.
                "/api/v2/write" | "/write" => Some(400),
                // They have nothing of other users.
                "/users" | "/-/metrics" => None,
                path => panic!("decide what {path} answers a token of another user"),
            },
        }
    }
}

/// Checks what the feed over TCP says to a token that was changed.
async fn feed_is_closed_to(server: &Server, bearer: &Bearer, change: Change) {
    let mut feed = bearer.feed(server).await;
    if !matches!(change, Change::Revoked | Change::Expired) {
        feed.send("SUBSCRIBE users=101\n").await;
    }
    let (event, reason) = feed.event_and_reason().await;
    let expected = match change {
        Change::OnlyScope("read") => return assert_eq!(event, "subscribed"),
        Change::OnlyScope(_) => "needs read",
        Change::OtherUser => "101",
        Change::Revoked => "was revoked",
        Change::Expired => "has expired",
    };
    assert!(
        event == "error" && reason.contains(expected),
        "{change:?}: {event} {reason}"
    );
}
