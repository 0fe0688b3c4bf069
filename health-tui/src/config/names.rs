//! The names file: names to show in place of user ids.

use std::collections::HashMap;

/// A line of the names file that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub(super) struct NamesError {
    /// From 1.
    pub(super) line: usize,
    pub(super) fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("`{line}` has no name. Write an id and a name, such as: 101 Ada Lovelace")]
    NoName { line: String },
    #[error("`{id}` is not a user id. Write an id and a name, such as: 101 Ada Lovelace")]
    InvalidId { id: String },
    #[error("user {id} has two names, `{first}` and `{second}`. Remove one of the lines.")]
    Duplicate { id: i64, first: String, second: String },
}

/// Parses a names file: on each line an id, then a space, a tab or a comma, then the name. Lines that start with `#`
/// are comments.
pub(super) fn parse(text: &str) -> Result<HashMap<i64, String>, NamesError> {
    let mut names = HashMap::new();
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (id, name) = parse_line(text).map_err(|fault| NamesError { line, fault })?;
        if let Some(first) = names.insert(id, name.clone()) {
            let second = name;
            return Err(NamesError {
                line,
                fault: Fault::Duplicate { id, first, second },
            });
        }
    }
    Ok(names)
}

fn parse_line(line: &str) -> Result<(i64, String), Fault> {
    let (id, name) = line
        .split_once([' ', '\t', ','])
        .ok_or_else(|| Fault::NoName { line: line.to_owned() })?;
    let id = id
        .parse()
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| Fault::InvalidId { id: id.to_owned() })?;
    // A control character in a name would change the terminal.
    Ok((id, name.trim().chars().filter(|c| !c.is_control()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_a_space_a_tab_or_a_comma() {
        let names = parse("# who\n101 Ada Lovelace\n\n202\tGrace\n303,Alan, the one\n").unwrap();
        assert_eq!((names[&101].as_str(), names[&202].as_str()), ("Ada Lovelace", "Grace"));
        assert_eq!(names[&303], "Alan, the one");
    }

    #[test]
    fn an_error_names_its_line() {
        for (text, message) in [
            ("1 a\n0 b", "line 2: `0` is not a user id"),
            ("1 a\n\n1 b", "line 3: user 1 has two names, `a` and `b`"),
            ("x", "line 1: `x` has no name"),
            ("Ada 1", "line 1: `Ada` is not a user id"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
