//! Writers of late, corrected and completed samples, which they erase now and then.

use std::fmt::Write;

use fastrand::Rng;
use serde_json::Value;
use tokio::{sync::watch, task::yield_now};

use crate::{client::Client, feed_crashes::two_servers::RunningServers};

const USERS_PER_WRITER: i64 = 3;

/// Returns the number of users that so many writers write of. Their ids begin at 1.
pub(crate) fn users(writers: i64) -> i64 {
    writers * USERS_PER_WRITER
}

/// Writes samples of a few users until it is told to stop. Counts each acknowledged request.
///
/// The steps of every sample are the number of its request, so that subscribers can check the commit order.
pub(crate) async fn write(
    mut rng: Rng,
    writer: i64,
    mut servers: RunningServers,
    acknowledged: watch::Sender<usize>,
    stop: watch::Receiver<bool>,
) {
    let mut connection = None;
    let mut request = 0;
    while !*stop.borrow() {
        request += 1;
        // One request in twenty erases.
        let erasure = (rng.u8(..20) == 0).then(|| new_erasure(&mut rng, writer));
        let body = new_body(&mut rng, writer, request);
        // Sends the request until it is acknowledged.
        loop {
            let connected = match connection.take() {
                Some(client) => Ok(client),
                None => Client::connect(servers.any(&mut rng).await.http).await,
            };
            let Ok(mut client) = connected else {
                yield_now().await;
                continue;
            };
            let sent = match &erasure {
                Some(path) => client.delete(path).await.map(|status| (status, Value::Null)),
                None => client.post("application/x-ndjson", body.as_bytes()).await,
            };
            match sent {
                Ok((200, _)) => {
                    // One request in ten changes to a random server.
                    connection = (rng.u8(..10) > 0).then_some(client);
                    break;
                }
                Ok((429 | 503, _)) | Err(_) => {}
                Ok((status, response)) => panic!("{status}: {response}"),
            }
        }
        acknowledged.send_modify(|count| *count += 1);
    }
}

/// Returns the path that erases samples of a user in some minutes, sometimes those of one source.
fn new_erasure(rng: &mut Rng, writer: i64) -> String {
    let user = 1 + writer * USERS_PER_WRITER + rng.i64(0..USERS_PER_WRITER);
    let start = rng.u8(..30);
    let end = start + rng.u8(1..15);
    let source = ["", "&source=", "&source=watch"][rng.usize(..3)];
    format!("/samples?user_id={user}&start=2025-03-02T18:{start:02}:00Z&end=2025-03-02T18:{end:02}:00Z{source}")
}

fn new_body(rng: &mut Rng, writer: i64, request: i32) -> String {
    // One request in thirty exceeds the subscriber queues, and is large enough to be written with COPY.
    let is_large = rng.u8(..30) == 0;
    let count = if is_large { 600 } else { rng.usize(1..6) };
    let mut body = String::new();
    for _ in 0..count {
        let user = 1 + writer * USERS_PER_WRITER + rng.i64(0..USERS_PER_WRITER);
        let (minute, second) = (rng.u8(..30), if is_large { rng.u8(..60) } else { 0 });
        let source = ["", "watch"][rng.usize(..2)];
        let more = ["", r#","heart_rate":61.5"#, r#","calories":0.25"#][rng.usize(..3)];
        writeln!(
            body,
            r#"{{"user_id":{user},"timestamp":"2025-03-02T18:{minute:02}:{second:02}Z","source":"{source}","steps":{request}{more}}}"#
        )
        .unwrap();
    }
    body
}
