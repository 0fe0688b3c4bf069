//! Database URLs, and pairs in libpq's form: what [`Config::from_url`](crate::Config::from_url) accepts.

pub(crate) mod fault;
mod key_values;
pub(crate) mod parameters;
pub(crate) mod settings;
pub(crate) mod supported;
#[cfg(test)]
mod tests;
mod uri;

use crate::config::url::{fault::UrlFault, parameters::Parameters};

/// Parses a database URL in one of its two forms.
pub(crate) fn parse(text: &str) -> Result<Parameters, UrlFault> {
    let text = text.trim();
    if let Some(quote) = text.chars().next().filter(|first| "\"'`“”".contains(*first)) {
        return Err(UrlFault::Quoted(quote));
    }
    match scheme(text) {
        Some((scheme, rest)) if ["postgres://", "postgresql://"].contains(&scheme.to_ascii_lowercase().as_str()) => {
            uri::parse(rest)
        }
        Some((scheme, _)) => Err(UrlFault::Scheme(scheme.to_owned())),
        None if text.contains('=') => key_values::parse(text),
        None => Err(UrlFault::Unrecognisable),
    }
}

/// Splits the scheme off, with its slashes. `jdbc:postgresql://` is one scheme.
///
/// Other text before `://` is not taken for a scheme, and so never shown: it may be part of a password.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let end = match text.find("://") {
        Some(colon) => colon + "://".len(),
        None => text.find(':')? + 1,
    };
    let (scheme, rest) = text.split_at(end);
    let lower = scheme.to_ascii_lowercase();
    let is_name = |character: char| character.is_ascii_alphanumeric() || "+-.:/".contains(character);
    let is_known = ["postgres", "jdbc:", "psql:", "pgsql:", "pg:", "mysql", "sqlite", "http"]
        .iter()
        .any(|known| lower.starts_with(known));
    (is_known && scheme.chars().all(is_name)).then_some((scheme, rest))
}
