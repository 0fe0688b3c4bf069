//! The feed client against servers that misbehave, with a paused clock and without a network.

use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;

const HELLO: &str = r#"{"event":"hello","protocol":"health-feed/1","auth":false,"cursor":"c0"}"#;
const SUBSCRIBED: &str = r#"{"event":"subscribed","resumed":true}"#;

fn client(capacity: usize, token: Option<&str>) -> (FeedClient, mpsc::Receiver<NetworkEvent>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let options = FeedOptions {
        addr: String::new(),
        token: token.map(str::to_owned),
        lossless: false,
    };
    (FeedClient::new(options, sender, Arc::new(Notify::new())), receiver)
}

fn sample(user: i64, cursor: &str, bpm: u32) -> String {
    format!(
        r#"{{"event":"sample","cursor":"{cursor}","user_id":{user},"timestamp":"2025-03-02T18:00:00Z","heart_rate":{bpm},"source":""}}"#
    )
}

async fn send_lines(server: &mut DuplexStream, lines: &[&str]) {
    for line in lines {
        server.write_all(line.as_bytes()).await.unwrap();
        server.write_all(b"\n").await.unwrap();
    }
}

/// Returns the error of a connection whose server sends `bytes` and then closes.
async fn error_after(bytes: &[u8]) -> FeedError {
    let (mut client, mut events) = client(64, None);
    let (stream, mut server) = duplex(1 << 21);
    server.write_all(bytes).await.unwrap();
    // The other direction stays open, so that the client can send its commands.
    server.shutdown().await.unwrap();
    let mut subscribed = false;
    let drain = async { while events.recv().await.is_some() {} };
    tokio::select! {
        Err(error) = client.converse(stream, &mut subscribed) => error,
        () = drain => unreachable!("the client holds the sender"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_misbehaving_server_gives_a_readable_error() {
    for (bytes, expected) in [
        (String::new(), "the server closed the connection"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(), "not the feed"),
        ("\u{0}\u{1}\u{2}\n".to_owned(), "not the feed"),
        ("x".repeat(1 << 20), "a line of more than"),
        (r#"{"event":"error","reason":"no room"}"#.to_owned() + "\n", "no room"),
        (
            r#"{"event":"bye","reason":"shutting down"}"#.to_owned() + "\n",
            "the server says: shutting down",
        ),
        (HELLO.replace("false", "true") + "\n", "a token is needed"),
        (format!("{HELLO}\n"), "the server closed the connection"),
        (
            format!("{HELLO}\n{SUBSCRIBED}\n{}\n", "y".repeat(1 << 20)),
            "a line of more than",
        ),
    ] {
        let error = error_after(bytes.as_bytes()).await.to_string();
        assert!(error.starts_with(expected), "{error} instead of {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_event_is_skipped() {
    let events = r#"{"event":"new"}"#;
    let closed = error_after(format!("{HELLO}\n{SUBSCRIBED}\n{events}\n").as_bytes()).await;
    assert!(closed.to_string().starts_with("the server closed"), "{closed}");
    let not_an_event = error_after(format!("{HELLO}\n{SUBSCRIBED}\n{events}\n{{{{{{\nplain words\n").as_bytes()).await;
    assert!(not_an_event.to_string().starts_with("not the feed"), "{not_an_event}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_reported_before_the_client_disconnects() {
    let (mut client, mut events) = client(64, None);
    let (stream, mut server) = duplex(1 << 16);
    let began = Instant::now();
    let mut subscribed = false;
    let server_side = async {
        send_lines(&mut server, &[HELLO, SUBSCRIBED]).await;
        assert!(matches!(
            events.recv().await,
            Some(NetworkEvent::Connection(ConnectionEvent::Connected {
                resumed: None,
                ..
            }))
        ));
        let Some(NetworkEvent::Connection(ConnectionEvent::Silent { elapsed })) = events.recv().await else {
            panic!("the silence was not reported")
        };
        assert_eq!((elapsed, began.elapsed()), (SILENCE_WARNING, SILENCE_WARNING));
        send_lines(&mut server, &[&sample(1, "c1", 70)]).await;
        assert!(matches!(
            events.recv().await,
            Some(NetworkEvent::Connection(ConnectionEvent::Recovered))
        ));
        assert!(matches!(events.recv().await, Some(NetworkEvent::Samples(_))));
        assert!(matches!(
            events.recv().await,
            Some(NetworkEvent::Connection(ConnectionEvent::Silent { .. }))
        ));
        // The connection stays open, and the server sends nothing.
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        Err(error) = client.converse(stream, &mut subscribed) => error,
        () = server_side => unreachable!(),
    };
    assert!(matches!(error, FeedError::Silent), "{error:?}");
    assert_eq!(began.elapsed(), SILENCE_WARNING + SILENCE_TIMEOUT);
    assert!(subscribed);
    // The next connection resumes from the last sample.
    assert_eq!(client.cursor.unwrap().to_string(), "c1");
}

#[tokio::test(start_paused = true)]
async fn the_client_leaves_a_server_that_does_not_greet() {
    let (mut client, _events) = client(64, None);
    let (stream, _server) = duplex(1 << 16);
    let began = Instant::now();
    let Err(error) = client.converse(stream, &mut false).await;
    assert!(matches!(error, FeedError::Silent), "{error:?}");
    assert_eq!(began.elapsed(), HANDSHAKE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_busy_event_loop_gets_the_newest_sample_of_each_user_and_the_number_of_replaced_samples() {
    let (mut client, mut events) = client(2, None);
    let (stream, mut server) = duplex(1 << 16);
    let mut subscribed = false;
    let server_side = async {
        send_lines(&mut server, &[HELLO, SUBSCRIBED]).await;
        assert!(matches!(
            events.recv().await,
            Some(NetworkEvent::Connection(ConnectionEvent::Connected { .. }))
        ));
        for round in 0..50 {
            for user in 1..=4 {
                send_lines(&mut server, &[&sample(user, "c9", 60 + round)]).await;
                tokio::task::yield_now().await;
            }
        }
        let mut latest = HashMap::new();
        let (mut count, mut replaced) = (0, 0);
        while count + replaced < 200 {
            let Some(NetworkEvent::Samples(received)) = events.recv().await else {
                panic!("no samples")
            };
            count += received.samples.len() as u64;
            replaced += received.replaced;
            latest.extend(
                received
                    .samples
                    .iter()
                    .map(|s| (s.user_id().get(), s.heart_rate().unwrap().get())),
            );
        }
        assert!(replaced > 0, "the event loop was never busy");
        assert!(
            (1..=4).all(|user| (latest[&user] - 109.0_f64).abs() < 1e-9),
            "{latest:?}"
        );
    };
    tokio::select! {
        Err(error) = client.converse(stream, &mut subscribed) => panic!("{error}"),
        () = server_side => {}
    }
}

#[tokio::test(start_paused = true)]
async fn missed_samples_are_requested_again_once() {
    let (mut client, mut events) = client(64, Some("secret"));
    let (stream, mut server) = duplex(1 << 16);
    let mut subscribed = false;
    let lagged = r#"{"event":"lagged","missed":7,"cursor":"c5"}"#;
    let server_side = async {
        send_lines(
            &mut server,
            &[&HELLO.replace("false", "true"), SUBSCRIBED, lagged, lagged],
        )
        .await;
        assert!(matches!(
            events.recv().await,
            Some(NetworkEvent::Connection(ConnectionEvent::Connected { .. }))
        ));
        // The client answers the first `lagged` with a command. It reports the second one, which follows too soon.
        assert!(matches!(
            events.recv().await,
            Some(NetworkEvent::Connection(ConnectionEvent::Lagged { missed: 7 }))
        ));
        let expected = "AUTH secret\nSUBSCRIBE\nSUBSCRIBE after=c5\n";
        let mut commands = vec![0; expected.len()];
        server.read_exact(&mut commands).await.unwrap();
        assert_eq!(String::from_utf8(commands).unwrap(), expected);
    };
    tokio::select! {
        Err(error) = client.converse(stream, &mut subscribed) => panic!("{error}"),
        () = server_side => {}
    }
}

/// The client has stored the cursor of these samples already. If it dropped them, the next connection would not send them
/// again.
#[tokio::test(start_paused = true)]
async fn samples_before_an_error_reach_the_event_loop() {
    let (mut client, mut events) = client(64, None);
    let (stream, mut server) = duplex(1 << 16);
    let lines = [HELLO, SUBSCRIBED, &sample(1, "c1", 70), "not an event"];
    send_lines(&mut server, &lines).await;
    let result = client.converse(stream, &mut false).await;
    assert!(matches!(result, Err(FeedError::NotAFeed)), "{result:?}");
    let mut count = 0;
    while let Ok(event) = events.try_recv() {
        if let NetworkEvent::Samples(received) = event {
            count += received.samples.len();
        }
    }
    assert_eq!(count, 1);
}
