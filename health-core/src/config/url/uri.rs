//! The form `postgres://user:password@host:port/database?key=value` of a database URL, with the rules of libpq.
//!
//! A password that was not percent-encoded moves the borders between the parts. The parser looks for the signs of that,
//! because the fault would otherwise appear in another part, or as a host that does not exist.

use crate::config::url::{
    fault::UrlFault,
    parameters::{Parameters, supported},
};

/// Parses what follows `postgres://`.
pub(crate) fn parse(text: &str) -> Result<Parameters, UrlFault> {
    let mut parameters = Parameters::default();
    let (credentials, rest) = split_credentials(text)?;
    if let Some(credentials) = credentials {
        let (user, password) = split_at(credentials, ':');
        parameters.set("user", decode("user name", user)?)?;
        if let Some(password) = password {
            parameters.set("password", decode("password", password)?)?;
        }
    }
    let has_credentials = credentials.is_some();
    match parse_rest(rest, &mut parameters) {
        // A second `@`: the first one was probably part of the password.
        Err(_) if has_credentials && rest.contains('@') => Err(raw_at()),
        outcome => outcome.map(|()| parameters),
    }
}

/// Parses what follows the `@`: the hosts, the database and the parameters.
fn parse_rest(text: &str, parameters: &mut Parameters) -> Result<(), UrlFault> {
    let (before_query, query) = split_at(text, '?');
    if before_query.contains('@') {
        return Err(raw_at());
    }
    let (hosts, database) = split_at(before_query, '/');
    parse_hosts(hosts, parameters)?;
    if let Some(database) = database {
        parameters.set("dbname", decode("database name", database)?)?;
    }
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        parse_pair(pair, parameters)?;
    }
    Ok(())
}

/// Splits the user name and the password off.
fn split_credentials(text: &str) -> Result<(Option<&str>, &str), UrlFault> {
    let Some(at) = text.find('@') else {
        return Ok((None, text));
    };
    let before = &text[..at];
    // A value after `?` may contain an `@`, and a password a `?`.
    let is_in_query = before
        .split_once('?')
        .is_some_and(|(_, query)| query.split_once('=').is_some_and(|(name, _)| supported(name).is_some()));
    if is_in_query {
        Ok((None, text))
    } else if before.contains('/') {
        Err(UrlFault::SlashBeforeAt)
    } else {
        Ok((Some(before), &text[at + 1..]))
    }
}

fn parse_hosts(text: &str, parameters: &mut Parameters) -> Result<(), UrlFault> {
    if text.is_empty() {
        return Ok(());
    }
    let (mut hosts, mut ports): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    for (index, part) in text.split(',').enumerate() {
        if index > 0 {
            hosts.push(b',');
            ports.push(b',');
        }
        let (host, port) = split_port(part)?;
        let host = decode("host", host)?;
        if let Some(raw) = host.iter().find(|byte| b"#@?\\\"' ".contains(byte)) {
            return Err(UrlFault::RawCharacter {
                part: "host",
                character: char::from(*raw),
            });
        }
        hosts.extend(host);
        ports.extend(decode("port", port)?);
    }
    parameters.set("host", hosts)?;
    // Commas only stand for the default port of each host.
    if ports.iter().any(|byte| *byte != b',') {
        parameters.set("port", ports)?;
    }
    Ok(())
}

/// Splits `host:port`. The host is without the brackets of an IPv6 address, and a missing port is empty.
fn split_port(text: &str) -> Result<(&str, &str), UrlFault> {
    let Some(bracketed) = text.strip_prefix('[') else {
        let (host, port) = split_at(text, ':');
        return Ok((host, port.unwrap_or_default()));
    };
    let (host, after) = bracketed.split_once(']').ok_or(UrlFault::Bracket)?;
    match after.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if after.is_empty() => Ok((host, "")),
        None => Err(UrlFault::Bracket),
    }
}

fn parse_pair(pair: &str, parameters: &mut Parameters) -> Result<(), UrlFault> {
    let (name, value) = pair.split_once('=').ok_or(UrlFault::PairWithoutValue)?;
    let name = String::from_utf8(decode("name of a parameter", name)?)
        .map_err(|_| UrlFault::NotUtf8("name of a parameter"))?;
    parameters.set(
        &name,
        decode(supported(&name).unwrap_or("value of a parameter"), value)?,
    )
}

fn raw_at() -> UrlFault {
    UrlFault::RawCharacter {
        part: "password or the database name",
        character: '@',
    }
}

fn split_at(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator)
        .map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Replaces `%` and two hexadecimal digits by the byte that they mean.
fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, UrlFault> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
        let value = value.and_then(|value| u8::try_from(value).ok());
        decoded.push(value.ok_or(UrlFault::RawPercent(part))?);
    }
    Ok(decoded)
}
