//! A walk through the elements of an XML file that knows which elements are open.

use std::io::Read;

use quick_xml::events::{BytesStart, Event};
use smol_str::SmolStr;

use super::super::{
    damage::Damage,
    xml::{Xml, unescaped},
};

/// The longest text of an element that is kept. No number, time or name is longer.
const TEXT_BYTES_MAX: usize = 1024;

/// An element begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Open,
    Close,
}

/// A walk through the elements of a file.
pub(super) struct Walker<R: Read> {
    xml: Xml<R>,
    /// The names of the open elements without their prefixes, the innermost last.
    names: Vec<SmolStr>,
    /// The attributes of the element that was opened last.
    attributes: Vec<(SmolStr, String)>,
    /// The text of the innermost element up to here.
    text: String,
    is_closing: bool,
    is_empty: bool,
}

impl<R: Read> Walker<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            xml: Xml::new(input),
            names: Vec::new(),
            attributes: Vec::new(),
            text: String::new(),
            is_closing: false,
            is_empty: false,
        }
    }

    /// Goes on to the next beginning or end of an element, or returns `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Node>, Damage> {
        if std::mem::take(&mut self.is_empty) {
            self.is_closing = true;
            return Ok(Some(Node::Close));
        }
        if std::mem::take(&mut self.is_closing) {
            self.names.pop();
            self.text.clear();
        }
        loop {
            let event = self.xml.next()?;
            match &event {
                Event::Start(element) | Event::Empty(element) => {
                    self.is_empty = matches!(event, Event::Empty(_));
                    self.names.push(SmolStr::new(element.local_name().as_ref()));
                    self.text.clear();
                    self.attributes = attributes(element);
                    return Ok(Some(Node::Open));
                }
                Event::End(_) => {
                    self.is_closing = true;
                    return Ok(Some(Node::Close));
                }
                Event::Text(text) => append(&mut self.text, text),
                Event::CData(text) => append(&mut self.text, text),
                Event::GeneralRef(name) => append(&mut self.text, &unescaped(&format!("&{};", &**name))),
                Event::Eof => return Ok(None),
                _ => {}
            }
        }
    }

    /// Returns the name of the innermost element.
    pub(super) fn name(&self) -> &str {
        self.names.last().map_or("", SmolStr::as_str)
    }

    /// Returns whether an element of this name is open.
    pub(super) fn is_inside(&self, name: &str) -> bool {
        self.names.iter().any(|open| open == name)
    }

    /// Returns whether the innermost elements have these names.
    pub(super) fn is_at(&self, path: &[&str]) -> bool {
        let above = self.names.len().checked_sub(path.len());
        above.is_some_and(|above| self.names[above..].iter().eq(path))
    }

    /// Returns an attribute of the element that was opened last.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        let attribute = self.attributes.iter().find(|(known, _)| known == name);
        attribute.map(|(_, value)| value.clone())
    }

    /// Returns the text of the innermost element.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// Returns the attributes that can be read.
fn attributes(element: &BytesStart<'_>) -> Vec<(SmolStr, String)> {
    let readable = element.attributes().filter_map(Result::ok);
    readable
        .map(|attribute| {
            let name = SmolStr::new(attribute.key.local_name().as_ref());
            (name, unescaped(&attribute.value).into_owned())
        })
        .collect()
}

fn append(text: &mut String, more: &str) {
    let room = TEXT_BYTES_MAX.saturating_sub(text.len());
    text.push_str(&more[..more.floor_char_boundary(room)]);
}
