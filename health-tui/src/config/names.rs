//! The file of names.

use std::collections::HashMap;

/// One user a line: the id, then a space, tab or comma, then the name. Lines that begin with `#` are comments.
/// What is wrong is told with its line, from 1.
pub(super) fn parse(text: &str) -> Result<HashMap<i64, String>, (usize, String)> {
    let mut names = HashMap::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |reason: String| (i + 1, reason);
        let (id, name) = line
            .split_once([' ', '\t', ','])
            .ok_or_else(|| wrong(format!("`{line}` has no name; write for example: 101 Ada Lovelace")))?;
        let id = id
            .parse::<i64>()
            .ok()
            .filter(|id| *id > 0)
            .ok_or_else(|| wrong(format!("`{id}` is no user id; write for example: 101 Ada Lovelace")))?;
        let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
        if let Some(other) = names.insert(id, name) {
            return Err(wrong(format!("{id} is named twice, first `{other}`")));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_comments_and_every_separator() {
        let names = parse("# who\n101 Ada Lovelace\n\n202\tGrace\n303,Alan, the one\n").unwrap();
        assert_eq!((names[&101].as_str(), names[&202].as_str()), ("Ada Lovelace", "Grace"));
        assert_eq!(names[&303], "Alan, the one");
        for (text, line, begins) in [
            ("1 a\n0 b", 2, "`0` is no user id"),
            ("1 a\n\n1 b", 3, "1 is named twice, first `a`"),
            ("x", 1, "`x` has no name"),
            ("Ada 1", 1, "`Ada` is no user id"),
        ] {
            let (at, why) = parse(text).unwrap_err();
            assert!(at == line && why.starts_with(begins), "{at} {why}");
        }
    }
}
