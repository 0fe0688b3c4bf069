//! The feed client against servers that misbehave, with a paused clock and without a network.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};

use super::{
    connection::{HELLO_TIMEOUT, SILENCE_TIMEOUT, SILENCE_WARNING},
    *,
};

const HELLO: &str = r#"{"event":"hello","protocol":"health-feed/1","auth":false,"cursor":"c0"}"#;
const SUBSCRIBED: &str = r#"{"event":"subscribed","resumed":true}"#;
const GAP: &str = r#"{"event":"subscribed","resumed":false,"reason":"the log was pruned"}"#;
const LAGGED: &str = r#"{"event":"lagged","missed":7,"cursor":"c5"}"#;
const ERASED: &str = r#"{"event":"erased","cursor":"c7","user_id":1}"#;

/// A server that a test plays.
struct Server(BufReader<DuplexStream>);

impl Server {
    async fn send(&mut self, lines: &[&str]) {
        for line in lines {
            self.0.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        }
    }

    async fn command(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }
}

/// Connects a client to a server that the test plays.
fn connect(client: &mut FeedClient) -> Server {
    let (stream, server) = duplex(1 << 21);
    client.state = State::Open(Box::new(Connection::new(Box::new(stream))));
    Server(BufReader::new(server))
}

fn client() -> FeedClient {
    FeedClient::new(FeedOptions {
        lag_resume_interval: Duration::from_secs(10),
        ..FeedOptions::default()
    })
}

fn sample(user: i64, cursor: &str) -> String {
    format!(
        r#"{{"event":"sample","cursor":"{cursor}","user_id":{user},"timestamp":"2025-03-02T18:00:00Z","heart_rate":70,"source":""}}"#
    )
}

/// Returns the error of a connection whose server sends `bytes` and then closes.
async fn error_after(bytes: &[u8]) -> FeedError {
    let mut client = client();
    let mut server = connect(&mut client);
    server.0.write_all(bytes).await.unwrap();
    // The other direction stays open, so that the client can send its commands.
    server.0.shutdown().await.unwrap();
    loop {
        if let FeedUpdate::Disconnected { reason, .. } = client.next().await {
            return reason;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_misbehaving_server_gives_a_readable_error() {
    for (bytes, expected, is_final) in [
        (String::new(), "the server closed the connection", false),
        ("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(), "not the feed", false),
        ("\u{0}\u{1}\u{2}\n".to_owned(), "not the feed", false),
        (format!("{SUBSCRIBED}\n"), "not the feed", false),
        ("x".repeat(1 << 20), "a line of more than", false),
        (
            r#"{"event":"error","reason":"no room"}"#.to_owned() + "\n",
            "no room",
            false,
        ),
        (
            format!("{HELLO}\n{{\"event\":\"error\",\"reason\":\"no such user\"}}\n"),
            "no such user",
            true,
        ),
        (
            r#"{"event":"bye","reason":"shutting down"}"#.to_owned() + "\n",
            "the server says: shutting down",
            false,
        ),
        (HELLO.replace("false", "true") + "\n", "a token is needed", true),
        (
            HELLO.replace("feed/1", "feed/9") + "\n",
            "the server speaks health-feed/9",
            true,
        ),
        (format!("{HELLO}\n"), "the server closed the connection", false),
        (
            format!("{HELLO}\n{SUBSCRIBED}\n{}\n", "y".repeat(1 << 20)),
            "a line of more than",
            false,
        ),
        (format!("{HELLO}\n{SUBSCRIBED}\nplain words\n"), "not the feed", false),
        (
            format!("{HELLO}\n{{\"event\":\"error\",\"reason\":\"the token has expired\"}}\n"),
            "the token has expired: use another token",
            true,
        ),
        // An event of a later version is skipped.
        (
            format!("{HELLO}\n{SUBSCRIBED}\n{{\"event\":\"new\"}}\n"),
            "the server closed the connection",
            false,
        ),
    ] {
        let error = error_after(bytes.as_bytes()).await;
        assert!(error.to_string().starts_with(expected), "{error} instead of {expected}");
        assert_eq!(error.is_final(), is_final, "{error}");
    }
}

/// Each event with a position, and the resume point after it.
#[tokio::test(start_paused = true)]
async fn the_next_connection_resumes_after_the_last_event_of_any_kind() {
    let heartbeat = r#"{"event":"heartbeat","cursor":"c9","time":"2025-03-02T18:00:00Z"}"#;
    let c1 = sample(1, "c1");
    for (lines, command) in [
        (vec![HELLO], "SUBSCRIBE after=c0"),
        (vec![HELLO, SUBSCRIBED], "SUBSCRIBE after=c0"),
        (vec![HELLO, SUBSCRIBED, c1.as_str()], "SUBSCRIBE after=c1"),
        (vec![HELLO, SUBSCRIBED, c1.as_str(), heartbeat], "SUBSCRIBE after=c9"),
        (vec![HELLO, SUBSCRIBED, c1.as_str(), LAGGED], "SUBSCRIBE after=c5"),
        (vec![HELLO, SUBSCRIBED, c1.as_str(), ERASED], "SUBSCRIBE after=c7"),
        // What follows `lagged` belongs to the old subscription.
        (
            vec![HELLO, SUBSCRIBED, LAGGED, c1.as_str(), heartbeat],
            "SUBSCRIBE after=c5",
        ),
        (
            vec![HELLO, SUBSCRIBED, LAGGED, SUBSCRIBED, c1.as_str()],
            "SUBSCRIBE after=c1",
        ),
    ] {
        let mut client = client();
        let mut first = connect(&mut client);
        first.send(&lines).await;
        drop(first.0.into_inner());
        while !matches!(client.next().await, FeedUpdate::Disconnected { .. }) {}
        let mut second = connect(&mut client);
        second.send(&[HELLO]).await;
        let received = tokio::select! {
            command = second.command() => command,
            update = client.next() => panic!("{update:?}"),
        };
        assert_eq!(received, command, "{lines:?}");
    }
}

/// A later `hello` has the present end of the feed. A client that takes it skips what it has missed.
#[tokio::test(start_paused = true)]
async fn connections_that_are_lost_between_hello_and_subscribed_do_not_move_the_resume_point() {
    let mut client = client();
    let c1 = sample(1, "c1");
    let mut server = connect(&mut client);
    server.send(&[HELLO, SUBSCRIBED, &c1]).await;
    drop(server);
    while !matches!(client.next().await, FeedUpdate::Disconnected { .. }) {}
    for later in ["c8", "c9"] {
        let mut server = connect(&mut client);
        server.send(&[&HELLO.replace("c0", later)]).await;
        let asking = async {
            let command = server.command().await;
            drop(server);
            command
        };
        let (command, ()) = tokio::join!(asking, async {
            while !matches!(client.next().await, FeedUpdate::Disconnected { .. }) {}
        });
        assert_eq!(command, "SUBSCRIBE after=c1");
    }
}

#[tokio::test(start_paused = true)]
async fn an_erasure_keeps_its_place_between_the_samples() {
    let mut client = client();
    let mut server = connect(&mut client);
    let lines = [
        HELLO,
        SUBSCRIBED,
        &sample(1, "c1"),
        ERASED,
        &sample(1, "c8"),
        &sample(2, "c9"),
    ];
    server.send(&lines).await;
    assert!(matches!(client.next().await, FeedUpdate::Connected { .. }));
    assert!(matches!(client.next().await, FeedUpdate::Samples(samples) if samples.len() == 1));
    let FeedUpdate::Erased(erasure) = client.next().await else {
        panic!("no erasure")
    };
    assert!(erasure.is_whole_user() && erasure.user_id().get() == 1);
    // It counts as processed when the caller asks for the next update.
    assert_eq!(client.cursor().unwrap().to_string(), "c1");
    assert!(matches!(client.next().await, FeedUpdate::Samples(samples) if samples.len() == 2));
    assert_eq!(client.cursor().unwrap().to_string(), "c7");
}

#[tokio::test(start_paused = true)]
async fn the_resume_point_moves_when_the_samples_are_processed() {
    let mut client = client();
    let mut server = connect(&mut client);
    server
        .send(&[HELLO, SUBSCRIBED, &sample(1, "c1"), &sample(2, "c2")])
        .await;
    assert!(matches!(
        client.next().await,
        FeedUpdate::Connected { resumed: None, .. }
    ));
    let FeedUpdate::Samples(samples) = client.next().await else {
        panic!("no samples")
    };
    assert_eq!(
        (samples.len(), client.cursor().unwrap().to_string()),
        (2, "c0".to_owned())
    );
    // The caller has processed them and waits for the next update.
    tokio::select! {
        update = client.next() => panic!("{update:?}"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(client.cursor().unwrap().to_string(), "c2");
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_reported_on_a_connection_and_after_lagged_and_the_position_of_hello_replaces_the_old_one() {
    let mut client = FeedClient::new(FeedOptions {
        after: Some(Cursor::new("old")),
        ..FeedOptions::default()
    });
    let mut server = connect(&mut client);
    server.send(&[HELLO, GAP, LAGGED, SUBSCRIBED, LAGGED, GAP]).await;
    let gap = |update: &FeedUpdate| matches!(update, FeedUpdate::Connected { resumed: Some(false), reason: Some(reason) } if reason == "the log was pruned");
    assert!(gap(&client.next().await));
    assert_eq!(client.cursor().unwrap().to_string(), "c0");
    for _ in 0..2 {
        // The interval is zero: each time.
        let update = client.next().await;
        assert!(
            matches!(
                update,
                FeedUpdate::Lagged {
                    missed: 7,
                    is_requested: true
                }
            ),
            "{update:?}"
        );
    }
    assert!(gap(&client.next().await));
}

#[tokio::test(start_paused = true)]
async fn skipped_samples_are_requested_at_most_once_in_the_interval() {
    let mut client = client();
    client.options.token = Some("secret".into());
    let mut server = connect(&mut client);
    server
        .send(&[&HELLO.replace("false", "true"), SUBSCRIBED, LAGGED, SUBSCRIBED, LAGGED])
        .await;
    let mut lags = Vec::new();
    while lags.len() < 2 {
        if let FeedUpdate::Lagged {
            missed: 7,
            is_requested,
        } = client.next().await
        {
            lags.push(is_requested);
        }
    }
    assert_eq!(lags, [true, false]);
    for expected in ["AUTH secret", "SUBSCRIBE after=c0", "SUBSCRIBE after=c5"] {
        assert_eq!(server.command().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_reported_before_the_client_disconnects() {
    let mut client = client();
    let mut server = connect(&mut client);
    let began = Instant::now();
    server.send(&[HELLO, SUBSCRIBED]).await;
    assert!(matches!(client.next().await, FeedUpdate::Connected { .. }));
    let FeedUpdate::Silent { elapsed } = client.next().await else {
        panic!("the silence was not reported")
    };
    assert_eq!((elapsed, began.elapsed()), (SILENCE_WARNING, SILENCE_WARNING));
    server.send(&[&sample(1, "c1")]).await;
    assert!(matches!(client.next().await, FeedUpdate::Recovered));
    assert!(matches!(client.next().await, FeedUpdate::Samples(_)));
    assert!(matches!(client.next().await, FeedUpdate::Silent { .. }));
    let update = client.next().await;
    assert!(
        matches!(
            update,
            FeedUpdate::Disconnected {
                reason: FeedError::Silent,
                attempt: 1,
                ..
            }
        ),
        "{update:?}"
    );
    assert_eq!(began.elapsed(), SILENCE_WARNING + SILENCE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn the_client_leaves_a_server_that_does_not_greet() {
    let mut client = client();
    let _server = connect(&mut client);
    let began = Instant::now();
    let update = client.next().await;
    assert!(
        matches!(
            update,
            FeedUpdate::Disconnected {
                reason: FeedError::Silent,
                ..
            }
        ),
        "{update:?}"
    );
    assert_eq!(began.elapsed(), HELLO_TIMEOUT);
}

/// A server with TLS waits for the first byte, because a client with TLS speaks first.
#[tokio::test(start_paused = true)]
async fn a_server_that_waits_for_the_client_can_say_that_it_speaks_tls() {
    let mut client = client();
    let mut server = connect(&mut client);
    let refusal = async {
        assert_eq!(server.command().await, "PING");
        server
            .send(&[r#"{"event":"error","reason":"this port speaks TLS"}"#])
            .await;
    };
    let (update, ()) = tokio::join!(client.next(), refusal);
    let FeedUpdate::Disconnected { reason, .. } = update else {
        panic!("{update:?}")
    };
    assert_eq!(reason.to_string(), "this port speaks TLS");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_tried_again_rarely_and_never_shown() {
    let mut client = client();
    client.options.token = Some("hlt_secret".into());
    let refused = r#"{"event":"error","reason":"the token is unknown or was revoked"}"#;
    for _ in 0..3 {
        let mut server = connect(&mut client);
        server.send(&[&HELLO.replace("false", "true"), refused]).await;
        let update = client.next().await;
        let FeedUpdate::Disconnected { reason, retry_in, .. } = &update else {
            panic!("{update:?}")
        };
        assert_eq!(*retry_in, Duration::from_secs(10), "{reason}");
        assert!(!format!("{update:?} {client:?}").contains("hlt_secret"));
    }
}

/// The resume point is already after these samples. If the client dropped them, no connection would send them again.
#[tokio::test(start_paused = true)]
async fn samples_before_an_error_reach_the_caller() {
    let mut client = client();
    let mut server = connect(&mut client);
    server
        .send(&[HELLO, SUBSCRIBED, &sample(1, "c1"), "not an event"])
        .await;
    assert!(matches!(client.next().await, FeedUpdate::Connected { .. }));
    assert!(matches!(client.next().await, FeedUpdate::Samples(samples) if samples.len() == 1));
    let update = client.next().await;
    assert!(
        matches!(
            update,
            FeedUpdate::Disconnected {
                reason: FeedError::NotAFeed,
                ..
            }
        ),
        "{update:?}"
    );
}

/// A dashboard drops the future whenever something else happens.
#[tokio::test(start_paused = true)]
async fn a_dropped_future_loses_nothing() {
    let mut client = client();
    let (stream, server) = duplex(8);
    client.state = State::Open(Box::new(Connection::new(Box::new(stream))));
    let lines = [HELLO, SUBSCRIBED, &sample(1, "c1"), &sample(2, "c2"), &sample(3, "c3")].join("\n") + "\n";
    // Through a pipe of 8 bytes, both sides stop in the middle of lines.
    let server_side = async move {
        let mut server = BufReader::new(server);
        server.write_all(lines.as_bytes()).await.unwrap();
        let mut command = String::new();
        server.read_line(&mut command).await.unwrap();
        assert_eq!(command, "SUBSCRIBE after=c0\n");
        std::future::pending::<()>().await;
    };
    tokio::pin!(server_side);
    let mut users = Vec::new();
    while users.len() < 3 {
        tokio::select! {
            biased;
            update = client.next() => {
                if let FeedUpdate::Samples(samples) = update {
                    users.extend(samples.iter().map(|sample| sample.user_id().get()));
                }
            }
            () = &mut server_side => {}
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(users, [1, 2, 3]);
}
