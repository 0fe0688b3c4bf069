//! Quotes text from clients in messages: escapes it and cuts it to a length that fits into a sentence.

/// The characters of a client's text that a message quotes, at most: enough to recognise it, short enough for a log
/// line.
const MAX_QUOTED_CHARS: usize = 64;

/// Returns the beginning of `text` in quotation marks, with control characters escaped.
///
/// An ellipsis marks text that was cut.
pub(crate) fn quote(text: &str) -> String {
    let head = truncate(text);
    let ellipsis = if head.len() < text.len() { "…" } else { "" };
    format!("{:?}", format!("{head}{ellipsis}"))
}

/// Returns at most the first [`MAX_QUOTED_CHARS`] characters of `text`.
pub(crate) fn truncate(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_QUOTED_CHARS).map(|(index, _)| index);
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters_and_control_characters_are_escaped() {
        assert_eq!(quote("a\nb"), r#""a\nb""#);
        let umlauts = "ä".repeat(64);
        assert_eq!(quote(&umlauts), format!("\"{umlauts}\""));
        assert_eq!(quote(&(umlauts.clone() + "x")), format!("\"{umlauts}…\""));
    }
}
