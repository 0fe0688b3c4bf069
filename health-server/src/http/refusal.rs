//! The sentences that say how many records of a request were refused, and how many are stored.

use health_core::counted;

/// Returns proper sentences for every combination of numbers.
pub(crate) fn refused_and_stored(refused: u64, stored: u64) -> String {
    match (refused, stored) {
        (0, 0) => "The request has no record.".to_owned(),
        (0, 1) => "The record is stored.".to_owned(),
        (0, stored) => format!("All {stored} records are stored."),
        (1, 0) => "The record was refused. Nothing was stored.".to_owned(),
        (refused, 0) => format!("All {refused} records were refused. Nothing was stored."),
        (refused, stored) => {
            let (all, verb) = (
                refused.saturating_add(stored),
                if refused == 1 { "was" } else { "were" },
            );
            let rest = match stored {
                1 => "The other one is stored.".to_owned(),
                stored => format!("The other {stored} are stored."),
            };
            format!("{refused} of {} {verb} refused. {rest}", counted(all, "record"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_numbers_is_a_proper_sentence() {
        for (refused, stored, expected) in [
            (0, 0, "The request has no record."),
            (0, 1, "The record is stored."),
            (0, 7, "All 7 records are stored."),
            (1, 0, "The record was refused. Nothing was stored."),
            (1, 1, "1 of 2 records was refused. The other one is stored."),
            (1, 7, "1 of 8 records was refused. The other 7 are stored."),
            (16, 0, "All 16 records were refused. Nothing was stored."),
            (16, 1, "16 of 17 records were refused. The other one is stored."),
            (16, 7, "16 of 23 records were refused. The other 7 are stored."),
        ] {
            assert_eq!(refused_and_stored(refused, stored), expected);
        }
    }
}
