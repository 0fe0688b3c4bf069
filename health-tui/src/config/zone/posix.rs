//! A time zone as a rule of POSIX: `UTC-2`, `CET-1CEST,M3.5.0,M10.5.0/3`.

use std::cmp::Reverse;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::{OffsetName, TZ_VARIANTS, Tz};

/// The dates of the United States, which glibc uses for a rule without dates.
const DEFAULT_DATES: &str = "M3.2.0,M11.1.0";

/// Summer time begins and ends at this time if the rule does not say when.
const DEFAULT_SECONDS: i32 = 2 * 3_600;

/// Parts of the world in the order in which a zone is preferred among equal ones.
const AREAS: [&str; 6] = ["Europe/", "America/", "Australia/", "Asia/", "Africa/", "Pacific/"];

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PosixRule {
    standard: LocalTime,
    summer: Option<SummerTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LocalTime {
    name: String,
    /// Seconds east of UTC.
    offset: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SummerTime {
    time: LocalTime,
    begin: Change,
    end: Change,
    /// Whether the rule says when summer time begins and ends.
    has_dates: bool,
}

/// When the local time changes in each year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    day: Day,
    /// Seconds after midnight, local time before the change.
    seconds: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// `M3.5.0`: the last Sunday of March. Week 5 is the last one of the month.
    WeekdayOfMonth { month: u32, week: u8, weekday: Weekday },
    /// `J60`: 1 to 365, without 29 February.
    InCommonYear(u64),
    /// `59`: 0 to 365.
    InYear(u64),
}

impl PosixRule {
    /// Returns `None` if `text` is not a rule of POSIX.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, rest) = name(text)?;
        // In POSIX, a positive offset is west.
        let (west, rest) = seconds(rest, 24)?;
        let standard = LocalTime { name, offset: -west };
        if rest.is_empty() {
            return Some(Self { standard, summer: None });
        }
        let (name, rest) = self::name(rest)?;
        let (west, rest) = match seconds(rest, 24) {
            Some(parsed) => parsed,
            None => (west - 3_600, rest),
        };
        let time = LocalTime { name, offset: -west };
        let has_dates = !rest.is_empty();
        let dates = if has_dates {
            rest.strip_prefix(',')?
        } else {
            DEFAULT_DATES
        };
        let (begin, end) = dates.split_once(',')?;
        Some(Self {
            standard,
            summer: Some(SummerTime {
                time,
                begin: Change::parse(begin)?,
                end: Change::parse(end)?,
                has_dates,
            }),
        })
    }

    /// Returns whether the rule says when summer time begins and ends, or has none.
    pub(super) fn has_dates(&self) -> bool {
        self.summer.as_ref().is_none_or(|summer| summer.has_dates)
    }

    /// Returns the zone of a whole number of hours without summer time. The names of these zones have the sign of
    /// POSIX.
    pub(super) fn fixed_zone(&self) -> Option<Tz> {
        let hours = self.standard.offset / 3_600;
        if self.summer.is_some() || self.standard.offset % 3_600 != 0 {
            return None;
        }
        match hours {
            0 => Some(Tz::UTC),
            1.. => format!("Etc/GMT-{hours}").parse().ok(),
            _ => format!("Etc/GMT+{}", -hours).parse().ok(),
        }
    }

    /// Returns a zone with the same local time from the year before `now` to the year after it.
    pub(super) fn zone(&self, text: &str, now: DateTime<Utc>) -> Option<Tz> {
        let instants: Vec<_> = self.instants(now).map(|at| (at, self.offset_at(at))).collect();
        let has_same_time = |tz: &Tz| instants.iter().all(|(at, offset)| offset_of(*tz, *at) == *offset);
        self.best(text, now, has_same_time)
    }

    /// Returns a zone whose standard and summer time have the same names and offsets, on any dates.
    pub(super) fn zone_by_abbreviations(&self, text: &str, now: DateTime<Utc>) -> Option<Tz> {
        let summer = self.summer.as_ref()?;
        let instants: Vec<_> = self.instants(now).collect();
        let has_times = |tz: &Tz| {
            [&self.standard, &summer.time].into_iter().all(|time| {
                instants.iter().any(|at| {
                    let offset = tz.offset_from_utc_datetime(&at.naive_utc());
                    offset.abbreviation() == Some(&time.name) && offset.fix().local_minus_utc() == time.offset
                })
            })
        };
        self.best(text, now, has_times)
    }

    /// Returns the zone that a reader recognises best: by its own name, by the name of its standard time, by its area.
    fn best(&self, text: &str, now: DateTime<Utc>, matches: impl Fn(&Tz) -> bool) -> Option<Tz> {
        let without_dates = text.split(',').next().unwrap_or(text);
        let standard_at = self
            .instants(now)
            .find(|at| self.offset_at(*at) == self.standard.offset);
        TZ_VARIANTS.iter().copied().filter(matches).max_by_key(|tz| {
            let has_name = standard_at.is_some_and(|at| {
                let offset = tz.offset_from_utc_datetime(&at.naive_utc());
                offset.abbreviation() == Some(&self.standard.name)
            });
            let area = AREAS.iter().position(|area| tz.name().starts_with(area));
            (
                tz.name() == without_dates,
                tz.name() == self.standard.name,
                has_name,
                Reverse(area.unwrap_or(AREAS.len())),
                Reverse(tz.name()),
            )
        })
    }

    /// Returns the days of three years, and the seconds before and after each change of the rule.
    fn instants(&self, now: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let days = (-12..=12).map(move |month| now + TimeDelta::days(30 * month));
        let changes = (now.year() - 1..=now.year() + 1).flat_map(|year| self.changes(year));
        let around = changes.flatten().flat_map(|at| [at - TimeDelta::seconds(1), at]);
        days.chain(around.collect::<Vec<_>>())
    }

    /// Returns the beginning and the end of summer time in a year.
    fn changes(&self, year: i32) -> [Option<DateTime<Utc>>; 2] {
        let Some(summer) = &self.summer else { return [None; 2] };
        [
            summer.begin.at(year, self.standard.offset),
            summer.end.at(year, summer.time.offset),
        ]
    }

    fn offset_at(&self, at: DateTime<Utc>) -> i32 {
        let standard = self.standard.offset;
        let year = (at + TimeDelta::seconds(standard.into())).year();
        match (&self.summer, self.changes(year)) {
            (Some(summer), [Some(begin), Some(end)]) => {
                let is_summer = if begin < end {
                    begin <= at && at < end
                } else {
                    begin <= at || at < end
                };
                if is_summer { summer.time.offset } else { standard }
            }
            _ => standard,
        }
    }
}

fn offset_of(tz: Tz, at: DateTime<Utc>) -> i32 {
    tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
}

impl Change {
    fn parse(text: &str) -> Option<Self> {
        let (day, seconds) = match text.split_once('/') {
            Some((day, time)) => (day, seconds(time, 167).filter(|(_, rest)| rest.is_empty())?.0),
            None => (text, DEFAULT_SECONDS),
        };
        Some(Self {
            day: Day::parse(day)?,
            seconds,
        })
    }

    /// Returns the time of the change in a year, from the offset before it.
    fn at(self, year: i32, offset: i32) -> Option<DateTime<Utc>> {
        let midnight: NaiveDateTime = self.day.in_year(year)?.into();
        Some((midnight + TimeDelta::seconds((self.seconds - offset).into())).and_utc())
    }
}

impl Day {
    fn parse(text: &str) -> Option<Self> {
        if let Some(rule) = text.strip_prefix('M') {
            let mut parts = rule.split('.').map(str::parse::<u8>);
            let (month, week, weekday) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
            let is_valid = (1..=12).contains(&month) && (1..=5).contains(&week) && weekday <= 6;
            if !is_valid || parts.next().is_some() {
                return None;
            }
            // POSIX begins at Sunday, chrono at Monday.
            let weekday = Weekday::try_from((weekday + 6) % 7).ok()?;
            return Some(Self::WeekdayOfMonth {
                month: month.into(),
                week,
                weekday,
            });
        }
        if let Some(day) = text.strip_prefix('J') {
            return day
                .parse()
                .ok()
                .filter(|day| (1..=365).contains(day))
                .map(Self::InCommonYear);
        }
        text.parse().ok().filter(|day| *day <= 365).map(Self::InYear)
    }

    fn in_year(self, year: i32) -> Option<NaiveDate> {
        let first = NaiveDate::from_ymd_opt(year, 1, 1)?;
        match self {
            Self::WeekdayOfMonth { month, week, weekday } => (1..=week)
                .rev()
                .find_map(|week| NaiveDate::from_weekday_of_month_opt(year, month, weekday, week)),
            Self::InCommonYear(day) => {
                let is_after_february = first.leap_year() && day >= 60;
                first.checked_add_days(Days::new(day - 1 + u64::from(is_after_february)))
            }
            Self::InYear(day) => first.checked_add_days(Days::new(day)),
        }
    }
}

/// Reads a name: at least three letters, or anything between `<` and `>`. Returns it and the rest.
fn name(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('<') {
        let (name, rest) = quoted.split_once('>')?;
        return Some((name.to_owned(), rest));
    }
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (name.len() >= 3).then(|| (name.to_owned(), rest))
}

/// Reads `[+-]hours[:minutes[:seconds]]`. Returns the seconds and the rest.
fn seconds(text: &str, hours_max: i32) -> Option<(i32, &str)> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, mut rest) = number(rest, hours_max)?;
    let mut total = hours * 3_600;
    for unit in [60, 1] {
        let Some(after) = rest.strip_prefix(':') else { break };
        let (value, after) = number(after, 59)?;
        total += value * unit;
        rest = after;
    }
    Some((sign * total, rest))
}

fn number(text: &str, max: i32) -> Option<(i32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let value = text[..end].parse().ok().filter(|value| *value <= max)?;
    Some((value, &text[end..]))
}
