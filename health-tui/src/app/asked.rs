//! The question about the past that is under way, if one is.

use chrono::{DateTime, Utc};

/// What was asked about the past.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(super) asked: Option<Question>,
    /// Nothing is asked before.
    pub(super) not_before: Option<DateTime<Utc>>,
}

/// Users whose past was asked for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) id: u64,
    pub(super) users: Vec<i64>,
}

impl Past {
    /// Whether `id` is the question under way.
    pub(super) fn is_asked(&self, id: u64) -> bool {
        self.asked.as_ref().is_some_and(|q| q.id == id)
    }

    /// When a pause ends.
    pub(super) fn resumes(&self) -> Option<DateTime<Utc>> {
        self.not_before
    }

    /// The last of the answer has come.
    pub(super) fn done(&mut self) {
        self.asked = None;
    }
}
