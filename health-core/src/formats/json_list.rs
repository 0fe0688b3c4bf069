//! The elements of a JSON list, one after the other, in bounded memory.

use std::io::{BufRead, Read};

use super::{damage::Damage, text_input::TextInput};

/// A reader of a JSON list. It finds where elements end; what an element contains is for its parser.
pub(super) struct JsonList<R> {
    input: TextInput<R>,
    element: Vec<u8>,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Begin,
    Inside,
    End,
}

/// Where the bytes of an element are, relative to strings and nested values.
#[derive(Default)]
struct Nesting {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

/// What follows an element.
enum Follows {
    Comma,
    End,
}

impl<R: Read> JsonList<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input: TextInput::new(input),
            element: Vec::new(),
            state: State::Begin,
        }
    }

    /// Returns the text of the next element, or `None` at the end of the list.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Damage> {
        if self.state == State::Begin {
            match self.input.fill_buf()?.first() {
                Some(b'[') => self.input.consume(1),
                _ => return Err(Damage::Malformed("it is not a list".to_owned())),
            }
            self.state = State::Inside;
        }
        if self.state == State::End {
            return Ok(None);
        }
        self.input.begin_element();
        self.element.clear();
        let is_last = matches!(self.read_element()?, Follows::End);
        if is_last {
            self.state = State::End;
            self.expect_end()?;
            if self.element.iter().all(u8::is_ascii_whitespace) {
                return Ok(None);
            }
        }
        Ok(Some(&self.element))
    }

    fn read_element(&mut self) -> Result<Follows, Damage> {
        let mut nesting = Nesting::default();
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Err(Damage::BreaksOff);
            }
            let end = bytes.iter().position(|byte| nesting.is_end(*byte));
            self.element.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            let Some(end) = end else {
                let length = bytes.len();
                self.input.consume(length);
                continue;
            };
            let follows = match bytes[end] {
                b',' => Follows::Comma,
                b']' => Follows::End,
                _ => return Err(Damage::Malformed("its brackets do not match".to_owned())),
            };
            self.input.consume(end + 1);
            return Ok(follows);
        }
    }

    fn expect_end(&mut self) -> Result<(), Damage> {
        loop {
            self.input.begin_element();
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                return Err(Damage::Malformed("its list is followed by something else".to_owned()));
            }
            let length = bytes.len();
            self.input.consume(length);
        }
    }
}

impl Nesting {
    /// Goes over a byte. Returns whether it ends the element.
    fn is_end(&mut self, byte: u8) -> bool {
        if self.is_in_string {
            self.is_in_string = byte != b'"' || self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            return false;
        }
        match byte {
            b'"' => self.is_in_string = true,
            b'[' | b'{' => self.depth += 1,
            b',' if self.depth == 0 => return true,
            b']' | b'}' => match self.depth.checked_sub(1) {
                Some(depth) => self.depth = depth,
                None => return true,
            },
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(json: &str) -> (Vec<String>, Result<(), Damage>) {
        let mut list = JsonList::new(json.as_bytes());
        let mut elements = Vec::new();
        loop {
            match list.next() {
                Ok(Some(element)) => elements.push(String::from_utf8(element.to_vec()).unwrap().trim().to_owned()),
                Ok(None) => return (elements, Ok(())),
                Err(damage) => return (elements, Err(damage)),
            }
        }
    }

    #[test]
    fn the_elements_of_a_list_are_found_whatever_they_contain() {
        for (json, expected) in [
            ("[]", &[][..]),
            (" [ \n ] \n", &[]),
            ("[1]", &["1"]),
            (
                r#"[{"a":[1,"]},"]}, "x\\" ,null]"#,
                &[r#"{"a":[1,"]},"]}"#, r#""x\\""#, "null"],
            ),
            (r#"["\",",2]"#, &[r#""\",""#, "2"]),
            ("[1,,2]", &["1", "", "2"]),
        ] {
            let (found, end) = elements(json);
            assert_eq!(found, expected, "{json}");
            assert!(end.is_ok(), "{json}: {end:?}");
        }
    }

    #[test]
    fn a_damaged_list_gives_the_elements_before_the_damage() {
        for (json, expected, damage) in [
            (r#"[1,{"a":2"#, &["1"][..], "breaks off"),
            ("[1,2", &["1"], "breaks off"),
            ("[1,2}", &["1"], "brackets"),
            ("[1] [2]", &[], "followed"),
            ("{}", &[], "not a list"),
            ("", &[], "not a list"),
        ] {
            let (found, end) = elements(json);
            assert_eq!(found, expected, "{json}");
            assert!(end.unwrap_err().to_string().contains(damage), "{json}");
        }
    }
}
