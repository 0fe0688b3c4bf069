//! The reader of HC Webhook, an app for Android that posts what Health Connect has: JSON.

mod list;

use crate::{
    formats::{
        entry::{Entry, Place},
        format_error::FormatError,
        health_connect::list::{Kind, Rows},
        json::{
            cursor::{Container, Cursor, ScalarKind, Step},
            row::{Row, RowReader},
        },
    },
    record::ReceiveClock,
};

/// Reads a body while it arrives.
///
/// Push bytes, and take entries until there is none. After the last bytes, call [`finish`](Self::finish), and take the
/// rest.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use health_core::{ReceiveClock, formats::{Entry, HealthConnect}};
///
/// let clock = ReceiveClock { received_at: Utc::now(), max_future: TimeDelta::minutes(5) };
/// let mut reader = HealthConnect::new();
/// reader.push(br#"{"heart_rate":[{"bpm":60,"time":"2026-03-03T09:00:00Z"}],"sleep":[{},{}]}"#);
/// reader.finish();
/// assert!(matches!(reader.next(&clock), Ok(Some(Entry::Record(_)))));
/// assert_eq!(reader.next(&clock), Ok(Some(Entry::ignored("sleep", 2))));
/// assert_eq!(reader.next(&clock), Ok(None));
/// ```
pub struct HealthConnect {
    cursor: Cursor,
    level: Level,
    /// The last key at the top.
    key: String,
    /// Whether a key at the top is one of [`KNOWN_KEYS`].
    is_known: bool,
    has_data: bool,
    kind: Option<Kind>,
    /// The rows of the current list so far.
    count: u64,
    row: Option<RowReader>,
    rows: Rows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Start,
    Root,
    List,
    End,
}

/// A body has at least one of these keys. The others name lists that the user has chosen in the app.
pub(super) const KNOWN_KEYS: [&str; 6] = [
    "timestamp",
    "app_version",
    "heart_rate",
    "steps",
    "active_calories",
    "total_calories",
];

impl HealthConnect {
    /// Creates a reader of one body.
    #[expect(clippy::new_without_default, reason = "a reader is not a value with a default")]
    pub fn new() -> Self {
        Self {
            cursor: Cursor::new(),
            level: Level::Start,
            key: String::new(),
            is_known: false,
            has_data: false,
            kind: None,
            count: 0,
            row: None,
            rows: Rows::default(),
        }
    }

    /// Adds bytes. All entries of the bytes before must have been taken.
    pub fn push(&mut self, bytes: &[u8]) {
        self.cursor.push(bytes);
    }

    /// Says that there are no more bytes.
    pub fn finish(&mut self) {
        self.cursor.finish();
    }

    /// Returns the next entry, or `None` if the bytes so far have no more.
    ///
    /// # Errors
    /// A [`FormatError`] if the body cannot be read further.
    pub fn next(&mut self, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError> {
        loop {
            let step = self.cursor.next(&self.place())?;
            match step {
                Step::NeedMore => return Ok(None),
                Step::Complete if self.is_known => return Ok(None),
                Step::Complete => return Err(self.wrong_form()),
                _ => {}
            }
            if let Some(entry) = self.step(step, clock)? {
                return Ok(Some(entry));
            }
        }
    }

    fn step(&mut self, step: Step, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError> {
        let place = self.place();
        if let Some(reader) = &mut self.row {
            let row = reader.step(step, &self.cursor, &place)?;
            return Ok(row.map(|row| self.row_entry(&row, clock)));
        }
        match self.level {
            Level::Start if step == Step::Start(Container::Object) => self.level = Level::Root,
            Level::Start => return Err(self.wrong_form()),
            Level::Root => self.root_step(step)?,
            Level::List => return Ok(self.list_step(step, clock)),
            Level::End => {}
        }
        Ok(None)
    }

    fn root_step(&mut self, step: Step) -> Result<(), FormatError> {
        match step {
            Step::End => self.level = Level::End,
            Step::Key => {
                self.cursor.text()?.clone_into(&mut self.key);
                self.is_known |= KNOWN_KEYS.contains(&self.key.as_str());
                self.has_data |= self.key == "data";
                self.kind = Kind::from_name(&self.key);
            }
            Step::Start(Container::Array) => {
                self.count = 0;
                self.level = Level::List;
            }
            Step::Scalar(ScalarKind::Null) => {}
            _ if self.kind.is_some() => {
                return Err(FormatError::WrongForm(
                    "has \"heart_rate\", \"steps\" or \"active_calories\" that is no list",
                ));
            }
            // The version of the app, its settings and other values are no entries.
            other => self.cursor.skip(other),
        }
        Ok(())
    }

    fn list_step(&mut self, step: Step, clock: &ReceiveClock) -> Option<Entry> {
        if step == Step::End {
            self.level = Level::Root;
            let is_ignored = self.kind.is_none() && self.count > 0;
            return is_ignored.then(|| Entry::ignored(self.key.clone(), self.count));
        }
        if self.kind.is_none() {
            self.count += 1;
            self.cursor.skip(step);
            return None;
        }
        match RowReader::begin(list::FIELDS, step, self.cursor.offset()) {
            Ok(row) => Some(self.row_entry(&row, clock)),
            Err(reader) => {
                self.row = Some(reader);
                None
            }
        }
    }

    fn row_entry(&mut self, row: &Row, clock: &ReceiveClock) -> Entry {
        let place = self.place();
        self.row = None;
        self.count += 1;
        match self.kind {
            Some(kind) => self.rows.entry(kind, place, row, clock),
            None => Entry::ignored(self.key.clone(), 1),
        }
    }

    /// Returns where the reader is.
    fn place(&self) -> Place {
        match (self.level, self.kind) {
            (Level::List, Some(kind)) => Place::new(kind.name(), self.count),
            (Level::List, None) => Place::new(self.key.clone(), self.count),
            _ => Place::default(),
        }
    }

    fn wrong_form(&self) -> FormatError {
        if self.has_data {
            return FormatError::OfHealthAutoExport;
        }
        FormatError::WrongForm(
            "has none of timestamp, app_version, heart_rate, steps, active_calories and total_calories, as HC Webhook writes \
             them",
        )
    }
}

#[cfg(test)]
mod tests;
