//! Writers of late, corrected and completed samples.

use std::fmt::Write;

use fastrand::Rng;
use tokio::{sync::watch, task::yield_now};

use crate::{client::Client, feed::pair::Addresses};

const USERS_A_WRITER: i64 = 3;

/// How many users so many writers write of, from 1 on.
pub(crate) fn users(writers: i64) -> i64 {
    writers * USERS_A_WRITER
}

/// Writes a few users until there is enough: now this sample, now that one, each post with a number of its own as the steps, so
/// that readers can tell in which order they were committed.
pub(crate) async fn write(
    mut rng: Rng,
    writer: i64,
    mut addresses: Addresses,
    posts: watch::Sender<usize>,
    enough: watch::Receiver<bool>,
) {
    let mut connection = None;
    let mut number = 0;
    while !*enough.borrow() {
        number += 1;
        let body = body(&mut rng, writer, number);
        // Until somebody says that it is stored.
        loop {
            let connected = match connection.take() {
                Some(client) => Ok(client),
                None => Client::connect(addresses.any(&mut rng).await.http).await,
            };
            let Ok(mut client) = connected else {
                yield_now().await;
                continue;
            };
            match client.post("application/x-ndjson", body.as_bytes()).await {
                Ok((200, _)) => {
                    // Now here, now there.
                    connection = (rng.u8(..10) > 0).then_some(client);
                    break;
                }
                Ok((429 | 503, _)) | Err(_) => {}
                Ok((status, answer)) => panic!("{status}: {answer}"),
            }
        }
        posts.send_modify(|count| *count += 1);
    }
}

fn body(rng: &mut Rng, writer: i64, number: i32) -> String {
    // Sometimes more than a reader's queue holds, and enough for COPY.
    let count = if rng.u8(..30) == 0 { 600 } else { rng.usize(1..6) };
    let mut body = String::new();
    for _ in 0..count {
        let user = 1 + writer * USERS_A_WRITER + rng.i64(0..USERS_A_WRITER);
        let (minute, second) = (rng.u8(..30), if count > 6 { rng.u8(..60) } else { 0 });
        let source = ["", "watch"][rng.usize(..2)];
        let rest = ["", r#","heart_rate":61.5"#, r#","calories":0.25"#][rng.usize(..3)];
        writeln!(
            body,
            r#"{{"user_id":{user},"timestamp":"2025-03-02T18:{minute:02}:{second:02}Z","source":"{source}","steps":{number}{rest}}}"#
        )
        .unwrap();
    }
    body
}
