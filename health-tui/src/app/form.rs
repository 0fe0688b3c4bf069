//! The range-stats form and its answer.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::{
    app::{
        action::{BucketWidth, Query, UserRange},
        line::Line,
        when,
    },
    config::Settings,
    fmt,
};

/// Presets by name and start; the last is what the two fields say.
pub(crate) const PRESETS: [(&str, &str); 6] = [
    ("15m", "-15m"),
    ("1h", "-1h"),
    ("24h", "-24h"),
    ("7d", "-7d"),
    ("30d", "-30d"),
    ("custom", ""),
];
const CUSTOM: usize = PRESETS.len() - 1;

/// Users side by side at most: a colour each.
const USERS_MAX: usize = 6;

/// Buckets an automatic width may cut the range into.
const AUTO_BUCKETS_MAX: i32 = 200;

/// What a series may have at most, by the contract.
const SERIES_BUCKETS_MAX: i64 = 11_000;

/// Lines of the answer's table that can be scrolled away to see the plot: all of them.
const SCROLL_MAX: u16 = 10;

/// The fields from top to bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Users,
    Preset,
    Start,
    End,
    Bucket,
    Zone,
}

impl Field {
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

/// What was asked, for the head of the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) bucket: BucketWidth,
    pub(crate) tz: Tz,
}

/// Where the question stands.
#[derive(Clone, Debug)]
pub(crate) enum Run {
    Nothing,
    Running {
        id: u64,
        since: DateTime<Utc>,
        asked: Asked,
    },
    Done {
        asked: Asked,
        answer: Vec<UserRange>,
    },
    Failed {
        why: String,
    },
    Cancelled,
}

/// The form.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) users: Line,
    pub(crate) preset: usize,
    pub(crate) start: Line,
    pub(crate) end: Line,
    /// None is automatic.
    pub(crate) bucket: Option<BucketWidth>,
    pub(crate) zone: Line,
    /// None is the answer.
    pub(crate) focus: Option<Field>,
    errors: Vec<(Field, String)>,
    pub(crate) run: Run,
    /// Lines of the answer scrolled away.
    pub(crate) scroll: u16,
}

impl Form {
    pub(crate) fn new(tz: Tz) -> Self {
        Self {
            users: Line::default(),
            preset: 1,
            start: Line::new(PRESETS[1].1),
            end: Line::new("now"),
            bucket: None,
            zone: Line::new(tz.name()),
            focus: Some(Field::Users),
            errors: Vec::new(),
            run: Run::Nothing,
            scroll: 0,
        }
    }

    pub(crate) fn is_typing(&self) -> bool {
        self.focus.is_some_and(Field::is_text)
    }

    pub(crate) fn error(&self, field: Field) -> Option<&str> {
        self.errors
            .iter()
            .find(|(f, _)| *f == field)
            .map(|(_, why)| why.as_str())
    }

    /// Lines a field takes in `width` columns: one, and its error below it.
    pub(crate) fn height(&self, field: Field, width: u16) -> u16 {
        let room = usize::from(width.saturating_sub(1));
        let error = self.error(field).map_or(0, |why| fmt::wrap(why, room).len());
        1 + u16::try_from(error).unwrap_or(0)
    }

    /// Scrolls the answer, where it is longer than the screen.
    pub(crate) fn scroll_by(&mut self, down: bool) {
        let to = self.scroll.saturating_add_signed(if down { 2 } else { -2 });
        self.scroll = to.min(SCROLL_MAX);
    }

    /// The text being edited.
    pub(crate) fn line_mut(&mut self) -> Option<&mut Line> {
        match self.focus? {
            Field::Users => Some(&mut self.users),
            Field::Start => Some(&mut self.start),
            Field::End => Some(&mut self.end),
            Field::Zone => Some(&mut self.zone),
            Field::Preset | Field::Bucket => None,
        }
    }

    /// To be called behind every change of a text: its error may be gone, and a range typed by hand is no preset.
    pub(crate) fn edited(&mut self) {
        if let Some(field) = self.focus {
            self.errors.retain(|(f, _)| *f != field);
            if matches!(field, Field::Start | Field::End) {
                self.preset = PRESETS
                    .iter()
                    .position(|(_, start)| *start == self.start.text() && self.end.text() == "now")
                    .unwrap_or(CUSTOM);
            }
        }
    }

    pub(crate) fn move_focus(&mut self, forward: bool) {
        let n = Field::ALL.len();
        self.focus = match self.focus {
            None => Some(if forward { Field::ALL[0] } else { Field::ALL[n - 1] }),
            Some(field) => {
                let at = Field::ALL.iter().position(|f| *f == field).unwrap_or(0);
                Some(Field::ALL[(at + if forward { 1 } else { n - 1 }) % n])
            }
        };
    }

    /// Left or right on a choice.
    pub(crate) fn choose(&mut self, forward: bool) {
        match self.focus {
            Some(Field::Preset) => {
                let n = PRESETS.len();
                self.preset = (self.preset + if forward { 1 } else { n - 1 }) % n;
                if self.preset != CUSTOM {
                    self.start = Line::new(PRESETS[self.preset].1);
                    self.end = Line::new("now");
                    self.errors.retain(|(f, _)| !matches!(f, Field::Start | Field::End));
                }
            }
            Some(Field::Bucket) => {
                let all: Vec<Option<BucketWidth>> = std::iter::once(None).chain(BucketWidth::ALL.map(Some)).collect();
                let at = all.iter().position(|b| *b == self.bucket).unwrap_or(0);
                let n = all.len();
                self.bucket = all[(at + if forward { 1 } else { n - 1 }) % n];
                self.errors.retain(|(f, _)| *f != Field::Bucket);
            }
            _ => {}
        }
    }

    /// Asks about a range given from outside.
    pub(crate) fn prefill(&mut self, user: i64, window: Option<(DateTime<Utc>, DateTime<Utc>)>) {
        self.users = Line::new(user.to_string());
        if let Some((start, end)) = window {
            let text = |t: DateTime<Utc>| Line::new(t.format("%Y-%m-%dT%H:%M:%SZ").to_string());
            self.start = text(start);
            self.end = text(end);
            self.preset = CUSTOM;
        }
        self.errors.clear();
        self.focus = Some(Field::Preset);
    }

    /// Reads all fields; the errors stay with the fields.
    pub(crate) fn question(&mut self, now: DateTime<Utc>, settings: &Settings) -> Option<(Query, Asked)> {
        self.errors.clear();
        let users = parse_users(self.users.text(), settings).map_err(|why| self.errors.push((Field::Users, why)));
        let tz = self.zone.text().trim().parse::<Tz>().map_err(|_| {
            let why = format!(
                "`{}` is no zone; write for example Europe/Berlin",
                self.zone.text().trim()
            );
            self.errors.push((Field::Zone, why));
        });
        // A wrong zone is one mistake, not three.
        let read_in = tz.unwrap_or(settings.tz);
        let start =
            when::parse(self.start.text(), now, read_in).map_err(|e| self.errors.push((Field::Start, e.to_string())));
        let end = when::parse(self.end.text(), now, read_in).map_err(|e| self.errors.push((Field::End, e.to_string())));
        if let (Ok(start), Ok(end)) = (start, end)
            && start >= end
        {
            self.errors
                .push((Field::Start, "the start must be before the end".to_owned()));
        }
        let (Ok(users), Ok(tz), Ok(start), Ok(end), true) = (users, tz, start, end, self.errors.is_empty()) else {
            self.focus = self.errors.first().map(|(field, _)| *field);
            return None;
        };
        let span = end - start;
        let bucket = self
            .bucket
            .unwrap_or_else(|| BucketWidth::for_span(span, AUTO_BUCKETS_MAX));
        let count = span.num_seconds() / bucket.length().num_seconds();
        if count > SERIES_BUCKETS_MAX {
            let why = format!("{count} buckets; at most {SERIES_BUCKETS_MAX} are answered: choose wider ones");
            self.errors.push((Field::Bucket, why));
            self.focus = Some(Field::Bucket);
            return None;
        }
        let asked = Asked { start, end, bucket, tz };
        Some((
            Query::Range {
                users,
                start,
                end,
                bucket,
                tz,
            },
            asked,
        ))
    }
}

/// Ids or names, apart by commas (or by spaces where all are ids).
fn parse_users(text: &str, settings: &Settings) -> Result<Vec<i64>, String> {
    let mut users = Vec::new();
    let ids_only = text
        .chars()
        .all(|c| c.is_ascii_digit() || c.is_whitespace() || c == ',');
    let parts: Vec<&str> = if ids_only {
        text.split([',', ' ']).collect()
    } else {
        text.split(',').collect()
    };
    for part in parts.into_iter().map(str::trim).filter(|p| !p.is_empty()) {
        let id = match part.parse::<i64>() {
            Ok(id) if id > 0 => id,
            Ok(_) => return Err(format!("{part} is no user: ids begin at 1")),
            Err(_) => by_name(part, settings)?,
        };
        if !users.contains(&id) {
            users.push(id);
        }
    }
    if users.is_empty() {
        return Err("which user? An id such as 101, or several: 101, 202".to_owned());
    }
    if users.len() > USERS_MAX {
        return Err(format!("{} users; at most {USERS_MAX} fit side by side", users.len()));
    }
    Ok(users)
}

fn by_name(name: &str, settings: &Settings) -> Result<i64, String> {
    let wanted = name.to_lowercase();
    let mut found = settings
        .names
        .iter()
        .filter(|(_, n)| n.to_lowercase().contains(&wanted));
    match (found.next(), found.next()) {
        (Some((id, _)), None) => Ok(*id),
        (Some(_), Some(_)) => Err(format!("`{name}` is several people; write more of the name, or the id")),
        (None, _) => Err(format!("`{name}` is no id and no known name")),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_740_938_400, 0).unwrap()
    }

    #[test]
    fn every_mistake_is_told_where_it_is() {
        let mut form = Form::new(Tz::UTC);
        form.start = Line::new("soon");
        form.zone = Line::new("Mars");
        assert!(form.question(now(), &Settings::default()).is_none());
        assert!(form.error(Field::Users).unwrap().contains("which user?"));
        assert!(form.error(Field::Start).unwrap().contains("`soon` is no time"));
        assert!(form.error(Field::Zone).unwrap().contains("`Mars` is no zone"));
        assert_eq!(form.error(Field::End), None);
        assert_eq!(form.focus, Some(Field::Users));
        form.users = Line::new("101, 202 ,101");
        form.edited();
        form.zone = Line::new("Europe/Berlin");
        form.start = Line::new("now");
        assert!(form.question(now(), &Settings::default()).is_none());
        assert_eq!(form.error(Field::Start), Some("the start must be before the end"));
        form.start = Line::new("-24h");
        let (query, asked) = form.question(now(), &Settings::default()).unwrap();
        assert!(matches!(query, Query::Range { users, .. } if users == [101, 202]));
        assert_eq!(asked.bucket, BucketWidth::Quarter);
        assert_eq!(asked.end - asked.start, TimeDelta::days(1));
    }

    #[test]
    fn too_many_buckets_are_refused_before_the_server_does() {
        let mut form = Form::new(Tz::UTC);
        form.users = Line::new("1");
        form.start = Line::new("-30d");
        form.bucket = Some(BucketWidth::Minute);
        assert!(form.question(now(), &Settings::default()).is_none());
        assert!(form.error(Field::Bucket).unwrap().starts_with("43200 buckets"));
    }

    #[test]
    fn presets_write_the_fields_and_typing_leaves_them() {
        let mut form = Form::new(Tz::UTC);
        form.focus = Some(Field::Preset);
        form.choose(true);
        assert_eq!((form.start.text(), form.end.text()), ("-24h", "now"));
        form.focus = Some(Field::Start);
        form.line_mut().unwrap().backspace();
        form.edited();
        assert_eq!(PRESETS[form.preset].0, "custom");
    }

    #[test]
    fn users_by_name() {
        let mut settings = Settings::default();
        settings.names.insert(7, "Ada Lovelace".to_owned());
        settings.names.insert(8, "Adam".to_owned());
        assert_eq!(parse_users("lovelace, 9", &settings), Ok(vec![7, 9]));
        assert!(parse_users("ada", &settings).unwrap_err().contains("several"));
        assert!(parse_users("0", &settings).is_err());
        assert!(parse_users("tom", &settings).is_err());
    }
}
