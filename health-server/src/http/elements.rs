//! The records of an `application/json` body, one by one.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// A body that is JSON as a whole: its records are the elements of its array, or the one value it is.
///
/// The body is checked whole before the first record is looked at, so that a fault of its end stores nothing of its
/// beginning. The check looks at the grammar alone: a number out of range or half a surrogate pair is the fault of one record.
#[derive(Debug)]
pub(crate) struct Elements<'a> {
    rest: &'a str,
    array: bool,
}

impl<'a> Elements<'a> {
    /// A body, or why it is no JSON.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(body).map_err(|error| format!("not UTF-8 from byte {}", error.valid_up_to()))?;
        let text = skip_space(text);
        if text.is_empty() {
            return Ok(Self { rest: "", array: false });
        }
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
        Ok(match text.strip_prefix('[') {
            Some(rest) => Self { rest, array: true },
            None => Self {
                rest: text,
                array: false,
            },
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut rest = skip_space(self.rest);
        if self.array {
            rest = skip_space(rest.strip_prefix(',').unwrap_or(rest));
            if rest.starts_with(']') {
                rest = "";
            }
        }
        self.rest = "";
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        // The text was checked, so an error here cannot be; if it were, the records would end rather than repeat.
        let value = values.next()?.ok()?;
        self.rest = &rest[values.byte_offset()..];
        Some(value.get())
    }
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gives_each_record_as_it_was_written() {
        for (body, expected) in [
            ("", &[][..]),
            (" \r\n\t", &[]),
            ("[]", &[]),
            (" [ ] ", &[]),
            ("{}", &["{}"]),
            (" {\"a\": [1, 2]} \n", &["{\"a\": [1, 2]}"]),
            ("5", &["5"]),
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
            let found: Vec<_> = Elements::parse(body.as_bytes()).unwrap().collect();
            assert_eq!(found, expected, "{body}");
        }
    }

    #[test]
    fn refuses_what_is_not_json_as_a_whole() {
        for body in [
            "[1,]",
            "[1",
            "{}{}",
            "{} x",
            "[1] 2",
            "NaN",
            "[NaN]",
            "{'a':1}",
            "\u{feff}{}",
            "[,1]",
            "[1 2]",
            "\"\u{1}\"",
            "01",
            "[1}",
        ] {
            assert!(Elements::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Elements::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_is_no_way_in() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        // Whether it is taken or refused is the parser's affair; that we are still here is ours.
        if let Ok(elements) = Elements::parse(deep.as_bytes()) {
            assert!(elements.count() <= 1);
        }
    }

    proptest! {
        /// Most of this is no JSON, and some of it nearly is.
        #[test]
        fn any_text_gives_what_a_whole_parse_gives(
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
            prop_assert_eq!(Elements::parse(text.as_bytes()).ok().map(Iterator::collect::<Vec<_>>), whole);
        }
    }
}
