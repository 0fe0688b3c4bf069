//! The feed's task against servers of every kind, with a paused clock and without a network.

use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;

const HELLO: &str = r#"{"event":"hello","protocol":"health-feed/1","auth":false,"cursor":"c0"}"#;
const SUBSCRIBED: &str = r#"{"event":"subscribed","resumed":true}"#;

fn feed(room: usize, token: Option<&str>) -> (Feed, mpsc::Receiver<Net>) {
    let (to, from) = mpsc::channel(room);
    let options = FeedOptions {
        addr: String::new(),
        token: token.map(str::to_owned),
        lossless: false,
    };
    (Feed::new(options, to, Arc::new(Notify::new())), from)
}

fn sample(user: i64, cursor: &str, bpm: u32) -> String {
    format!(
        r#"{{"event":"sample","cursor":"{cursor}","user_id":{user},"timestamp":"2025-03-02T18:00:00Z","heart_rate":{bpm},"source":""}}"#
    )
}

async fn say(server: &mut DuplexStream, lines: &[&str]) {
    for line in lines {
        server.write_all(line.as_bytes()).await.unwrap();
        server.write_all(b"\n").await.unwrap();
    }
}

/// What one connection ends with, where the server says `words` and closes.
async fn ended(words: &[u8]) -> FeedError {
    let (mut feed, mut news) = feed(64, None);
    let (ours, mut server) = duplex(1 << 21);
    server.write_all(words).await.unwrap();
    // Only our half is closed: commands of the feed still have somewhere to go.
    server.shutdown().await.unwrap();
    let mut subscribed = false;
    let taken = async { while news.recv().await.is_some() {} };
    tokio::select! {
        Err(why) = feed.converse(ours, &mut subscribed) => why,
        () = taken => unreachable!("the feed holds the sender"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_feed_is_called_so() {
    for (words, expected) in [
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
            format!("{HELLO}\n{SUBSCRIBED}\n{{\"event\":\"new\"}}\n{{{{{{\nplain words\n"),
            "not the feed",
        ),
        (
            format!("{HELLO}\n{SUBSCRIBED}\n{}\n", "y".repeat(1 << 20)),
            "a line of more than",
        ),
    ] {
        let why = ended(words.as_bytes()).await.to_string();
        assert!(why.starts_with(expected), "{why} in place of {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_before_it_is_the_end() {
    let (mut feed, mut news) = feed(64, None);
    let (ours, mut server) = duplex(1 << 16);
    let began = Instant::now();
    let mut subscribed = false;
    let story = async {
        say(&mut server, &[HELLO, SUBSCRIBED]).await;
        assert!(matches!(
            news.recv().await,
            Some(Net::Feed(FeedNews::Connected { resumed: None, .. }))
        ));
        let Some(Net::Feed(FeedNews::Quiet { since })) = news.recv().await else {
            panic!("not told")
        };
        assert_eq!((since, began.elapsed()), (QUIET, QUIET));
        say(&mut server, &[&sample(1, "c1", 70)]).await;
        assert!(matches!(news.recv().await, Some(Net::Feed(FeedNews::Heard))));
        assert!(matches!(news.recv().await, Some(Net::Samples(_))));
        assert!(matches!(news.recv().await, Some(Net::Feed(FeedNews::Quiet { .. }))));
        // The connection stays open, and nothing comes.
        std::future::pending::<()>().await;
    };
    let why = tokio::select! {
        Err(why) = feed.converse(ours, &mut subscribed) => why,
        () = story => unreachable!(),
    };
    assert!(matches!(why, FeedError::Silent), "{why:?}");
    assert_eq!(began.elapsed(), QUIET + SILENCE);
    assert!(subscribed);
    // Behind the last reading that was seen.
    assert_eq!(feed.cursor.unwrap().to_string(), "c1");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_at_all_is_left_in_time() {
    let (mut feed, _news) = feed(64, None);
    let (ours, _server) = duplex(1 << 16);
    let began = Instant::now();
    let Err(why) = feed.converse(ours, &mut false).await;
    assert!(matches!(why, FeedError::Silent), "{why:?}");
    assert_eq!(began.elapsed(), HANDSHAKE);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_is_busy_gets_the_newest_of_each_user_and_the_count() {
    let (mut feed, mut news) = feed(2, None);
    let (ours, mut server) = duplex(1 << 16);
    let mut subscribed = false;
    let story = async {
        say(&mut server, &[HELLO, SUBSCRIBED]).await;
        assert!(matches!(news.recv().await, Some(Net::Feed(FeedNews::Connected { .. }))));
        for round in 0..50 {
            for user in 1..=4 {
                say(&mut server, &[&sample(user, "c9", 60 + round)]).await;
                tokio::task::yield_now().await;
            }
        }
        let mut latest = HashMap::new();
        let (mut came, mut coalesced) = (0, 0);
        while came + coalesced < 200 {
            let Some(Net::Samples(batch)) = news.recv().await else {
                panic!("no samples")
            };
            came += batch.samples.len() as u64;
            coalesced += batch.coalesced;
            latest.extend(
                batch
                    .samples
                    .iter()
                    .map(|s| (s.user_id().get(), s.heart_rate().unwrap().get())),
            );
        }
        assert!(coalesced > 0, "the loop was never busy");
        assert!(
            (1..=4).all(|user| (latest[&user] - 109.0_f64).abs() < 1e-9),
            "{latest:?}"
        );
    };
    tokio::select! {
        Err(why) = feed.converse(ours, &mut subscribed) => panic!("{why}"),
        () = story => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_server_skipped_is_asked_for_again_but_not_without_end() {
    let (mut feed, mut news) = feed(64, Some("secret"));
    let (ours, mut server) = duplex(1 << 16);
    let mut subscribed = false;
    let lagged = r#"{"event":"lagged","missed":7,"cursor":"c5"}"#;
    let story = async {
        say(
            &mut server,
            &[&HELLO.replace("false", "true"), SUBSCRIBED, lagged, lagged],
        )
        .await;
        assert!(matches!(news.recv().await, Some(Net::Feed(FeedNews::Connected { .. }))));
        assert!(matches!(
            news.recv().await,
            Some(Net::Feed(FeedNews::Lagged { missed: 7 }))
        ));
        let expected = "AUTH secret\nSUBSCRIBE\nSUBSCRIBE after=c5\n";
        let mut commands = vec![0; expected.len()];
        server.read_exact(&mut commands).await.unwrap();
        assert_eq!(String::from_utf8(commands).unwrap(), expected);
    };
    tokio::select! {
        Err(why) = feed.converse(ours, &mut subscribed) => panic!("{why}"),
        () = story => {}
    }
}
