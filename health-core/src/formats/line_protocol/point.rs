//! One point of line protocol: `measurement[,tag=value…] field=value[,field=value…] [timestamp]`.

use std::borrow::Cow;

use crate::formats::{entry::Fault, line_protocol::misspelt::meant_by};

/// What we read of a point.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Point<'a> {
    /// The tags.
    pub(super) user_id: Option<Cow<'a, str>>,
    pub(super) source: Option<Cow<'a, str>>,
    pub(super) host: Option<Cow<'a, str>>,
    /// The fields.
    pub(super) heart_rate: Option<FieldValue>,
    pub(super) steps: Option<FieldValue>,
    pub(super) calories: Option<FieldValue>,
    /// The timestamp, in a unit that the request names.
    pub(super) timestamp: Option<i64>,
    /// Other names that look like ours: which one was meant, and what was written.
    pub(super) misspelt: Vec<(&'static str, Cow<'a, str>)>,
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FieldValue {
    /// A float, or an integer with `i` or `u`.
    Number(f64),
    Text,
    Boolean,
}

impl<'a> Point<'a> {
    /// Reads a line that is neither empty nor a comment.
    ///
    /// # Errors
    /// A [`Fault`] if the line does not have the form of a point.
    pub(super) fn parse(line: &'a str) -> Result<Self, Fault> {
        let mut point = Self::default();
        let (measurement, mut rest) = split(line, &[',', ' ']);
        if measurement.is_empty() {
            return Err(Fault::new("has no measurement"));
        }
        while let Some(tags) = rest.strip_prefix(',') {
            let (name, after) = split(tags, &['=', ',', ' ']);
            let Some(value) = after.strip_prefix('=') else {
                return Err(Fault::new("has a tag without a value"));
            };
            let (value, after) = split(value, &[',', ' ']);
            if name.is_empty() || value.is_empty() {
                return Err(Fault::new("has a tag without a name or a value"));
            }
            point.set_tag(unescape(name), unescape(value));
            rest = after;
        }
        let mut fields = rest.trim_start_matches(' ');
        loop {
            let (name, after) = split(fields, &['=', ',', ' ']);
            let value = after.strip_prefix('=').filter(|_| !name.is_empty());
            let value = value.ok_or_else(|| Fault::new("has no field, or a field without a name or a value"))?;
            let (value, after) = read_value(value)?;
            point.set_field(unescape(name), value);
            let Some(more) = after.strip_prefix(',') else {
                point.timestamp = read_timestamp(after)?;
                return Ok(point);
            };
            fields = more;
        }
    }

    /// Returns whether the point has neither heart rate nor steps nor energy.
    pub(super) fn is_without_our_fields(&self) -> bool {
        self.heart_rate.is_none() && self.steps.is_none() && self.calories.is_none()
    }

    fn set_tag(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        match &*name {
            "user_id" => self.user_id = Some(value),
            "source" => self.source = Some(value),
            "host" => self.host = Some(value),
            _ => self.note_other(name),
        }
    }

    fn set_field(&mut self, name: Cow<'a, str>, value: FieldValue) {
        match &*name {
            "heart_rate" => self.heart_rate = Some(value),
            "steps" => self.steps = Some(value),
            "calories" => self.calories = Some(value),
            _ => self.note_other(name),
        }
    }

    /// Notes a name that is none of ours at its place, if one of ours may be meant.
    fn note_other(&mut self, name: Cow<'a, str>) {
        if let Some(meant) = meant_by(&name) {
            self.misspelt.push((meant, name));
        }
    }
}

/// Splits a text before the first of the given characters that has no backslash before it.
fn split<'a>(text: &'a str, ends: &[char]) -> (&'a str, &'a str) {
    let mut is_escaped = false;
    let end = text.find(|c: char| {
        let is_end = !is_escaped && ends.contains(&c);
        is_escaped = !is_escaped && c == '\\';
        is_end
    });
    text.split_at(end.unwrap_or(text.len()))
}

/// Removes the backslash before a blank, a comma or an equals sign. Another one stands for itself.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_escape = character == '\\' && matches!(characters.peek(), Some(' ' | ',' | '='));
        if !is_escape {
            plain.push(character);
        }
        if character == '\\' {
            plain.extend(characters.next());
        }
    }
    Cow::Owned(plain)
}

/// Reads the value of a field. Returns the rest of the line.
fn read_value(text: &str) -> Result<(FieldValue, &str), Fault> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (_, rest) = split(quoted, &['"']);
        let rest = rest
            .strip_prefix('"')
            .ok_or_else(|| Fault::new("has a text in double quotes that does not end"))?;
        if !rest.is_empty() && !rest.starts_with([',', ' ']) {
            return Err(Fault::new("has a text in double quotes that goes on after them"));
        }
        return Ok((FieldValue::Text, rest));
    }
    let end = text.find([',', ' ']).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    let value = match value {
        "t" | "T" | "true" | "True" | "TRUE" | "f" | "F" | "false" | "False" | "FALSE" => Some(FieldValue::Boolean),
        number => read_number(number).map(FieldValue::Number),
    };
    value.map(|value| (value, rest)).ok_or_else(|| {
        let cut = text.floor_char_boundary(end.min(32));
        let reason = format!(
            "has the field value {:?}, which is no number, boolean or quoted text",
            &text[..cut]
        );
        Fault::with_kind(reason, "has a field value that cannot be read")
    })
}

/// Reads a float, or an integer that ends in `i` or `u`.
fn read_number(text: &str) -> Option<f64> {
    let is_integer = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(integer) = text.strip_suffix('i') {
        return is_integer(integer.strip_prefix('-').unwrap_or(integer)).then(|| integer.parse().ok())?;
    }
    if let Some(integer) = text.strip_suffix('u') {
        return is_integer(integer).then(|| integer.parse().ok())?;
    }
    // `f64` would also read `inf` and `nan`.
    let is_decimal = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number: f64 = is_decimal.then(|| text.parse().ok())??;
    number.is_finite().then_some(number)
}

fn read_timestamp(text: &str) -> Result<Option<i64>, Fault> {
    match text.trim_matches(' ') {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| {
            let cut = digits.floor_char_boundary(32);
            let reason = format!("has the timestamp {:?}, which is no integer of 64 bits", &digits[..cut]);
            Fault::with_kind(reason, "has a timestamp that cannot be read")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_with_its_escapes_and_types() {
        let point = Point::parse(
            "my\\ data\\,x,user_id=101,host=a\\ b\\,c\\=d\\e,ta\\=g=1 \
             heart_rate=72.5,msg=\"a, \\\"b=1\\\" \\\\\",steps=10i,up=t,calories=-1.5e2,n=3u -5",
        );
        let expected = Point {
            user_id: Some("101".into()),
            host: Some("a b,c=d\\e".into()),
            heart_rate: Some(FieldValue::Number(72.5)),
            steps: Some(FieldValue::Number(10.0)),
            calories: Some(FieldValue::Number(-150.0)),
            timestamp: Some(-5),
            ..Point::default()
        };
        assert_eq!(point, Ok(expected));
        for (line, steps, timestamp) in [
            ("m steps=1", FieldValue::Number(1.0), None),
            ("m steps=1  12 ", FieldValue::Number(1.0), Some(12)),
            ("m  steps=-0i 1", FieldValue::Number(0.0), Some(1)),
            ("m steps=.5", FieldValue::Number(0.5), None),
            ("m steps=\"1\" 7", FieldValue::Text, Some(7)),
            ("m steps=\"\"", FieldValue::Text, None),
            ("m steps=FALSE", FieldValue::Boolean, None),
            ("m steps=1,steps=2", FieldValue::Number(2.0), None),
        ] {
            let point = Point::parse(line).unwrap();
            assert_eq!((point.steps, point.timestamp), (Some(steps), timestamp), "{line}");
        }
    }

    #[test]
    fn a_line_of_another_form_is_refused_with_a_reason() {
        for line in [
            ",a=1 b=1",
            "m",
            "m ",
            "m,a b=1",
            "m,a= b=1",
            "m,=1 b=1",
            "m b",
            "m b=",
            "m =1",
            "m b=1,",
            "m b=1,c",
            "m b=nan",
            "m b=inf",
            "m b=1e999",
            "m b=1.5i",
            "m b=-1u",
            "m b=i",
            "m b=\"x",
            "m b=\"x\"y",
            "m b=1 x",
            "m b=1 1.5",
            "m b=1 1 2",
            "m b=1 99999999999999999999",
            "m\\ b=1",
            "{\"user_id\":1}",
        ] {
            assert!(Point::parse(line).is_err(), "{line}");
        }
    }
}
