//! How numbers, ages and times are written: short, right-aligned, the same everywhere.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use unicode_width::UnicodeWidthStr;

/// The largest unit that fits: `now`, `12s`, `4m`, `3h`, `9d`, `2y`. At most four columns.
pub(crate) fn age(age: TimeDelta) -> String {
    let s = age.num_seconds();
    match s {
        i64::MIN..=0 => "now".to_owned(),
        1..=59 => format!("{s}s"),
        60..=3_599 => format!("{}m", s / 60),
        3_600..=86_399 => format!("{}h", s / 3_600),
        86_400..=31_535_999 => format!("{}d", s / 86_400),
        _ => format!("{}y", s / 31_536_000),
    }
}

/// How long until [`age`] reads differently.
pub(crate) fn age_changes_in(age: TimeDelta) -> TimeDelta {
    let ms = age.num_milliseconds();
    let unit = match ms / 1_000 {
        i64::MIN..=59 => 1_000,
        60..=3_599 => 60_000,
        3_600..=86_399 => 3_600_000,
        86_400..=31_535_999 => 86_400_000,
        _ => 31_536_000_000,
    };
    TimeDelta::milliseconds(if ms < 0 { 1_000 - ms } else { unit - ms % unit })
}

/// A length of time in its two largest units: `45s`, `1h 30m`, `7d`.
pub(crate) fn span(span: TimeDelta) -> String {
    let s = span.num_seconds().max(0);
    let parts = [
        (s / 86_400, 'd'),
        (s / 3_600 % 24, 'h'),
        (s / 60 % 60, 'm'),
        (s % 60, 's'),
    ];
    let mut shown = parts.iter().skip_while(|(n, _)| *n == 0);
    let Some((n, unit)) = shown.next() else {
        return "0s".to_owned();
    };
    match shown.next() {
        Some((m, small)) if *m > 0 => format!("{n}{unit} {m}{small}"),
        _ => format!("{n}{unit}"),
    }
}

/// A whole number with its thousands apart: `12 345`.
pub(crate) fn grouped(n: u64) -> String {
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

/// A value in at most five columns: `0.04`, `7.5`, `72`, `1234`, `12.3k`, `4.5M`.
pub(crate) fn short(v: f64) -> String {
    let a = v.abs();
    if a >= 9_999_500.0 {
        format!("{:.0}M", v / 1e6)
    } else if a >= 999_500.0 {
        format!("{:.1}M", v / 1e6)
    } else if a >= 99_950.0 {
        format!("{:.0}k", v / 1e3)
    } else if a >= 9_999.5 {
        format!("{:.1}k", v / 1e3)
    } else if a >= 100.0 || v.fract() == 0.0 {
        format!("{v:.0}")
    } else if a < 0.995 {
        format!("{v:.2}")
    } else {
        format!("{v:.1}")
    }
}

/// The end of a scale, which is a round number: `0.5`, `20`, `1000`.
pub(crate) fn round(v: f64) -> String {
    let text = short(v);
    match text.split_once('.') {
        Some(_) if text.ends_with('0') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => text,
    }
}

/// Kilocalories of one sample: two decimals while they fit, so that a column of them lines up.
pub(crate) fn kcal(v: f64) -> String {
    if v < 99.995 { format!("{v:.2}") } else { short(v) }
}

/// One decimal, always: averages line up under each other.
pub(crate) fn one(v: f64) -> String {
    format!("{v:.1}")
}

/// One decimal, and the thousands apart: `1 659.2`.
pub(crate) fn grouped_one(v: f64) -> String {
    let text = one(v);
    match text.split_once('.') {
        Some((whole, tenth)) => match whole.parse() {
            Ok(n) => format!("{}.{tenth}", grouped(n)),
            Err(_) => text,
        },
        None => text,
    }
}

/// `2025-03-02 18:00:05` in `tz`.
pub(crate) fn moment(at: DateTime<Utc>, tz: Tz) -> String {
    at.with_timezone(&tz).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// From one moment to another, without saying the date twice.
pub(crate) fn moments(from: DateTime<Utc>, to: DateTime<Utc>, tz: Tz, between: &str) -> String {
    let (from, to) = (from.with_timezone(&tz), to.with_timezone(&tz));
    let form = if from.date_naive() == to.date_naive() {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    format!("{} {between} {}", from.format("%Y-%m-%d %H:%M:%S"), to.format(form))
}

/// The wall clock as the axis of a chart shows it, by how much a step of the axis is.
pub(crate) fn axis(at: DateTime<Utc>, tz: Tz, step: TimeDelta) -> String {
    let local = at.with_timezone(&tz);
    let form = if step < TimeDelta::minutes(1) {
        "%H:%M:%S"
    } else if step < TimeDelta::days(1) {
        "%H:%M"
    } else {
        "%d %b"
    };
    local.format(form).to_string()
}

/// Breaks at spaces; a word longer than a line is left to be cut.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |l| l.width());
        if line > 0 && line + 1 + word.width() > width {
            lines.push(word.to_owned());
        } else if let Some(last) = lines.last_mut() {
            if line > 0 {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_well_and_say_when_they_change() {
        for (ms, text, change_ms) in [
            (-5_000, "now", 6_000),
            (0, "now", 1_000),
            (12_300, "12s", 700),
            (60_000, "1m", 60_000),
            (3_599_000, "59m", 1_000),
            (7_200_000, "2h", 3_600_000),
            (86_400_000 * 400, "1y", 31_536_000_000 - 86_400_000 * 35),
        ] {
            let a = TimeDelta::milliseconds(ms);
            assert_eq!(age(a), text);
            assert_eq!(age_changes_in(a).num_milliseconds(), change_ms, "{text}");
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
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(
            (round(0.5), round(20.0), round(0.2)),
            ("0.5".to_owned(), "20".to_owned(), "0.2".to_owned())
        );
        assert_eq!(grouped(7), "7");
        assert_eq!(
            (grouped_one(1_659.24), grouped_one(-0.5)),
            ("1 659.2".to_owned(), "-0.5".to_owned())
        );
        assert_eq!(span(TimeDelta::minutes(90)), "1h 30m");
        assert_eq!(span(TimeDelta::days(7)), "7d");
        assert_eq!(span(TimeDelta::zero()), "0s");
    }

    #[test]
    fn wraps_at_spaces() {
        assert_eq!(
            wrap("the start must be before the end", 12),
            ["the start", "must be", "before the", "end"]
        );
        assert_eq!(wrap("", 5), [""]);
    }
}
