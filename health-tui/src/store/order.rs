//! Which rows are shown, in which order.

use std::{cmp::Ordering, collections::HashMap};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::store::{
    filter::{Filter, Row},
    users::{Limits, User, Users},
};

/// A column of the live table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Column {
    User,
    HeartRate,
    Steps,
    Calories,
    Age,
}

impl Column {
    pub(crate) const ALL: [Self; 5] = [Self::User, Self::HeartRate, Self::Steps, Self::Calories, Self::Age];

    /// What a person wants to see first: users from the first, values from the highest, ages from the newest.
    fn natural(self, a: &User, b: &User, names: &HashMap<i64, String>) -> Ordering {
        let high_first = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => b.total_cmp(&a),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        match self {
            Self::User => match (names.get(&a.id), names.get(&b.id)) {
                (Some(x), Some(y)) => x.cmp(y),
                (x, y) => y.is_some().cmp(&x.is_some()),
            },
            Self::HeartRate => high_first(a.heart_rate, b.heart_rate),
            Self::Steps => high_first(a.steps, b.steps),
            Self::Calories => high_first(a.calories, b.calories),
            Self::Age => b.newest.cmp(&a.newest),
        }
        .then(a.id.cmp(&b.id))
    }
}

/// By what, and which way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sorting {
    pub(crate) column: Column,
    pub(crate) reverse: bool,
}

impl Default for Sorting {
    fn default() -> Self {
        Self {
            column: Column::User,
            reverse: false,
        }
    }
}

impl Sorting {
    /// The column `by` places further on.
    pub(crate) fn moved(self, forward: bool) -> Self {
        let all = Column::ALL;
        let at = all.iter().position(|c| *c == self.column).unwrap_or(0);
        let step = if forward { 1 } else { all.len() - 1 };
        Self {
            column: all[(at + step) % all.len()],
            reverse: false,
        }
    }
}

/// The rows in the order they are shown: pinned ones first, then what the filter lets through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    rows: Vec<u32>,
    pinned: usize,
}

impl Order {
    /// Filters and sorts everyone anew. For 10 000 users about a millisecond, so it is done at most once a second.
    pub(crate) fn rebuild(
        &mut self,
        users: &Users,
        filter: &Filter,
        sorting: Sorting,
        names: &HashMap<i64, String>,
        now: DateTime<Utc>,
        limits: &Limits,
    ) {
        self.rows.clear();
        for (i, user) in users.iter().enumerate() {
            let row = Row {
                user,
                name: names.get(&user.id).map(String::as_str),
                now,
                limits,
            };
            if user.pinned || filter.lets_through(&row) {
                self.rows.push(u32::try_from(i).unwrap_or(u32::MAX));
            }
        }
        let compare = |a: &u32, b: &u32| match (users.at(*a), users.at(*b)) {
            (Some(a), Some(b)) => b.pinned.cmp(&a.pinned).then_with(|| {
                let natural = sorting.column.natural(a, b, names);
                if sorting.reverse { natural.reverse() } else { natural }
            }),
            _ => Ordering::Equal,
        };
        // Mostly sorted already from one second to the next, which is what the stable sort is quick at.
        self.rows.sort_by(compare);
        self.pinned = self
            .rows
            .iter()
            .take_while(|i| users.at(**i).is_some_and(|u| u.pinned))
            .count();
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many rows stand at the top whatever is scrolled.
    pub(crate) fn pinned(&self) -> usize {
        self.pinned
    }

    pub(crate) fn get(&self, row: usize) -> Option<u32> {
        self.rows.get(row).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.rows.iter().copied()
    }

    /// The row a user is in.
    pub(crate) fn row_of(&self, users: &Users, id: i64) -> Option<usize> {
        self.rows.iter().position(|i| users.at(*i).is_some_and(|u| u.id == id))
    }
}

#[cfg(test)]
mod tests {
    use health_core::{HeartRate, Readings, Sample, Source, UserId};

    use super::*;

    fn users(values: &[(i64, f64)]) -> Users {
        let mut users = Users::default();
        let at = DateTime::from_timestamp(1_740_938_400, 0).unwrap();
        for (id, bpm) in values {
            let readings = Readings {
                heart_rate: HeartRate::new(*bpm).ok(),
                ..Readings::default()
            };
            users.hear(
                &Sample::new(UserId::new(*id).unwrap(), at, Source::default(), readings).unwrap(),
                at,
            );
        }
        users
    }

    fn ids(users: &Users, filter: &str, column: Column, reverse: bool) -> Vec<i64> {
        let mut order = Order::default();
        let names = HashMap::from([(3, "Ada".to_owned())]);
        let now = DateTime::from_timestamp(1_740_938_401, 0).unwrap();
        order.rebuild(
            users,
            &Filter::parse(filter).unwrap(),
            Sorting { column, reverse },
            &names,
            now,
            &Limits::default(),
        );
        order.iter().filter_map(|i| users.at(i)).map(|u| u.id).collect()
    }

    #[test]
    fn sorted_filtered_reversed_and_pinned() {
        let mut users = users(&[(2, 80.0), (1, 60.0), (3, 170.0)]);
        assert_eq!(ids(&users, "", Column::User, false), [3, 1, 2], "named ones first");
        assert_eq!(ids(&users, "", Column::HeartRate, false), [3, 2, 1]);
        assert_eq!(ids(&users, "", Column::HeartRate, true), [1, 2, 3]);
        assert_eq!(ids(&users, "hr<100", Column::User, false), [1, 2]);
        users.get_mut(3).unwrap().pinned = true;
        assert_eq!(
            ids(&users, "hr<100", Column::HeartRate, true),
            [3, 1, 2],
            "a pinned row stays"
        );
    }
}
