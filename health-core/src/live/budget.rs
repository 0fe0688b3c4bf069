//! The bound on the memory of all subscriber queues together.
//!
//! Each queue is bounded in samples, and subscribers that wait for the same samples share them. But a thousand
//! subscribers that stopped at different positions keep different samples alive. Therefore all waiting samples
//! are counted here. If the budget is exceeded, the [hub](crate::live::hub) discards the samples of the
//! subscribers with the most waiting samples.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// A number of bytes, and how many of them are used. The counts are estimates and never too low.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    bytes: usize,
    used: AtomicUsize,
}

/// A part of a [`MemoryBudget`]. Dropping it gives the bytes back.
#[derive(Debug)]
pub(crate) struct BudgetShare {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl MemoryBudget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            used: AtomicUsize::new(0),
        })
    }

    /// Returns whether the hub must discard waiting samples.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used.load(Relaxed) > self.bytes
    }

    /// Returns whether the hub has discarded enough: a quarter of the budget is free again.
    pub(crate) fn has_headroom(&self) -> bool {
        self.used.load(Relaxed) <= self.bytes / 4 * 3
    }

    /// Returns whether more than half of the budget is used. Replays then read less ahead.
    pub(crate) fn is_tight(&self) -> bool {
        self.used.load(Relaxed) > self.bytes / 2
    }
}

impl BudgetShare {
    pub(crate) fn new(budget: &Arc<MemoryBudget>, bytes: usize) -> Self {
        budget.used.fetch_add(bytes, Relaxed);
        Self {
            budget: Arc::clone(budget),
            bytes,
        }
    }

    pub(crate) fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Relaxed);
        } else if bytes < self.bytes {
            self.budget.used.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }

    pub(crate) fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_shares_give_their_bytes_back() {
        let budget = MemoryBudget::new(100);
        let mut one = BudgetShare::new(&budget, 40);
        let other = BudgetShare::new(&budget, 40);
        assert!(budget.is_tight() && !budget.has_headroom() && !budget.is_exceeded());
        one.resize(61);
        assert!(budget.is_exceeded());
        drop(other);
        assert!(budget.has_headroom() && !budget.is_exceeded());
        one.resize(10);
        assert!(!budget.is_tight());
        drop(one);
        assert_eq!(budget.used.load(Relaxed), 0);
    }
}
