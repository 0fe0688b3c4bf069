//! The records of an `application/json` body.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// An iterator over the records of a JSON body: the elements of its array, or its only value.
///
/// The constructor parses the whole body before the first record is read, so a syntax error at the end prevents that
/// records before it are stored. That pass checks only the grammar. A number out of range or a lone surrogate makes one
/// record invalid, not the body.
///
/// `serde_json` deserializes an array only as a whole. This iterator holds no more than the body itself.
#[derive(Debug)]
pub(crate) struct JsonRecords<'a> {
    rest: &'a str,
    is_array: bool,
}

/// What JSON permits between values.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

impl<'a> JsonRecords<'a> {
    /// Checks the syntax of a body. The error says what is wrong with it.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(body)
            .map_err(|error| format!("the byte at offset {} is not UTF-8", error.valid_up_to()))?;
        // Programs on Windows write a byte order mark (BOM) at the start of a file.
        let text = skip_space(text.strip_prefix('\u{feff}').unwrap_or(text));
        if text.is_empty() {
            return Ok(Self {
                rest: "",
                is_array: false,
            });
        }
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| explain(text, &error))?;
        let array = text.strip_prefix('[');
        Ok(Self {
            rest: array.unwrap_or(text),
            is_array: array.is_some(),
        })
    }
}

impl<'a> Iterator for JsonRecords<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut rest = skip_space(std::mem::take(&mut self.rest));
        if !self.is_array {
            // The text was checked, so all of it is the one value.
            return Some(rest.trim_end_matches(SPACE)).filter(|value| !value.is_empty());
        }
        rest = skip_space(rest.strip_prefix(',').unwrap_or(rest));
        if rest.starts_with(']') {
            return None;
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        // The text was checked, so this cannot fail. If it did, the iterator would end here instead of repeating a
        // record.
        let value = values.next()?.ok()?;
        self.rest = &rest[values.byte_offset()..];
        Some(value.get())
    }
}

/// Returns what is wrong with a text that is not JSON, with the remedy for one object a line.
fn explain(text: &str, error: &serde_json::Error) -> String {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let begins_with_value = matches!(values.next(), Some(Ok(_)));
    let is_lines =
        begins_with_value && text.starts_with('{') && skip_space(&text[values.byte_offset()..]).starts_with('{');
    if is_lines {
        format!("{error}, where a second object begins. Send one object a line as application/x-ndjson, or an array")
    } else {
        error.to_string()
    }
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches(SPACE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn yields_each_record_as_it_was_written() {
        for (body, expected) in [
            ("", &[][..]),
            (" \r\n\t", &[]),
            ("[]", &[]),
            (" [ ] ", &[]),
            ("{}", &["{}"]),
            (" {\"a\": [1, 2]} \n", &["{\"a\": [1, 2]}"]),
            ("5", &["5"]),
            ("\u{feff}", &[]),
            ("\u{feff} {}\n", &["{}"]),
            ("null", &["null"]),
            (
                "[1,-2e400,\"],[\\\"\" , null,true\n,{\"a\":\"\\ud800\"},[[ ]]]",
                &[
                    "1",
                    "-2e400",
                    "\"],[\\\"\"",
                    "null",
                    "true",
                    "{\"a\":\"\\ud800\"}",
                    "[[ ]]",
                ],
            ),
        ] {
            let found: Vec<_> = JsonRecords::parse(body.as_bytes()).unwrap().collect();
            assert_eq!(found, expected, "{body}");
        }
    }

    #[test]
    fn refuses_a_body_that_is_not_json() {
        for body in [
            "[1,]",
            "[1",
            "{}{}",
            "{} x",
            "[1] 2",
            "NaN",
            "[NaN]",
            "{'a':1}",
            " \u{feff}{}",
            "\u{feff}\u{feff}{}",
            "{}\u{feff}",
            "[,1]",
            "[1 2]",
            "\"\u{1}\"",
            "01",
            "[1}",
        ] {
            assert!(JsonRecords::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(JsonRecords::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn one_object_a_line_is_named_with_its_media_type() {
        for (body, expected) in [
            ("{}\n{}", true),
            ("{}{}", true),
            ("\u{feff}{\"a\":1}\r\n\r\n{\"a\":", true),
            ("{}\nx", false),
            ("{\n{}", false),
            ("[{}]\n[{}]", false),
            ("[{}\n{}]", false),
        ] {
            let reason = JsonRecords::parse(body.as_bytes()).unwrap_err();
            assert_eq!(reason.contains("application/x-ndjson"), expected, "{body}: {reason}");
        }
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        // The parser may accept or refuse it.
        if let Ok(records) = JsonRecords::parse(deep.as_bytes()) {
            assert!(records.count() <= 1);
        }
    }

    proptest! {
        /// Most of these texts are not JSON, and many are nearly JSON.
        #[test]
        fn any_text_yields_the_records_that_a_parse_of_the_whole_yields(
            tokens in prop::collection::vec(
                prop::sample::select(vec!["[", "]", "{", "}", ",", ":", " ", "\n", "\"a\"", "\"\\ud800\"", "\"", "\\", "1", "-0.5e400", "null", "tru", "é"]),
                0..12,
            ),
            array in any::<bool>(),
        ) {
            let text = if array { format!("[{}]", tokens.concat()) } else { tokens.concat() };
            let whole = match serde_json::from_str::<Vec<&RawValue>>(&text) {
                Ok(values) => Some(values.into_iter().map(RawValue::get).collect::<Vec<_>>()),
                Err(_) if skip_space(&text).is_empty() => Some(Vec::new()),
                Err(_) => serde_json::from_str::<&RawValue>(&text).ok().map(|value| vec![value.get()]),
            };
            prop_assert_eq!(JsonRecords::parse(text.as_bytes()).ok().map(Iterator::collect::<Vec<_>>), whole);
        }
    }
}
