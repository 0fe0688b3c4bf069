//! Every option at its extremes: it works, or it is refused at the start with its name and its range.

use std::time::Duration;

use clap::{CommandFactory, Parser};
use health_core::Config;
use test_support::{TestDatabase, open_with_retries};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};

use super::{Args, ServeArgs};
use crate::{Listeners, run};

/// Values at and beyond the ends of every number type, and texts that are no numbers.
const ABSURD: [&str; 18] = [
    "",
    "0",
    "1",
    "-1",
    "-0",
    "+1",
    "2147483648",
    "4294967296",
    "2305843009213693952",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551615ms",
    "18446744073709551615d",
    "18446744073709551615GiB",
    "1e9",
    "NaN",
    "\u{0}\u{feff}ü",
];

/// Longer than anything here takes, so that a server that does not answer fails the test.
const TIMEOUT: Duration = Duration::from_mins(2);

fn parse(flag: &str, value: &str) -> Result<ServeArgs, String> {
    let parsed = Args::try_parse_from(["health-server".to_owned(), format!("--{flag}={value}")]);
    parsed.map(|args| args.serve).map_err(|error| error.to_string())
}

/// Returns the names of all options that take a value, and whether each is a limit.
fn options() -> Vec<(String, bool)> {
    let command = Args::command();
    let valued = command
        .get_arguments()
        .filter(|argument| argument.get_action().takes_values());
    let named = valued.filter_map(|argument| {
        let is_limit = argument.get_help_heading() == Some("Limits");
        Some((argument.get_long()?.to_owned(), is_limit))
    });
    named.collect()
}

/// Returns the ends of the range that the refusal of a value names.
fn range(flag: &str) -> (String, String) {
    let refusal = ["18446744073709551616", "18446744073709551615ms"]
        .iter()
        .find_map(|value| parse(flag, value).err().filter(|error| error.contains("from ")));
    let refusal = refusal.unwrap_or_else(|| panic!("--{flag} has no range"));
    let (_, ends) = refusal.split_once("write a value from ").unwrap();
    let (min, max) = ends.split_once(" to ").unwrap();
    (min.to_owned(), max.split_whitespace().next().unwrap().to_owned())
}

#[test]
fn an_absurd_value_of_any_option_is_accepted_or_refused_by_name() {
    for (flag, is_limit) in options() {
        for value in ABSURD {
            match parse(&flag, value) {
                Err(error) => assert!(error.contains(&format!("--{flag}")), "{flag} {value:?}: {error}"),
                Ok(args) if is_limit => {
                    assert_eq!(args.server_limits.check(), Ok(()), "{flag} {value}");
                    assert_eq!(args.core_limits.check(), Ok(()), "{flag} {value}");
                }
                Ok(_) => {}
            }
        }
        if is_limit {
            let (min, max) = range(&flag);
            assert!(
                parse(&flag, &min).is_ok() && parse(&flag, &max).is_ok(),
                "{flag}: {min} {max}"
            );
        }
    }
}

#[tokio::test]
async fn a_server_with_any_limit_at_either_end_answers_requests() {
    let database = TestDatabase::new().await;
    let limits: Vec<_> = options().into_iter().filter(|(_, is_limit)| *is_limit).collect();
    assert_eq!(limits.len(), 28);
    for (flag, _) in limits {
        let (min, max) = range(&flag);
        for value in [min, max] {
            let args = parse(&flag, &value).unwrap();
            let config = Config::from_url(database.url()).unwrap().limits(args.core_limits);
            let health = timeout(TIMEOUT, open_with_retries(config))
                .await
                .expect("an open database in time");
            let listeners = Listeners::bind("127.0.0.1:0", "127.0.0.1:0").await.unwrap();
            let (http, (stop, stopped)) = (listeners.http_address(), oneshot::channel::<()>());
            let running = tokio::spawn(run(listeners, health, args.server_limits, async {
                let _ = stopped.await;
            }));
            let record = r#"{"user_id":1,"steps":1}"#;
            for (request, expected) in [
                ("GET /-/healthy HTTP/1.0\r\n\r\n".to_owned(), &["200"][..]),
                (
                    format!(
                        "POST /ingest HTTP/1.0\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{record}",
                        record.len()
                    ),
                    // The shortest line is shorter than any record, and a busy machine may need longer than the
                    // deadline.
                    &["200", "413", "503"],
                ),
            ] {
                let mut stream = TcpStream::connect(http).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut response = String::new();
                let read = timeout(TIMEOUT, stream.read_to_string(&mut response)).await;
                read.expect("a response in time").unwrap();
                let status = response.split(' ').nth(1).unwrap_or_default();
                assert!(expected.contains(&status), "--{flag}={value}: {response:?}");
            }
            stop.send(()).unwrap();
            // With a drain timeout of 0, the shutdown may report samples that were not stored in time.
            let _ = timeout(TIMEOUT, running).await.expect("an end in time").unwrap();
        }
    }
}
