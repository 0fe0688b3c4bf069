//! The filter language of `/`: words, flags and comparisons. A row must match all of them. `!` inverts one.

use chrono::{DateTime, Utc};
use health_core::AlertThresholds;

use crate::store::users::User;

/// A row of the live table, as a filter sees it.
pub(crate) struct Row<'a> {
    pub(crate) user: &'a User,
    /// The name from the names file.
    pub(crate) name: Option<&'a str>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) thresholds: &'a AlertThresholds,
}

/// A parsed filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RowFilter {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Word {
        text: String,
        inverted: bool,
    },
    Comparison {
        field: ComparedField,
        op: Op,
        value: f64,
        inverted: bool,
    },
    Flag {
        flag: Flag,
        inverted: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ComparedField {
    User,
    HeartRate,
    Steps,
    Calories,
    Age,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flag {
    Alert,
    Stale,
    Pinned,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("`{field}` is not a column. Compare hr, steps, cal, age or user.")]
    UnknownField { field: String },
    #[error("`{value}` is not a number. Write for example hr>100.")]
    NotANumber { value: String },
    #[error("`{term}` needs a number after it. Write for example {term}100.")]
    Unfinished { term: String },
}

impl RowFilter {
    /// Parses terms that are separated by spaces. `age` is in seconds, or has the unit `s`, `m`, `h` or `d`.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let terms = text
            .split_whitespace()
            .filter(|term| *term != "!")
            .map(Term::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }

    /// Returns whether time alone can change which rows match.
    pub(crate) fn compares_age(&self) -> bool {
        self.terms.iter().any(|term| {
            matches!(
                term,
                Term::Comparison {
                    field: ComparedField::Age,
                    ..
                }
            )
        })
    }

    pub(crate) fn matches(&self, row: &Row<'_>) -> bool {
        self.terms.iter().all(|term| term.matches(row))
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, FilterError> {
        let (inverted, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if let Some(operator) = text.find(['<', '>', '=']) {
            return Self::parse_comparison(text, operator, inverted);
        }
        let flag = match text {
            "alert" => Some(Flag::Alert),
            "stale" => Some(Flag::Stale),
            "pinned" => Some(Flag::Pinned),
            _ => None,
        };
        Ok(match flag {
            Some(flag) => Self::Flag { flag, inverted },
            None => Self::Word {
                text: text.to_lowercase(),
                inverted,
            },
        })
    }

    /// Parses a comparison whose operator begins at the byte offset `operator`.
    fn parse_comparison(text: &str, operator: usize, inverted: bool) -> Result<Self, FilterError> {
        let (name, rest) = text.split_at(operator);
        let field = match name.to_lowercase().as_str() {
            "hr" | "heart" | "heart_rate" | "bpm" => ComparedField::HeartRate,
            "steps" => ComparedField::Steps,
            "cal" | "kcal" | "calories" => ComparedField::Calories,
            "age" => ComparedField::Age,
            "user" | "id" | "user_id" => ComparedField::User,
            _ => return Err(FilterError::UnknownField { field: name.to_owned() }),
        };
        let (op, value) = [
            ("<=", Op::LessOrEqual),
            (">=", Op::GreaterOrEqual),
            ("==", Op::Equal),
            ("<", Op::Less),
            (">", Op::Greater),
            ("=", Op::Equal),
        ]
        .into_iter()
        .find_map(|(symbol, op)| rest.strip_prefix(symbol).map(|value| (op, value)))
        .unwrap_or((Op::Equal, rest));
        if value.is_empty() {
            return Err(FilterError::Unfinished { term: text.to_owned() });
        }
        let (digits, factor) = match (field, value.chars().last()) {
            (ComparedField::Age, Some('s')) => (&value[..value.len() - 1], 1.0),
            (ComparedField::Age, Some('m')) => (&value[..value.len() - 1], 60.0),
            (ComparedField::Age, Some('h')) => (&value[..value.len() - 1], 3_600.0),
            (ComparedField::Age, Some('d')) => (&value[..value.len() - 1], 86_400.0),
            _ => (value, 1.0),
        };
        let number: f64 =
            digits
                .parse()
                .ok()
                .filter(|v: &f64| v.is_finite())
                .ok_or_else(|| FilterError::NotANumber {
                    value: value.to_owned(),
                })?;
        Ok(Self::Comparison {
            field,
            op,
            value: number * factor,
            inverted,
        })
    }

    fn matches(&self, row: &Row<'_>) -> bool {
        let user = row.user;
        match self {
            Self::Word { text, inverted } => {
                let found = row.name.is_some_and(|name| name.to_lowercase().contains(text))
                    || id_contains(user.id, text)
                    || user
                        .sources
                        .iter()
                        .any(|source| source.as_str().to_lowercase().contains(text));
                found != *inverted
            }
            Self::Flag { flag, inverted } => {
                let is_set = match flag {
                    Flag::Alert => user.alert(row.now, row.thresholds).is_some(),
                    Flag::Stale => user.is_stale(row.now, row.thresholds),
                    Flag::Pinned => user.pinned,
                };
                is_set != *inverted
            }
            Self::Comparison {
                field,
                op,
                value,
                inverted,
            } => {
                let actual = match field {
                    ComparedField::HeartRate => user.heart_rate,
                    ComparedField::Steps => user.steps,
                    ComparedField::Calories => user.calories,
                    ComparedField::Age => Some(user.age(row.now).as_seconds_f64()),
                    ComparedField::User => i32::try_from(user.id).ok().map(f64::from),
                };
                // An absent value never matches, not even an inverted comparison.
                actual.is_some_and(|actual| op.compare(actual, *value) != *inverted)
            }
        }
    }
}

impl Op {
    fn compare(self, a: f64, b: f64) -> bool {
        match self {
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
            // The table shows at most one decimal place.
            Self::Equal => (a - b).abs() < 0.05,
        }
    }
}

fn id_contains(id: i64, text: &str) -> bool {
    // The check for digits avoids formatting the id of every user for a word that is a name.
    text.bytes().all(|b| b.is_ascii_digit()) && id.to_string().contains(text)
}

#[cfg(test)]
mod tests {
    use health_core::{HeartRate, Readings, Sample, Source, Steps, UserId};

    use super::*;
    use crate::store::users::Users;

    fn matches(filter: &str) -> bool {
        let now = DateTime::from_timestamp(1_740_938_460, 0).unwrap();
        let readings = Readings {
            heart_rate: HeartRate::new(155.0).ok(),
            steps: Steps::new(9).ok(),
            calories: None,
        };
        let at = DateTime::from_timestamp(1_740_938_400, 0).unwrap();
        let sample = Sample::new(UserId::new(1042).unwrap(), at, Source::new("phone").unwrap(), readings).unwrap();
        let mut users = Users::default();
        users.add_from_feed(&sample, now);
        let thresholds = AlertThresholds::default();
        RowFilter::parse(filter).unwrap().matches(&Row {
            user: users.get(1042).unwrap(),
            name: Some("Ada Lovelace"),
            now,
            thresholds: &thresholds,
        })
    }

    #[test]
    fn words_flags_and_comparisons_can_be_inverted() {
        for yes in [
            "",
            "ada",
            "LOVE",
            "104",
            "phone",
            "!watch",
            "hr>150 steps<10",
            "age>=60",
            "age=1m",
            "alert",
            "!stale",
            "hr>150 !tom",
            "!",
            "user=1042",
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in [
            "tom",
            "!phone",
            "hr<150",
            "hr>150 steps>10",
            "cal>0",
            "!cal>0",
            "stale",
            "age<1m",
            "!alert",
        ] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        assert_eq!(
            RowFilter::parse("pulse>3").unwrap_err().to_string(),
            "`pulse` is not a column. Compare hr, steps, cal, age or user."
        );
        assert_eq!(
            RowFilter::parse("hr>x").unwrap_err().to_string(),
            "`x` is not a number. Write for example hr>100."
        );
        assert_eq!(
            RowFilter::parse("hr>").unwrap_err().to_string(),
            "`hr>` needs a number after it. Write for example hr>100."
        );
    }
}
