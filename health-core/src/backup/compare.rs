//! Compares the totals of a restored backup with those of the database that it was made of.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::{store::totals::UserTotals, text::counted};

/// The result of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal {
        /// The number of users of whom the database has fewer such samples than the backup: some were changed or erased
        /// since.
        changed_users: usize,
    },
    /// What differs, as a clause.
    Differs(String),
}

/// Compares the samples with ids that no later commit can have given.
///
/// Since the backup, such a sample can only have disappeared from the database: it was erased, or it was changed and so
/// got a new id. So the database never has more such samples of a user than the backup. If it has as many, all sums
/// must be equal.
pub(crate) fn compare(restored: &[UserTotals], database: &[UserTotals]) -> Comparison {
    let restored: BTreeMap<_, _> = restored.iter().map(|totals| (totals.user_id, totals)).collect();
    let mut equal = 0;
    for totals in database {
        let user = totals.user_id;
        let Some(copy) = restored.get(&user) else {
            return Comparison::Differs(format!(
                "user {user} is missing, who has {}",
                counted(totals.samples, "sample")
            ));
        };
        match totals.samples.cmp(&copy.samples) {
            Ordering::Greater => {
                return Comparison::Differs(format!(
                    "user {user} has {} in the backup and {} in the database",
                    counted(copy.samples, "sample"),
                    totals.samples
                ));
            }
            Ordering::Equal if totals != *copy => {
                return Comparison::Differs(format!(
                    "the sums of user {user} differ, although both have {}",
                    counted(totals.samples, "sample")
                ));
            }
            Ordering::Equal => equal += 1,
            Ordering::Less => {}
        }
    }
    Comparison::Equal {
        changed_users: restored.len() - equal,
    }
}

/// Returns the number of samples of all users.
pub(crate) fn total_samples(users: &[UserTotals]) -> i64 {
    users.iter().map(|totals| totals.samples).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user_id: i64, samples: i64, steps: i64) -> UserTotals {
        UserTotals::for_test(user_id, samples, steps)
    }

    #[test]
    fn what_was_changed_or_erased_since_is_counted_and_a_loss_is_named() {
        let backup = [user(1, 10, 100), user(2, 20, 200), user(3, 30, 300)];
        assert_eq!(compare(&backup, &backup), Comparison::Equal { changed_users: 0 });
        let later = [user(1, 10, 100), user(2, 19, 190)];
        assert_eq!(compare(&backup, &later), Comparison::Equal { changed_users: 2 });
        for (database, expected) in [
            (
                [user(1, 11, 110)],
                "user 1 has 10 samples in the backup and 11 in the database",
            ),
            (
                [user(2, 20, 201)],
                "the sums of user 2 differ, although both have 20 samples",
            ),
            ([user(4, 1, 1)], "user 4 is missing, who has 1 sample"),
        ] {
            assert_eq!(compare(&backup, &database), Comparison::Differs(expected.to_owned()));
        }
    }
}
