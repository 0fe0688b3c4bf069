//! What a client of the feed can say.

use std::{collections::BTreeSet, time::Duration};

use health_core::{Cursor, UserId};

/// Bytes a line may have, its end not counted.
pub(crate) const LONGEST_LINE_BYTES: usize = 4 << 10;

/// The longest interval of `every`, in milliseconds: an hour. Whoever wants less than that wants `GET /metrics`.
const LONGEST_EVERY_MS: u64 = 60 * 60 * 1000;

/// One line of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Subscribe(Subscribe),
    Auth,
    Ping,
    Quit,
}

/// What to send.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscribe {
    /// Only these users' samples.
    pub(crate) users: Option<BTreeSet<UserId>>,
    /// What came behind this cursor first.
    pub(crate) after: Option<Cursor>,
    /// At most one sample a user in this time.
    pub(crate) every: Option<Duration>,
}

/// Reads a line; none where it is blank. The error is a sentence for the client.
pub(crate) fn parse(line: &[u8]) -> Result<Option<Command>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())?;
    let mut words = line.split_ascii_whitespace();
    let Some(verb) = words.next() else { return Ok(None) };
    let command = match verb.to_ascii_uppercase().as_str() {
        "SUBSCRIBE" => return Subscribe::parse(words).map(|subscribe| Some(Command::Subscribe(subscribe))),
        "AUTH" => match (words.next(), words.next()) {
            (Some(_), None) => return Ok(Some(Command::Auth)),
            _ => return Err("AUTH takes one token".to_owned()),
        },
        "PING" => Command::Ping,
        "QUIT" => Command::Quit,
        _ => {
            return Err(format!(
                "{} is no command: SUBSCRIBE, AUTH, PING and QUIT are",
                quote(verb)
            ));
        }
    };
    match words.next() {
        None => Ok(Some(command)),
        Some(word) => Err(format!(
            "{} takes nothing behind it, and {} was",
            verb.to_ascii_uppercase(),
            quote(word)
        )),
    }
}

impl Subscribe {
    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut subscribe = Self::default();
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| {
                format!(
                    "{} is no option of SUBSCRIBE: users=, after= and every= are",
                    quote(word)
                )
            })?;
            let name = name.to_ascii_lowercase();
            let again = match name.as_str() {
                "users" => subscribe.users.replace(users(value)?).is_some(),
                "after" => subscribe.after.replace(cursor(value)?).is_some(),
                "every" => subscribe.every.replace(every(value)?).is_some(),
                _ => {
                    return Err(format!(
                        "{} is no option of SUBSCRIBE: users=, after= and every= are",
                        quote(&name)
                    ));
                }
            };
            if again {
                return Err(format!("{name}= is given more than once"));
            }
        }
        Ok(subscribe)
    }
}

fn users(value: &str) -> Result<BTreeSet<UserId>, String> {
    let user = |id: &str| {
        let digits = id.bytes().all(|byte| byte.is_ascii_digit());
        let id = digits
            .then(|| id.parse().ok())
            .flatten()
            .and_then(|id| UserId::new(id).ok());
        id.ok_or_else(|| format!("users={} is not a list of user ids such as users=101,202", quote(value)))
    };
    value.split(',').map(user).collect()
}

fn cursor(value: &str) -> Result<Cursor, String> {
    if value.is_empty() {
        Err("after= needs a cursor".to_owned())
    } else {
        Ok(Cursor::new(value))
    }
}

fn every(value: &str) -> Result<Duration, String> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let millis = digits
        .then(|| value.parse().ok())
        .flatten()
        .filter(|millis| (1..=LONGEST_EVERY_MS).contains(millis));
    millis.map(Duration::from_millis).ok_or_else(|| {
        format!(
            "every={} is not a number of milliseconds from 1 to {LONGEST_EVERY_MS}",
            quote(value)
        )
    })
}

/// As much of a word as an error has room for, in quotation marks.
fn quote(word: &str) -> String {
    const LONGEST_CHARS: usize = 64;
    let mut head: String = word.chars().take(LONGEST_CHARS).collect();
    if head.len() < word.len() {
        head.push('…');
    }
    format!("{head:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(line: &str) -> Subscribe {
        match parse(line.as_bytes()) {
            Ok(Some(Command::Subscribe(subscribe))) => subscribe,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn reads_every_command_in_any_case() {
        assert_eq!(subscribe("SUBSCRIBE"), Subscribe::default());
        let all = subscribe(" Subscribe\tEVERY=500  after=abc-1 users=202,101,202 ");
        let users: Vec<_> = all.users.unwrap().into_iter().map(UserId::get).collect();
        assert_eq!(users, [101, 202]);
        assert_eq!(all.after, Some(Cursor::new("abc-1")));
        assert_eq!(all.every, Some(Duration::from_millis(500)));
        assert_eq!(parse(b"ping"), Ok(Some(Command::Ping)));
        assert_eq!(parse(b"Quit "), Ok(Some(Command::Quit)));
        assert_eq!(parse(b"AUTH secret"), Ok(Some(Command::Auth)));
        assert_eq!(parse(b""), Ok(None));
        assert_eq!(parse(b" \t"), Ok(None));
    }

    #[test]
    fn says_what_is_wrong_with_the_others() {
        for (line, part) in [
            ("HELLO", "\"HELLO\" is no command"),
            ("\u{0}\u{1b}[2J", "is no command"),
            ("GET / HTTP/1.1", "\"GET\" is no command"),
            ("PING 1", "PING takes nothing"),
            ("AUTH", "one token"),
            ("AUTH a b", "one token"),
            ("SUBSCRIBE 101", "no option"),
            ("SUBSCRIBE user=101", "\"user\" is no option"),
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
