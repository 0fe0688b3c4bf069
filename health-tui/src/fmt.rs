//! The text form of numbers, durations and times, the same everywhere on the screen.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// A clock that is ahead by less than this is not reported: clocks that are set over the network agree to a second.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(5);

/// Columns of the longest age without, and with, a clock that is ahead.
pub(crate) const AGE_COLUMNS: u16 = 5;
pub(crate) const AGE_AHEAD_COLUMNS: u16 = 9;

/// Returns an age in its largest unit: `now`, `12s`, `4m`, `3h`, `9d`, `2y`. It takes at most four columns.
///
/// A timestamp in the future is `4m ahead`: the clock of the device is wrong, or that of this machine.
pub(crate) fn age(age: TimeDelta) -> String {
    if is_ahead(age) {
        return format!("{} ahead", in_largest_unit(-age));
    }
    match age.num_seconds() {
        i64::MIN..=0 => "now".to_owned(),
        1.. => in_largest_unit(age),
    }
}

/// Returns whether an age is that of a timestamp in the future.
pub(crate) fn is_ahead(age: TimeDelta) -> bool {
    age <= -CLOCK_TOLERANCE
}

fn in_largest_unit(age: TimeDelta) -> String {
    let s = age.num_seconds();
    match s {
        i64::MIN..=59 => format!("{s}s"),
        60..=3_599 => format!("{}m", s / 60),
        3_600..=86_399 => format!("{}h", s / 3_600),
        86_400..=31_535_999 => format!("{}d", s / 86_400),
        _ => format!("{}y", s / 31_536_000),
    }
}

/// Returns the time until the result of [`age`] changes, so that the dashboard knows when to draw again.
pub(crate) fn age_changes_in(age: TimeDelta) -> TimeDelta {
    let ms = age.num_milliseconds();
    let unit = match ms.abs() / 1_000 {
        i64::MIN..=59 => 1_000,
        60..=3_599 => 60_000,
        3_600..=86_399 => 3_600_000,
        86_400..=31_535_999 => 86_400_000,
        _ => 31_536_000_000,
    };
    TimeDelta::milliseconds(if is_ahead(age) {
        // The time that it is ahead becomes shorter.
        -ms % unit + 1
    } else if ms < 0 {
        1_000 - ms
    } else {
        unit - ms % unit
    })
}

/// Returns `5m ago`, `just now` in the first second, or `4m ahead`.
pub(crate) fn ago(age: TimeDelta) -> String {
    match self::age(age).as_str() {
        "now" => "just now".to_owned(),
        ahead if is_ahead(age) => ahead.to_owned(),
        age => format!("{age} ago"),
    }
}

/// Returns the name of a time zone as people write it: `UTC` for `Etc/UTC`, and `UTC+2` for `Etc/GMT-2`, which has the
/// opposite sign by the rule of POSIX.
pub(crate) fn zone(tz: Tz) -> Cow<'static, str> {
    let name = tz.name();
    match name.strip_prefix("Etc/GMT").map(|offset| offset.split_at_checked(1)) {
        Some(Some(("-", hours))) => Cow::Owned(format!("UTC+{hours}")),
        Some(Some(("+", hours))) => Cow::Owned(format!("UTC-{hours}")),
        _ if matches!(name, "Etc/UTC" | "Etc/UCT" | "Etc/Zulu" | "Etc/Universal") => Cow::Borrowed("UTC"),
        _ => Cow::Borrowed(name),
    }
}

/// Returns a duration in its two largest units: `45s`, `1h 30m`, `7d`.
pub(crate) fn duration(duration: TimeDelta) -> String {
    let s = duration.num_seconds().max(0);
    let parts = [
        (s / 86_400, 'd'),
        (s / 3_600 % 24, 'h'),
        (s / 60 % 60, 'm'),
        (s % 60, 's'),
    ];
    let mut largest = parts.iter().skip_while(|(n, _)| *n == 0);
    let Some((first, first_unit)) = largest.next() else {
        return "0s".to_owned();
    };
    match largest.next() {
        Some((second, second_unit)) if *second > 0 => format!("{first}{first_unit} {second}{second_unit}"),
        _ => format!("{first}{first_unit}"),
    }
}

/// Returns a count with a space between its thousands: `12 345`.
pub(crate) fn thousands(n: impl TryInto<u64>) -> String {
    let n: u64 = n.try_into().unwrap_or(0);
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// Returns a value in at most five columns: `0.04`, `7.5`, `72`, `1234`, `12.3k`, `4.5M`.
pub(crate) fn short(v: f64) -> String {
    let size = v.abs();
    if size >= 9_999_500.0 {
        format!("{:.0}M", v / 1e6)
    } else if size >= 999_500.0 {
        format!("{:.1}M", v / 1e6)
    } else if size >= 99_950.0 {
        format!("{:.0}k", v / 1e3)
    } else if size >= 9_999.5 {
        format!("{:.1}k", v / 1e3)
    } else if size >= 100.0 || v.fract() == 0.0 {
        format!("{v:.0}")
    } else if size < 0.995 {
        format!("{v:.2}")
    } else {
        format!("{v:.1}")
    }
}

/// Returns the label of a tick, which is a round number: `0.5`, `20`, `1000`.
pub(crate) fn tick(v: f64) -> String {
    let text = short(v);
    match text.split_once('.') {
        Some(_) if text.ends_with('0') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => text,
    }
}

/// Returns the kilocalories of one sample with two decimals if they fit, so that a column of them lines up.
pub(crate) fn kcal(v: f64) -> String {
    if v < 99.995 { format!("{v:.2}") } else { short(v) }
}

/// Returns a value with exactly one decimal, so that averages line up.
pub(crate) fn one_decimal(v: f64) -> String {
    format!("{v:.1}")
}

/// Returns a value with one decimal and a space between its thousands: `1 659.2`.
pub(crate) fn thousands_one_decimal(v: f64) -> String {
    let text = one_decimal(v);
    let parts = text.split_once('.').map(|(whole, tenth)| (whole.parse::<u64>(), tenth));
    match parts {
        Some((Ok(whole), tenth)) => format!("{}.{tenth}", thousands(whole)),
        _ => text,
    }
}

/// Returns `2025-03-02 18:00:05` in the time zone `tz`.
pub(crate) fn date_time(at: DateTime<Utc>, tz: Tz) -> String {
    at.with_timezone(&tz).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns the two ends of a range, with the date of the end only if it differs from that of the start.
pub(crate) fn time_range(start: DateTime<Utc>, end: DateTime<Utc>, tz: Tz, dash: &str) -> String {
    let (start, end) = (start.with_timezone(&tz), end.with_timezone(&tz));
    let end_format = if start.date_naive() == end.date_naive() {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    format!(
        "{} {dash} {}",
        start.format("%Y-%m-%d %H:%M:%S"),
        end.format(end_format)
    )
}

/// Returns the label of a tick on a time axis whose ticks are `step` apart.
pub(crate) fn axis_label(at: DateTime<Utc>, tz: Tz, step: TimeDelta) -> String {
    let format = if step < TimeDelta::minutes(1) {
        "%H:%M:%S"
    } else if step < TimeDelta::days(1) {
        "%H:%M"
    } else {
        "%d %b"
    };
    at.with_timezone(&tz).format(format).to_string()
}

/// Returns the lines of `text` in at most `width` columns. A word that is longer than a line is broken.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<Cow<'_, str>> {
    let options = textwrap::Options::new(width).word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_short_and_its_next_change_is_known() {
        for (ms, text, change_ms) in [
            (-4_999, "now", 5_999),
            (-5_000, "5s ahead", 1),
            (-59_400, "59s ahead", 401),
            (-240_000, "4m ahead", 1),
            (-239_000, "3m ahead", 59_001),
            (-7_200_000, "2h ahead", 1),
            (0, "now", 1_000),
            (12_300, "12s", 700),
            (60_000, "1m", 60_000),
            (3_599_000, "59m", 1_000),
            (7_200_000, "2h", 3_600_000),
            (86_400_000 * 400, "1y", 31_536_000_000 - 86_400_000 * 35),
        ] {
            let since = TimeDelta::milliseconds(ms);
            assert_eq!(age(since), text);
            assert_eq!(age_changes_in(since).num_milliseconds(), change_ms, "{text}");
        }
    }

    #[test]
    fn numbers_fit_their_columns() {
        for (v, text) in [
            (7.5, "7.5"),
            (0.04, "0.04"),
            (0.0, "0"),
            (72.0, "72"),
            (99.95, "100.0"),
            (9_999.4, "9999"),
            (12_345.0, "12.3k"),
            (99_999.0, "100k"),
            (1_234_567.0, "1.2M"),
        ] {
            assert_eq!(short(v), text);
            assert!(text.len() <= 5);
        }
        assert_eq!(thousands(1_234_567u64), "1 234 567");
        assert_eq!(
            (tick(0.5), tick(20.0), tick(0.2)),
            ("0.5".to_owned(), "20".to_owned(), "0.2".to_owned())
        );
        assert_eq!(thousands(7i64), "7");
        assert_eq!(
            (thousands_one_decimal(1_659.24), thousands_one_decimal(-0.5)),
            ("1 659.2".to_owned(), "-0.5".to_owned())
        );
        assert_eq!(duration(TimeDelta::minutes(90)), "1h 30m");
        assert_eq!(duration(TimeDelta::days(7)), "7d");
        assert_eq!(duration(TimeDelta::zero()), "0s");
        assert_eq!(ago(TimeDelta::milliseconds(300)), "just now");
        assert_eq!(ago(TimeDelta::minutes(5)), "5m ago");
        assert_eq!(ago(TimeDelta::minutes(-4)), "4m ahead");
        assert_eq!(
            (
                zone(Tz::Etc__GMTMinus2),
                zone(Tz::Etc__GMTPlus10),
                zone(Tz::Europe__Berlin),
                zone(Tz::Etc__UTC)
            ),
            ("UTC+2".into(), "UTC-10".into(), "Europe/Berlin".into(), "UTC".into())
        );
    }

    #[test]
    fn text_wraps_at_spaces_and_long_words_are_broken() {
        assert_eq!(
            wrap("the start must be before the end", 12),
            ["the start", "must be", "before the", "end"]
        );
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("a 127.0.0.1:8000", 9), ["a", "127.0.0.1", ":8000"]);
        assert!(!wrap("no room", 0).is_empty());
    }
}
