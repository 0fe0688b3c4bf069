//! The form `key=value key='a value'` of a database URL, with the rules of libpq.

use std::{iter::Peekable, str::Chars};

use crate::config::url::{
    fault::UrlFault,
    parameters::{Parameters, supported},
};

/// Parses pairs that are separated by white space.
pub(crate) fn parse(text: &str) -> Result<Parameters, UrlFault> {
    let mut parameters = Parameters::default();
    let mut rest = text.chars().peekable();
    loop {
        skip_space(&mut rest);
        if rest.peek().is_none() {
            return Ok(parameters);
        }
        let name = take_while(&mut rest, |character| character != '=' && !character.is_whitespace());
        skip_space(&mut rest);
        // The word may be part of a password with a space, so no message shows it.
        if rest.next() != Some('=') {
            return Err(UrlFault::WordWithoutValue);
        }
        skip_space(&mut rest);
        let value = value(&mut rest).ok_or(UrlFault::UnterminatedValue(supported(&name).unwrap_or("a parameter")))?;
        parameters.set(&name, value)?;
    }
}

/// Reads a value. A backslash takes the next character literally. Returns `None` if a closing quote is missing.
fn value(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let is_quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.next() {
            Some('\'') if is_quoted => return Some(value),
            Some('\\') => value.extend(rest.next()),
            Some(character) if character.is_whitespace() && !is_quoted => return Some(value),
            Some(character) => value.push(character),
            None => return (!is_quoted).then_some(value),
        }
    }
}

fn skip_space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|character| character.is_whitespace()).is_some() {}
}

fn take_while(rest: &mut Peekable<Chars<'_>>, is_part: impl Fn(char) -> bool) -> String {
    let mut taken = String::new();
    while let Some(character) = rest.next_if(|character| is_part(*character)) {
        taken.push(character);
    }
    taken
}
