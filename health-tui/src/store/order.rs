//! Which rows the live table has, and in which order.

use std::{cmp::Ordering, collections::HashMap};

use chrono::{DateTime, Utc};
use health_core::AlertThresholds;
use serde::Deserialize;

use crate::store::{
    filter::{Row, RowFilter},
    users::{User, Users},
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

    /// Compares two users in the order that a person wants to see first: names and ids ascending, values from the
    /// highest, ages from the newest.
    fn compare(self, a: &User, b: &User, names: &HashMap<i64, String>) -> Ordering {
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

/// The column that the rows are sorted by, and the direction.
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
    /// Returns the sorting by the next or the previous column.
    pub(crate) fn moved(self, forward: bool) -> Self {
        let all = Column::ALL;
        let index = all.iter().position(|column| *column == self.column).unwrap_or(0);
        let step = if forward { 1 } else { all.len() - 1 };
        Self {
            column: all[(index + step) % all.len()],
            reverse: false,
        }
    }
}

/// The rows in the order of the table: the pinned users, then the users that match the filter.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowOrder {
    /// Indices into [`Users`].
    rows: Vec<u32>,
    pinned: usize,
}

impl RowOrder {
    /// Filters and sorts all users. This takes about a millisecond for 10 000 users, so it is done at most once a
    /// second.
    pub(crate) fn rebuild(
        &mut self,
        users: &Users,
        filter: &RowFilter,
        sorting: Sorting,
        names: &HashMap<i64, String>,
        now: DateTime<Utc>,
        thresholds: &AlertThresholds,
    ) {
        self.rows.clear();
        for (i, user) in users.iter().enumerate() {
            let row = Row {
                user,
                name: names.get(&user.id).map(String::as_str),
                now,
                thresholds,
            };
            if !user.is_empty() && (user.pinned || filter.matches(&row)) {
                self.rows.push(u32::try_from(i).unwrap_or(u32::MAX));
            }
        }
        let compare = |a: &u32, b: &u32| match (users.at(*a), users.at(*b)) {
            (Some(a), Some(b)) => b.pinned.cmp(&a.pinned).then_with(|| {
                let order = sorting.column.compare(a, b, names);
                if sorting.reverse { order.reverse() } else { order }
            }),
            _ => Ordering::Equal,
        };
        // Most rows are already sorted since the last rebuild: the stable sort is fast on sorted runs.
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

    /// Returns the number of pinned rows. They stay at the top while the others scroll.
    pub(crate) fn pinned(&self) -> usize {
        self.pinned
    }

    pub(crate) fn get(&self, row: usize) -> Option<u32> {
        self.rows.get(row).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.rows.iter().copied()
    }

    /// Returns the row of a user.
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
            users.add_from_feed(
                &Sample::new(UserId::new(*id).unwrap(), at, Source::default(), readings).unwrap(),
                at,
            );
        }
        users
    }

    fn ids(users: &Users, filter: &str, column: Column, reverse: bool) -> Vec<i64> {
        let mut order = RowOrder::default();
        let names = HashMap::from([(3, "Ada".to_owned())]);
        let now = DateTime::from_timestamp(1_740_938_401, 0).unwrap();
        order.rebuild(
            users,
            &RowFilter::parse(filter).unwrap(),
            Sorting { column, reverse },
            &names,
            now,
            &AlertThresholds::default(),
        );
        order.iter().filter_map(|i| users.at(i)).map(|u| u.id).collect()
    }

    #[test]
    fn rows_are_sorted_filtered_reversed_and_pinned() {
        let mut users = users(&[(2, 80.0), (1, 60.0), (3, 170.0)]);
        assert_eq!(
            ids(&users, "", Column::User, false),
            [3, 1, 2],
            "users with a name come first"
        );
        assert_eq!(ids(&users, "", Column::HeartRate, false), [3, 2, 1]);
        assert_eq!(ids(&users, "", Column::HeartRate, true), [1, 2, 3]);
        assert_eq!(ids(&users, "hr<100", Column::User, false), [1, 2]);
        users.get_mut(3).unwrap().pinned = true;
        assert_eq!(
            ids(&users, "hr<100", Column::HeartRate, true),
            [3, 1, 2],
            "a pinned row ignores the filter"
        );
    }
}
