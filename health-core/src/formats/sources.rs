//! Names of sources as devices send them.

use unicode_normalization::UnicodeNormalization;

use crate::sample::Source;

/// How much of a name is read. A name of [`Source::BYTES_MAX`] bytes may have been longer before it was normalized.
const READ_BYTES_MAX: usize = 4 << 10;

/// Returns the source with the name that a device sends.
///
/// In this order:
///
/// 1. `<<HKDevice: 0x…>, name:X, …>` becomes X. The address changes with every record, so one phone would become many.
/// 2. Unicode normalization form C.
/// 3. Each run of white space becomes one blank, and other control characters are removed.
/// 4. Blanks at both ends are removed, and the name is cut to [`Source::BYTES_MAX`] bytes at a character.
///
/// ```
/// use health_core::formats::source_name;
///
/// assert_eq!(source_name("<<HKDevice: 0x283>, name:iPhone, model:iPhone>").as_str(), "iPhone");
/// assert_eq!(source_name(" Ada\u{2019}s\u{a0}\t watch\n").as_str(), "Ada\u{2019}s watch");
/// ```
pub fn source_name(text: &str) -> Source {
    let text = device_name(text).unwrap_or(text);
    let text = &text[..text.floor_char_boundary(READ_BYTES_MAX)];
    let (mut name, mut was_space) = (String::new(), false);
    for character in text.nfc() {
        let is_space = character.is_whitespace();
        if is_space && !was_space {
            name.push(' ');
        } else if !is_space && !character.is_control() {
            name.push(character);
        }
        was_space = is_space;
    }
    let name = name.trim();
    let name = &name[..name.floor_char_boundary(Source::BYTES_MAX)];
    Source::new(name).unwrap_or_default()
}

/// Returns X of `<<HKDevice: 0x…>, name:X, manufacturer:…>`.
fn device_name(text: &str) -> Option<&str> {
    let fields = text.trim_start().strip_prefix("<<HKDevice")?;
    let (_, name) = fields.split_once(", name:")?;
    // A name may contain a comma. It ends before the next field, or with the description.
    let fields = [
        ", manufacturer:",
        ", model:",
        ", hardware:",
        ", firmware:",
        ", software:",
        ", localIdentifier:",
        ", UDIDeviceIdentifier:",
        ", creation date:",
    ];
    let end = fields.iter().filter_map(|field| name.find(field)).min();
    let end = end.or_else(|| name.rfind('>')).unwrap_or(name.len());
    Some(&name[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_that_a_person_would_read() {
        let device = |rest: &str| format!("<<HKDevice: 0x2837a8c30>{rest}");
        for (text, expected) in [
            (String::new(), ""),
            (" \t\u{a0}\u{202f} ".to_owned(), ""),
            ("Ada\u{2019}s Apple\u{a0}Watch".to_owned(), "Ada\u{2019}s Apple Watch"),
            ("a\u{b}b\r\nc\u{7}d".to_owned(), "a b cd"),
            ("e\u{301}".to_owned(), "\u{e9}"),
            (
                "Ada’s iPhone|Ada’s Apple Watch".to_owned(),
                "Ada’s iPhone|Ada’s Apple Watch",
            ),
            (
                device(", name:iPhone, manufacturer:Apple Inc., model:iPhone>"),
                "iPhone",
            ),
            (device(", name:Polar, H10, model:H10>"), "Polar, H10"),
            (device(", name:Band>"), "Band"),
            (device(", model:H10>"), "<<HKDevice: 0x2837a8c30>, model:H10>"),
            ("é".repeat(40), "éééééééééééééééééééééééééééééééé"),
            (format!("{} {}", "x".repeat(63), "y"), &format!("{} ", "x".repeat(63))),
            (" \u{7}a \u{7} b".to_owned(), "a  b"),
        ] {
            assert_eq!(source_name(&text).as_str(), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_valid_name(text in "\\PC{0,40}|[ \\t\u{a0}a-c\u{301}<>:,]{0,90}|(?s).{0,200}") {
            let name = source_name(&text);
            prop_assert!(!name.as_str().starts_with(' '));
            // A text with a letter has a name.
            prop_assert!(!name.as_str().is_empty() || !text.contains(char::is_alphabetic));
        }
    }
}
