//! How much memory waits for readers, all of them together.
//!
//! Each reader's queue is bounded in samples, and samples are shared by those who wait for the same ones; but a thousand
//! readers who stopped at different places keep different samples alive. So everything that waits is counted, and the hub
//! [relieves](crate::live::hub) itself of those who are furthest behind.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes there are, and how many of them are used. Estimates, on the safe side.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    bytes: usize,
    used: AtomicUsize,
}

/// A part of a [`MemoryBudget`], given back on drop.
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

    /// Something has to go.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used.load(Relaxed) > self.bytes
    }

    /// So much has gone that it is worth it.
    pub(crate) fn has_headroom(&self) -> bool {
        self.used.load(Relaxed) <= self.bytes / 4 * 3
    }

    /// Whoever can wait had better.
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
    fn what_is_taken_is_given_back() {
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
