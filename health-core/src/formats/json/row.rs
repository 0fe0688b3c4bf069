//! One element of a list: the values of the fields that a format asks for.

use crate::formats::{
    entry::{Fault, Place},
    format_error::{ENTRY_BYTES_MAX, FormatError},
    json::cursor::{Container, Cursor, ScalarKind, Step},
};

/// The paths of the fields of a row, such as `["metadata", "device", "model"]`.
pub(crate) type Fields = &'static [&'static [&'static str]];

/// The values of a row, in the order of its [`Fields`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) values: Vec<Option<Value>>,
    /// Whether the element is no object.
    pub(crate) is_no_object: bool,
}

/// A value that is not `null`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    /// A number as it was written.
    Number(String),
    Boolean,
    Container,
}

/// Reads one element of a list.
pub(crate) struct RowReader {
    fields: Fields,
    row: Row,
    /// The offset at which the element begins.
    start: usize,
    /// The keys that lead to the current value.
    path: Vec<String>,
    /// The number of open objects, except skipped ones.
    depth: usize,
    /// The number of open containers that are skipped: arrays, and what is in them.
    skipped: usize,
}

impl Row {
    /// Returns a text.
    ///
    /// # Errors
    /// A [`Fault`] if the value has another type.
    pub(crate) fn text(&self, field: usize, name: &str) -> Result<Option<&str>, Fault> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(Fault::new(format!("{name} is {}; a text is required", other.kind()))),
        }
    }

    /// Returns a number.
    ///
    /// # Errors
    /// A [`Fault`] if the value has another type or is out of range.
    pub(crate) fn number(&self, field: usize, name: &str) -> Result<Option<f64>, Fault> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Number(text)) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(Fault::new(format!("{name} is out of range"))),
            },
            Some(other) => Err(Fault::new(format!("{name} is {}; a number is required", other.kind()))),
        }
    }

    fn value(&self, field: usize) -> Option<&Value> {
        self.values.get(field)?.as_ref()
    }
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Boolean => "a boolean",
            Self::Container => "an object or a list",
        }
    }
}

impl RowReader {
    /// Begins with the first step of an element. Returns the row at once if the element is no container.
    pub(crate) fn begin(fields: Fields, step: Step, offset: usize) -> Result<Row, Self> {
        let is_no_object = step != Step::Start(Container::Object);
        let row = Row {
            values: vec![None; fields.len()],
            is_no_object,
        };
        if matches!(step, Step::Scalar(_)) {
            return Ok(row);
        }
        Err(Self {
            fields,
            row,
            start: offset,
            path: Vec::new(),
            depth: usize::from(!is_no_object),
            skipped: usize::from(is_no_object),
        })
    }

    /// Takes the next step. Returns the row once it is complete. `place` is that of the element.
    pub(crate) fn step(&mut self, step: Step, cursor: &Cursor, place: &Place) -> Result<Option<Row>, FormatError> {
        if self.bytes(cursor) > ENTRY_BYTES_MAX {
            return Err(FormatError::too_long(place));
        }
        match step {
            Step::Start(_) if self.skipped > 0 => self.skipped += 1,
            Step::Start(Container::Array) => {
                self.set(Value::Container);
                self.skipped = 1;
            }
            Step::Start(Container::Object) => {
                self.set(Value::Container);
                self.depth += 1;
            }
            Step::End if self.skipped > 0 => self.skipped -= 1,
            Step::End => {
                self.depth -= 1;
                self.path.truncate(self.depth);
            }
            Step::Key if self.skipped == 0 => {
                self.path.truncate(self.depth - 1);
                self.path.push(cursor.text()?.to_owned());
            }
            Step::Scalar(kind) if self.skipped == 0 => self.scalar(kind, cursor)?,
            _ => {}
        }
        let is_complete = self.depth == 0 && self.skipped == 0;
        Ok(is_complete.then(|| std::mem::take(&mut self.row)))
    }

    /// Returns the length of the element up to now, in bytes.
    pub(crate) fn bytes(&self, cursor: &Cursor) -> usize {
        cursor.offset() - self.start + 1
    }

    fn scalar(&mut self, kind: ScalarKind, cursor: &Cursor) -> Result<(), FormatError> {
        let value = match kind {
            ScalarKind::Text => Value::Text(cursor.text()?.to_owned()),
            ScalarKind::Number => Value::Number(cursor.text()?.to_owned()),
            ScalarKind::Boolean => Value::Boolean,
            ScalarKind::Null => return Ok(()),
        };
        self.set(value);
        Ok(())
    }

    fn set(&mut self, value: Value) {
        let mut fields = self.fields.iter();
        if let Some(index) = fields.position(|field| field.iter().eq(self.path.iter())) {
            self.row.values[index] = Some(value);
        }
    }
}
