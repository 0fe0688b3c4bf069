//! The filter language of `/`: words, `!words` and comparisons, all of which must hold.

use chrono::{DateTime, Utc};

use crate::store::users::{Limits, User};

/// What a filter sees of a row.
pub(crate) struct Row<'a> {
    pub(crate) user: &'a User,
    /// The name from the names file, where there is one.
    pub(crate) name: Option<&'a str>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) limits: &'a Limits,
}

/// A filter that was understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Word {
        text: String,
        not: bool,
    },
    Compare {
        field: Field,
        op: Op,
        value: f64,
        not: bool,
    },
    Flag {
        flag: Flag,
        not: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
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

/// A part of a filter that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("`{field}` is not a column; compare hr, steps, cal, age or user")]
    NoField { field: String },
    #[error("`{value}` is not a number")]
    NoNumber { value: String },
    #[error("`{term}` needs a number behind it, such as {term}100")]
    Unfinished { term: String },
}

impl Filter {
    /// Reads words apart by spaces. `age` is in seconds and takes `s`, `m`, `h`, `d`.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let terms = text
            .split_whitespace()
            .filter(|t| *t != "!")
            .map(Term::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }

    /// Whether a row can come or go by nothing but time.
    pub(crate) fn looks_at_age(&self) -> bool {
        self.terms
            .iter()
            .any(|t| matches!(t, Term::Compare { field: Field::Age, .. }))
    }

    pub(crate) fn lets_through(&self, row: &Row<'_>) -> bool {
        self.terms.iter().all(|t| t.holds(row))
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, FilterError> {
        let (not, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if let Some(at) = text.find(['<', '>', '=']) {
            return Self::comparison(text, at, not);
        }
        let flag = match text {
            "alert" => Some(Flag::Alert),
            "stale" => Some(Flag::Stale),
            "pinned" => Some(Flag::Pinned),
            _ => None,
        };
        Ok(match flag {
            Some(flag) => Self::Flag { flag, not },
            None => Self::Word {
                text: text.to_lowercase(),
                not,
            },
        })
    }

    fn comparison(text: &str, at: usize, not: bool) -> Result<Self, FilterError> {
        let (name, rest) = text.split_at(at);
        let field = match name.to_lowercase().as_str() {
            "hr" | "heart" | "heart_rate" | "bpm" => Field::HeartRate,
            "steps" => Field::Steps,
            "cal" | "kcal" | "calories" => Field::Calories,
            "age" => Field::Age,
            "user" | "id" | "user_id" => Field::User,
            _ => return Err(FilterError::NoField { field: name.to_owned() }),
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
        .find_map(|(sign, op)| rest.strip_prefix(sign).map(|value| (op, value)))
        .unwrap_or((Op::Equal, rest));
        if value.is_empty() {
            return Err(FilterError::Unfinished { term: text.to_owned() });
        }
        let (digits, factor) = match (field, value.chars().last()) {
            (Field::Age, Some('s')) => (&value[..value.len() - 1], 1.0),
            (Field::Age, Some('m')) => (&value[..value.len() - 1], 60.0),
            (Field::Age, Some('h')) => (&value[..value.len() - 1], 3_600.0),
            (Field::Age, Some('d')) => (&value[..value.len() - 1], 86_400.0),
            _ => (value, 1.0),
        };
        let number: f64 = digits
            .parse()
            .ok()
            .filter(|v: &f64| v.is_finite())
            .ok_or_else(|| FilterError::NoNumber {
                value: value.to_owned(),
            })?;
        Ok(Self::Compare {
            field,
            op,
            value: number * factor,
            not,
        })
    }

    fn holds(&self, row: &Row<'_>) -> bool {
        let user = row.user;
        match self {
            Self::Word { text, not } => {
                let found = row.name.is_some_and(|n| n.to_lowercase().contains(text))
                    || contains_digits(user.id, text)
                    || user.sources.iter().any(|s| s.as_str().to_lowercase().contains(text));
                found != *not
            }
            Self::Flag { flag, not } => {
                let holds = match flag {
                    Flag::Alert => user.alert(row.now, row.limits).is_some(),
                    Flag::Stale => user.is_stale(row.now, row.limits),
                    Flag::Pinned => user.pinned,
                };
                holds != *not
            }
            Self::Compare { field, op, value, not } => {
                let own = match field {
                    Field::HeartRate => user.heart_rate,
                    Field::Steps => user.steps,
                    Field::Calories => user.calories,
                    Field::Age => Some(seconds(user.age(row.now))),
                    Field::User => i32::try_from(user.id).ok().map(f64::from),
                };
                // A value that is not there compares to nothing, also under `!`.
                own.is_some_and(|own| op.holds(own, *value) != *not)
            }
        }
    }
}

impl Op {
    fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
            Self::Equal => (a - b).abs() < 0.05,
        }
    }
}

fn contains_digits(id: i64, text: &str) -> bool {
    // Most words are names: only a word of digits is worth writing the id out for.
    text.bytes().all(|b| b.is_ascii_digit()) && id.to_string().contains(text)
}

fn seconds(age: chrono::TimeDelta) -> f64 {
    age.as_seconds_f64()
}

#[cfg(test)]
mod tests {
    use health_core::{HeartRate, Readings, Sample, Source, Steps, UserId};

    use super::*;
    use crate::store::users::Users;

    fn passes(filter: &str) -> bool {
        let now = DateTime::from_timestamp(1_740_938_460, 0).unwrap();
        let readings = Readings {
            heart_rate: HeartRate::new(155.0).ok(),
            steps: Steps::new(9).ok(),
            calories: None,
        };
        let at = DateTime::from_timestamp(1_740_938_400, 0).unwrap();
        let sample = Sample::new(UserId::new(1042).unwrap(), at, Source::new("phone").unwrap(), readings).unwrap();
        let mut users = Users::default();
        users.hear(&sample, now);
        let limits = Limits::default();
        Filter::parse(filter).unwrap().lets_through(&Row {
            user: users.get(1042).unwrap(),
            name: Some("Ada Lovelace"),
            now,
            limits: &limits,
        })
    }

    #[test]
    fn words_comparisons_and_their_inverse() {
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
            assert!(passes(yes), "{yes}");
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
            assert!(!passes(no), "{no}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        assert_eq!(
            Filter::parse("pulse>3").unwrap_err().to_string(),
            "`pulse` is not a column; compare hr, steps, cal, age or user"
        );
        assert_eq!(Filter::parse("hr>x").unwrap_err().to_string(), "`x` is not a number");
        assert_eq!(
            Filter::parse("hr>").unwrap_err().to_string(),
            "`hr>` needs a number behind it, such as hr>100"
        );
    }
}
