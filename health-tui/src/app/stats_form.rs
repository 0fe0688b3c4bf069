//! The range statistics form: its fields, its query and the response.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use health_core::{Bucket, TimeRange};

use crate::{
    app::{
        query::{Query, UserRangeStats, narrowest_bucket},
        text_input::TextInput,
        time_input::parse_time,
    },
    config::Settings,
    fmt,
};

/// The presets: a name and a start. The last one means that the user typed the range.
pub(crate) const PRESETS: [(&str, &str); 6] = [
    ("15m", "-15m"),
    ("1h", "-1h"),
    ("24h", "-24h"),
    ("7d", "-7d"),
    ("30d", "-30d"),
    ("custom", ""),
];
const CUSTOM: usize = PRESETS.len() - 1;

/// The largest number of users in one query: the number of colours that are easy to tell apart.
const USERS_MAX: usize = 6;

/// The largest number of buckets if the form chooses their width: about the columns of a wide terminal.
const AUTO_BUCKETS_MAX: i32 = 200;

/// The number of lines of the answer's table. All of them can be scrolled out to make room for the chart.
const SCROLL_MAX: u16 = 10;

/// The fields, from top to bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormField {
    Users,
    Preset,
    Start,
    End,
    Bucket,
    Zone,
}

impl FormField {
    pub(crate) const ALL: [Self; 6] = [
        Self::Users,
        Self::Preset,
        Self::Start,
        Self::End,
        Self::Bucket,
        Self::Zone,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Users => "Users",
            Self::Preset => "Range",
            Self::Start => "Start",
            Self::End => "End",
            Self::Bucket => "Buckets",
            Self::Zone => "Zone",
        }
    }

    pub(crate) fn is_text(self) -> bool {
        !matches!(self, Self::Preset | Self::Bucket)
    }
}

/// The range and the buckets of a query, shown above its answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RangeRequest {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) bucket: Bucket,
    pub(crate) tz: Tz,
}

/// The state of the form's query.
#[derive(Clone, Debug)]
pub(crate) enum RangeQuery {
    NotAsked,
    Running {
        id: u64,
        since: DateTime<Utc>,
        request: RangeRequest,
    },
    Done {
        request: RangeRequest,
        users: Vec<UserRangeStats>,
    },
    Failed {
        reason: String,
    },
    Cancelled,
}

type FieldErrors = Vec<(FormField, String)>;

/// The form.
#[derive(Clone, Debug)]
pub(crate) struct StatsForm {
    pub(crate) users: TextInput,
    /// An index into [`PRESETS`].
    pub(crate) preset: usize,
    pub(crate) start: TextInput,
    pub(crate) end: TextInput,
    /// `None` chooses a width that suits the range.
    pub(crate) bucket: Option<Bucket>,
    pub(crate) zone: TextInput,
    /// The field that has the focus. `None` means the answer.
    pub(crate) focus: Option<FormField>,
    errors: FieldErrors,
    pub(crate) query: RangeQuery,
    /// The number of lines of the answer that are scrolled out.
    pub(crate) scroll: u16,
}

impl StatsForm {
    pub(crate) fn new(tz: Tz) -> Self {
        Self {
            users: TextInput::default(),
            preset: 1,
            start: TextInput::new(PRESETS[1].1),
            end: TextInput::new("now"),
            bucket: None,
            // The name that can be read again: `UTC+2` of a fixed offset cannot.
            zone: TextInput::new(if tz == Tz::Etc__UTC { "UTC" } else { tz.name() }),
            focus: Some(FormField::Users),
            errors: Vec::new(),
            query: RangeQuery::NotAsked,
            scroll: 0,
        }
    }

    pub(crate) fn is_typing(&self) -> bool {
        self.focus.is_some_and(FormField::is_text)
    }

    pub(crate) fn error(&self, field: FormField) -> Option<&str> {
        self.errors
            .iter()
            .find(|(with_error, _)| *with_error == field)
            .map(|(_, error)| error.as_str())
    }

    /// Returns the number of lines of a field in `width` columns: one, and the lines of its error.
    pub(crate) fn height(&self, field: FormField, width: u16) -> u16 {
        let columns = usize::from(width.saturating_sub(1));
        let error_lines = self.error(field).map_or(0, |error| fmt::wrap(error, columns).len());
        1 + u16::try_from(error_lines).unwrap_or(0)
    }

    /// Scrolls the answer by two lines.
    pub(crate) fn scroll_by(&mut self, down: bool) {
        let scroll = self.scroll.saturating_add_signed(if down { 2 } else { -2 });
        self.scroll = scroll.min(SCROLL_MAX);
    }

    /// Returns the text field that has the focus.
    pub(crate) fn focused_input(&mut self) -> Option<&mut TextInput> {
        match self.focus? {
            FormField::Users => Some(&mut self.users),
            FormField::Start => Some(&mut self.start),
            FormField::End => Some(&mut self.end),
            FormField::Zone => Some(&mut self.zone),
            FormField::Preset | FormField::Bucket => None,
        }
    }

    /// Clears the error of the focused field and finds the preset that matches the range.
    ///
    /// The caller must call this after every change of a text.
    pub(crate) fn text_changed(&mut self) {
        if let Some(field) = self.focus {
            self.clear_errors(&[field]);
            if matches!(field, FormField::Start | FormField::End) {
                self.preset = PRESETS
                    .iter()
                    .position(|(_, start)| *start == self.start.text() && self.end.text() == "now")
                    .unwrap_or(CUSTOM);
            }
        }
    }

    fn clear_errors(&mut self, fields: &[FormField]) {
        self.errors.retain(|(field, _)| !fields.contains(field));
    }

    pub(crate) fn move_focus(&mut self, forward: bool) {
        let focus = match self.focus {
            None if forward => FormField::ALL[0],
            None => FormField::ALL[FormField::ALL.len() - 1],
            Some(field) => neighbour(&FormField::ALL, field, forward),
        };
        self.focus = Some(focus);
    }

    /// Chooses the next or the previous value of the focused field, if it is a choice.
    pub(crate) fn choose(&mut self, forward: bool) {
        match self.focus {
            Some(FormField::Preset) => {
                let presets: Vec<usize> = (0..PRESETS.len()).collect();
                self.preset = neighbour(&presets, self.preset, forward);
                if self.preset != CUSTOM {
                    self.start = TextInput::new(PRESETS[self.preset].1);
                    self.end = TextInput::new("now");
                    self.clear_errors(&[FormField::Start, FormField::End]);
                }
            }
            Some(FormField::Bucket) => {
                let buckets: Vec<Option<Bucket>> = std::iter::once(None).chain(Bucket::ALL.map(Some)).collect();
                self.bucket = neighbour(&buckets, self.bucket, forward);
                self.clear_errors(&[FormField::Bucket]);
            }
            _ => {}
        }
    }

    /// Fills in a user and, if it is given, a range.
    pub(crate) fn prefill(&mut self, user: i64, window: Option<(DateTime<Utc>, DateTime<Utc>)>) {
        self.users = TextInput::new(user.to_string());
        if let Some((start, end)) = window {
            let input = |at: DateTime<Utc>| TextInput::new(at.format("%Y-%m-%dT%H:%M:%SZ").to_string());
            self.start = input(start);
            self.end = input(end);
            self.preset = CUSTOM;
        }
        self.errors.clear();
        self.focus = Some(FormField::Preset);
    }

    /// Reads all fields. If one has an error, keeps the errors, moves the focus to the first one and returns `None`.
    pub(crate) fn read(&mut self, now: DateTime<Utc>, settings: &Settings) -> Option<(Query, RangeRequest)> {
        self.errors.clear();
        match self.parse(now, settings) {
            Ok((users, request)) => Some((
                Query::Range {
                    users,
                    start: request.start,
                    end: request.end,
                    bucket: request.bucket,
                    tz: request.tz,
                },
                request,
            )),
            Err(errors) => {
                self.focus = errors.first().map(|(field, _)| *field);
                self.errors = errors;
                None
            }
        }
    }

    /// Returns the users and their request, or the error of each invalid field.
    fn parse(&self, now: DateTime<Utc>, settings: &Settings) -> Result<(Vec<i64>, RangeRequest), FieldErrors> {
        let mut errors = Vec::new();
        let mut note = |field: FormField, error: String| errors.push((field, error));
        let users = parse_users(self.users.text(), settings).map_err(|error| note(FormField::Users, error));
        let zone = self.zone.text().trim();
        let tz = zone.parse::<Tz>().map_err(|_| {
            let error = format!("`{zone}` is not a time zone. Write for example Europe/Berlin.");
            note(FormField::Zone, error);
        });
        // With a wrong zone, only the zone has an error: the times are read in the zone of the settings.
        let times_tz = tz.unwrap_or(settings.tz);
        let mut time = |field: FormField, input: &TextInput| {
            parse_time(input.text(), now, times_tz).map_err(|error| note(field, error.to_string()))
        };
        let start = time(FormField::Start, &self.start);
        let end = time(FormField::End, &self.end);
        let (Ok(users), Ok(tz), Ok(start), Ok(end)) = (users, tz, start, end) else {
            return Err(errors);
        };
        let Ok(range) = TimeRange::new(start, end) else {
            return Err(vec![(FormField::Start, "The start must be before the end.".to_owned())]);
        };
        let bucket = self
            .bucket
            .unwrap_or_else(|| narrowest_bucket(end - start, AUTO_BUCKETS_MAX));
        if let Err(error) = bucket.split(range, tz) {
            return Err(vec![(FormField::Bucket, error.to_string())]);
        }
        Ok((users, RangeRequest { start, end, bucket, tz }))
    }
}

/// Returns the value after (or before) `value`, wrapping around.
fn neighbour<T: Copy + PartialEq>(values: &[T], value: T, forward: bool) -> T {
    let index = values.iter().position(|other| *other == value).unwrap_or(0);
    let step = if forward { 1 } else { values.len() - 1 };
    values[(index + step) % values.len()]
}

/// Reads ids or names, separated by commas. Ids may also be separated by spaces.
fn parse_users(text: &str, settings: &Settings) -> Result<Vec<i64>, String> {
    let mut users = Vec::new();
    let has_only_ids = text
        .chars()
        .all(|c| c.is_ascii_digit() || c.is_whitespace() || c == ',');
    let parts: Vec<&str> = if has_only_ids {
        text.split([',', ' ']).collect()
    } else {
        text.split(',').collect()
    };
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        let id = match part.parse::<i64>() {
            Ok(id) if id > 0 => id,
            Ok(_) => return Err(format!("{part} is not a user id. Ids begin at 1.")),
            Err(_) => find_by_name(part, settings)?,
        };
        if !users.contains(&id) {
            users.push(id);
        }
    }
    if users.is_empty() {
        return Err("Enter a user id such as 101, or several: 101, 202".to_owned());
    }
    if users.len() > USERS_MAX {
        return Err(format!(
            "{} users do not fit side by side. Enter at most {USERS_MAX}.",
            users.len()
        ));
    }
    Ok(users)
}

fn find_by_name(name: &str, settings: &Settings) -> Result<i64, String> {
    let lowercase = name.to_lowercase();
    let mut matches = settings
        .names
        .iter()
        .filter(|(_, known)| known.to_lowercase().contains(&lowercase));
    match (matches.next(), matches.next()) {
        (Some((id, _)), None) => Ok(*id),
        (Some(_), Some(_)) => Err(format!(
            "`{name}` matches several people. Write more of the name, or the id."
        )),
        (None, _) => Err(format!(
            "`{name}` is not an id and not a known name. Write an id such as 101."
        )),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use tui_input::InputRequest;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_938_400, 0).unwrap()
    }

    #[test]
    fn every_error_belongs_to_its_field() {
        let mut form = StatsForm::new(Tz::UTC);
        form.start = TextInput::new("soon");
        form.zone = TextInput::new("Mars");
        assert!(form.read(now(), &Settings::default()).is_none());
        assert!(form.error(FormField::Users).unwrap().contains("Enter a user id"));
        assert!(form.error(FormField::Start).unwrap().contains("`soon` is not a time"));
        assert!(
            form.error(FormField::Zone)
                .unwrap()
                .contains("`Mars` is not a time zone")
        );
        assert_eq!(form.error(FormField::End), None);
        assert_eq!(form.focus, Some(FormField::Users));
        form.users = TextInput::new("101, 202 ,101");
        form.text_changed();
        form.zone = TextInput::new("Europe/Berlin");
        form.start = TextInput::new("now");
        assert!(form.read(now(), &Settings::default()).is_none());
        assert_eq!(form.error(FormField::Start), Some("The start must be before the end."));
        form.start = TextInput::new("-24h");
        let (query, request) = form.read(now(), &Settings::default()).unwrap();
        assert!(matches!(query, Query::Range { users, .. } if users == [101, 202]));
        assert_eq!(request.bucket, Bucket::QuarterHour);
        assert_eq!(request.end - request.start, TimeDelta::days(1));
    }

    #[test]
    fn too_many_buckets_are_an_error_of_the_form() {
        let mut form = StatsForm::new(Tz::UTC);
        form.users = TextInput::new("1");
        form.start = TextInput::new("-30d");
        form.bucket = Some(Bucket::Minute);
        assert!(form.read(now(), &Settings::default()).is_none());
        let error = form.error(FormField::Bucket).unwrap();
        assert!(error.contains("43200") && error.contains("11000"), "{error}");
    }

    #[test]
    fn a_preset_fills_in_the_range_and_typing_makes_it_custom() {
        let mut form = StatsForm::new(Tz::UTC);
        form.focus = Some(FormField::Preset);
        form.choose(true);
        assert_eq!((form.start.text(), form.end.text()), ("-24h", "now"));
        form.focus = Some(FormField::Start);
        form.focused_input().unwrap().edit(InputRequest::DeletePrevChar);
        form.text_changed();
        assert_eq!(PRESETS[form.preset].0, "custom");
    }

    #[test]
    fn users_are_found_by_name() {
        let mut settings = Settings::default();
        settings.names.insert(7, "Ada Lovelace".to_owned());
        settings.names.insert(8, "Adam".to_owned());
        assert_eq!(parse_users("lovelace, 9", &settings), Ok(vec![7, 9]));
        assert!(parse_users("ada", &settings).unwrap_err().contains("several"));
        assert!(parse_users("0", &settings).is_err());
        assert!(parse_users("tom", &settings).is_err());
    }
}
