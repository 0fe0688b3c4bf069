//! The commands that a feed client can send.

use health_core::Cursor;

use crate::{
    feed::subscribe::{self, SubscribeOptions},
    quote::quote,
};

/// One command of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Subscribe(SubscribeOptions),
    /// The secret of a token.
    Auth(String),
    Ping,
    Quit,
}

/// Parses a line. Returns `None` for a blank line.
///
/// # Errors
/// The reason, for the client to read.
pub(crate) fn parse(line: &[u8]) -> Result<Option<Command>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())?;
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else { return Ok(None) };
    let name_in_capitals = name.to_ascii_uppercase();
    let command = match name_in_capitals.as_str() {
        "SUBSCRIBE" => return options(words).map(|options| Some(Command::Subscribe(options))),
        "AUTH" => match (words.next(), words.next()) {
            (Some(secret), None) => return Ok(Some(Command::Auth(secret.to_owned()))),
            _ => return Err("AUTH takes exactly one token, without Bearer before it: AUTH health_…".to_owned()),
        },
        "PING" => Command::Ping,
        "QUIT" => Command::Quit,
        _ => {
            return Err(format!(
                "{} is not a command: use SUBSCRIBE, AUTH, PING or QUIT",
                quote(name)
            ));
        }
    };
    match words.next() {
        None => Ok(Some(command)),
        Some(word) => Err(format!(
            "{name_in_capitals} takes no arguments, but {} follows it",
            quote(word)
        )),
    }
}

/// Reads the options of SUBSCRIBE.
fn options<'a>(words: impl Iterator<Item = &'a str>) -> Result<SubscribeOptions, String> {
    let mut options = SubscribeOptions::default();
    for word in words {
        let unknown = || {
            format!(
                "{} is not an option of SUBSCRIBE: use users=, after= or every=",
                quote(word)
            )
        };
        let (name, value) = word.split_once('=').ok_or_else(unknown)?;
        let name = name.to_ascii_lowercase();
        let is_wrong = |reason| format!("{name}={reason}");
        let is_repeated = match name.as_str() {
            "users" => options
                .users
                .replace(subscribe::users(value).map_err(is_wrong)?)
                .is_some(),
            "after" => options.after.replace(cursor(value)?).is_some(),
            "every" => options
                .every
                .replace(subscribe::every(value).map_err(is_wrong)?)
                .is_some(),
            _ => return Err(unknown()),
        };
        if is_repeated {
            return Err(format!("{name}= is given more than once"));
        }
    }
    Ok(options)
}

fn cursor(value: &str) -> Result<Cursor, String> {
    if value.is_empty() {
        Err("after= needs a cursor".to_owned())
    } else {
        Ok(Cursor::new(value))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use health_core::UserId;

    use super::*;

    fn subscribe(line: &str) -> SubscribeOptions {
        match parse(line.as_bytes()) {
            Ok(Some(Command::Subscribe(options))) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_are_read_in_any_case() {
        assert_eq!(subscribe("SUBSCRIBE"), SubscribeOptions::default());
        let all = subscribe(" Subscribe\tEVERY=500  after=abc-1 users=202,101,202 ");
        let users: Vec<_> = all.users.unwrap().into_iter().map(UserId::get).collect();
        assert_eq!(users, [101, 202]);
        assert_eq!(all.after, Some(Cursor::new("abc-1")));
        assert_eq!(all.every, Some(Duration::from_millis(500)));
        assert_eq!(parse(b"ping"), Ok(Some(Command::Ping)));
        assert_eq!(parse(b"Quit "), Ok(Some(Command::Quit)));
        assert_eq!(parse(b"auth Secret"), Ok(Some(Command::Auth("Secret".to_owned()))));
        assert_eq!(parse(b""), Ok(None));
        assert_eq!(parse(b" \t"), Ok(None));
    }

    #[test]
    fn the_reason_names_what_is_wrong() {
        for (line, part) in [
            ("HELLO", "\"HELLO\" is not a command"),
            ("\u{0}\u{1b}[2J", "is not a command"),
            ("GET / HTTP/1.1", "\"GET\" is not a command"),
            ("PING 1", "PING takes no arguments"),
            ("AUTH", "one token"),
            ("AUTH Bearer b", "one token, without Bearer"),
            ("SUBSCRIBE 101", "\"101\" is not an option"),
            ("SUBSCRIBE user=101", "\"user=101\" is not an option"),
            ("SUBSCRIBE users=", "users="),
            ("SUBSCRIBE users=101,,202", "users="),
            ("SUBSCRIBE users=0", "users="),
            ("SUBSCRIBE users=+1", "users="),
            ("SUBSCRIBE users=9223372036854775808", "users="),
            ("SUBSCRIBE users=1 users=2", "more than once"),
            ("SUBSCRIBE after=", "after="),
            ("SUBSCRIBE every=0", "every="),
            ("SUBSCRIBE every=1.5", "every="),
            ("SUBSCRIBE every=", "every="),
            ("SUBSCRIBE every=99999999999999999999", "every="),
        ] {
            let reason = parse(line.as_bytes()).unwrap_err();
            assert!(reason.contains(part), "{line}: {reason}");
        }
        assert!(parse(b"\xff\xfe").unwrap_err().contains("UTF-8"));
        assert!(parse("x".repeat(4000).as_bytes()).unwrap_err().len() < 300);
    }
}
