//! PostgreSQL's transaction snapshots.

use std::{fmt, str::FromStr};

/// The set of transactions that are visible at one moment, as PostgreSQL's type `pg_snapshot` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionSnapshot {
    /// All transactions below this id have ended.
    xmin: u64,
    /// No transaction with this id or a higher one had begun.
    xmax: u64,
    /// The transactions between the two that had not ended, ascending.
    in_progress: Vec<u64>,
}

/// A text that is not a `pg_snapshot`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a PostgreSQL snapshot")]
pub(crate) struct InvalidSnapshot(String);

impl TransactionSnapshot {
    /// Returns a snapshot that sees every transaction below `xid` and no other.
    pub(crate) fn below(xid: u64) -> Self {
        Self {
            xmin: xid,
            xmax: xid,
            in_progress: Vec::new(),
        }
    }

    pub(crate) fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    /// Returns the lowest transaction id that may be invisible.
    pub(crate) fn xmin(&self) -> u64 {
        self.xmin
    }

    /// Returns the lowest transaction id that had not begun.
    pub(crate) fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Returns the transactions below [`Self::xmax`] that are invisible.
    pub(crate) fn in_progress(&self) -> &[u64] {
        &self.in_progress
    }

    /// Returns the snapshot with these transactions made invisible.
    #[must_use]
    pub(crate) fn without(mut self, xids: impl IntoIterator<Item = u64>) -> Self {
        self.in_progress.extend(xids);
        self.in_progress.sort_unstable();
        self.in_progress.dedup();
        self.xmin = self
            .in_progress
            .first()
            .map_or(self.xmin, |first| self.xmin.min(*first));
        self
    }

    /// Returns the snapshot with every transaction from `xmax` on made invisible.
    ///
    /// After a crash, PostgreSQL assigns the ids of the last transactions again if they left nothing on disk. It
    /// never reassigns an id below that of a durable commit. Therefore a snapshot is kept only up to the last
    /// durable commit.
    #[must_use]
    pub(crate) fn up_to(mut self, xmax: u64) -> Self {
        self.xmax = self.xmax.min(xmax);
        self.in_progress.retain(|xid| *xid < self.xmax);
        self.xmin = self
            .in_progress
            .first()
            .map_or(self.xmax, |first| self.xmin.min(*first));
        self
    }

    /// Returns the full transaction id for a row's `xmin` column, which stores the lower 32 bits only.
    ///
    /// The result is correct for transactions within 2^31 ids of this snapshot.
    pub(crate) fn full_xid(&self, low: u32) -> u64 {
        let cycle = 1 << 32;
        let candidate = (self.xmax / cycle) * cycle + u64::from(low);
        // Among the candidates, the one closest to this snapshot is correct.
        if candidate > self.xmax + cycle / 2 {
            candidate.saturating_sub(cycle)
        } else if candidate + cycle / 2 < self.xmax {
            candidate + cycle
        } else {
            candidate
        }
    }
}

impl FromStr for TransactionSnapshot {
    type Err = InvalidSnapshot;

    fn from_str(text: &str) -> Result<Self, InvalidSnapshot> {
        let read = || {
            let mut parts = text.split(':');
            let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let listed = parts.next()?.split(',').filter(|xid| !xid.is_empty());
            let mut in_progress = listed.map(|xid| xid.parse().ok()).collect::<Option<Vec<_>>>()?;
            in_progress.sort_unstable();
            Some(Self {
                xmin,
                xmax,
                in_progress,
            })
        };
        read().ok_or_else(|| InvalidSnapshot(text.to_owned()))
    }
}

impl fmt::Display for TransactionSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.in_progress.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_the_transactions_that_had_ended() {
        let snapshot: TransactionSnapshot = "10:20:10,14".parse().unwrap();
        let seen: Vec<_> = (8..22).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
        let fewer = snapshot.without([9, 12]);
        assert_eq!(fewer.to_string(), "9:20:9,10,12,14");
        assert!(fewer.sees(8) && !fewer.sees(9) && !fewer.sees(12));
        assert_eq!(fewer.clone().up_to(13).to_string(), "9:13:9,10,12");
        assert_eq!(fewer.up_to(9).to_string(), "9:9:");
        assert_eq!(
            "7:7:".parse::<TransactionSnapshot>().unwrap(),
            TransactionSnapshot::below(7)
        );
        for text in ["", "7", "7:8", "a:8:", "7:8:x"] {
            assert!(text.parse::<TransactionSnapshot>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_full_transaction_id_is_found_around_a_wraparound() {
        let at = |xmax: u64| TransactionSnapshot::below(xmax);
        let cycle = 1 << 32;
        for (snapshot, xid) in [
            (at(1000), 7),
            (at(1000), 1200),
            (at(5 * cycle + 3), 5 * cycle + 1),
            (at(5 * cycle + 3), 5 * cycle - 1),
            (at(5 * cycle - 3), 5 * cycle + 4),
        ] {
            let low = u32::try_from(xid % cycle).unwrap();
            assert_eq!(snapshot.full_xid(low), xid);
        }
    }
}
