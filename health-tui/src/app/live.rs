//! The live table's own state: cursor, order, filter, freeze.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::line::Line,
    config::Settings,
    store::{Filter, Order, Sorting, User, Users},
};

/// The picture as it was when it was frozen.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    pub(crate) users: Users,
    pub(crate) at: DateTime<Utc>,
    /// Samples that arrived since.
    pub(crate) waiting: u64,
}

/// The live table.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) order: Order,
    pub(crate) sorting: Sorting,
    pub(crate) filter: Filter,
    /// The filter as typed, kept while it is in force.
    pub(crate) filter_text: String,
    pub(crate) filter_error: Option<String>,
    /// The filter being typed.
    pub(crate) editing: Option<Line>,
    pub(crate) frozen: Option<Box<Frozen>>,
    pub(crate) preview: bool,
    /// The user under the cursor; none stays on the first row, whoever is there.
    pub(crate) selected: Option<i64>,
    /// The first unpinned row shown.
    pub(crate) offset: usize,
    /// Users whose newest heart rate asks for attention, among all.
    pub(crate) alerts: usize,
    rebuilt: Option<DateTime<Utc>>,
    /// When the next user falls silent for too long: alerts end then, and `stale` becomes true.
    turns_stale: Option<DateTime<Utc>>,
    /// Something changed that may change the order.
    pub(crate) outdated: bool,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            order: Order::default(),
            sorting: Sorting::default(),
            filter: Filter::default(),
            filter_text: String::new(),
            filter_error: None,
            editing: None,
            frozen: None,
            preview: true,
            selected: None,
            offset: 0,
            alerts: 0,
            rebuilt: None,
            turns_stale: None,
            outdated: false,
        }
    }
}

impl Live {
    /// When the order should be made anew: a second after the last time, so that rows do not dance, and whenever time alone
    /// changes what is true of a row. A frozen picture stays as it is.
    pub(crate) fn rebuild_due(&self) -> Option<DateTime<Utc>> {
        let Some(rebuilt) = self.rebuilt else {
            return self.outdated.then_some(DateTime::<Utc>::MIN_UTC);
        };
        let a_second_later = rebuilt + TimeDelta::seconds(1);
        if self.outdated || (self.filter.looks_at_age() && self.frozen.is_none()) {
            return Some(a_second_later);
        }
        let stale = self.turns_stale.filter(|_| self.frozen.is_none());
        stale.map(|at| at.max(a_second_later))
    }

    /// Filters and sorts anew, and scrolls so that the user under the cursor stays on the same line of the screen.
    pub(crate) fn rebuild(&mut self, users: &Users, settings: &Settings, now: DateTime<Utc>, page: usize) {
        let before = self.cursor(users);
        let shown = self.frozen.as_ref().map_or(users, |f| &f.users);
        let at = self.frozen.as_ref().map_or(now, |f| f.at);
        self.order
            .rebuild(shown, &self.filter, self.sorting, &settings.names, at, &settings.limits);
        self.alerts = shown.iter().filter(|u| u.alert(at, &settings.limits).is_some()).count();
        // A user is stale once the limit is passed, not when it is reached.
        let turns = |u: &User| u.newest + settings.limits.stale() + TimeDelta::milliseconds(1);
        self.turns_stale = shown.iter().map(turns).filter(|t| *t > at).min();
        self.rebuilt = Some(now);
        self.outdated = false;
        let after = self.cursor(users);
        if self.selected.is_some() {
            self.offset = (self.offset + after).saturating_sub(before);
        }
        self.show_cursor(users, page);
    }

    /// Makes the order anew at the next opportunity, without waiting for the second to pass.
    pub(crate) fn rebuild_now(&mut self) {
        self.outdated = true;
        self.rebuilt = None;
    }

    /// The row under the cursor, from 0.
    pub(crate) fn cursor(&self, users: &Users) -> usize {
        self.selected
            .and_then(|id| self.order.row_of(self.shown(users), id))
            .unwrap_or(0)
    }

    /// The user under the cursor.
    pub(crate) fn current(&self, users: &Users) -> Option<i64> {
        let shown = self.shown(users);
        match self.selected {
            Some(id) if self.order.row_of(shown, id).is_some() => Some(id),
            _ => self.order.get(0).and_then(|i| shown.at(i)).map(|u| u.id),
        }
    }

    pub(crate) fn move_by(&mut self, by: isize, users: &Users, page: usize) {
        let row = self.cursor(users).saturating_add_signed(by);
        self.select_row(row, users, page);
    }

    pub(crate) fn select_row(&mut self, row: usize, users: &Users, page: usize) {
        let row = row.min(self.order.len().saturating_sub(1));
        self.selected = self.order.get(row).and_then(|i| self.shown(users).at(i)).map(|u| u.id);
        self.show_cursor(users, page);
    }

    /// Back to the first row, whoever is there.
    pub(crate) fn go_to_first(&mut self) {
        self.selected = None;
        self.offset = 0;
    }

    /// Scrolls without moving the cursor, for the wheel; the cursor follows at the edges.
    pub(crate) fn scroll_by(&mut self, by: isize, users: &Users, page: usize) {
        let pinned = self.order.pinned();
        let room = page.saturating_sub(pinned).max(1);
        let most = self.order.len().saturating_sub(pinned + room);
        self.offset = self.offset.saturating_add_signed(by).min(most);
        let row = self.cursor(users);
        if row >= pinned {
            let low = pinned + self.offset;
            let high = low + room - 1;
            if row < low || row > high {
                self.select_row(row.clamp(low, high), users, page);
            }
        }
    }

    /// The next (or the previous) row with an alert, around the end.
    pub(crate) fn jump_to_alert(
        &mut self,
        forward: bool,
        users: &Users,
        settings: &Settings,
        now: DateTime<Utc>,
        page: usize,
    ) -> bool {
        let n = self.order.len();
        let from = self.cursor(users);
        let at = self.frozen.as_ref().map_or(now, |f| f.at);
        let found = (1..=n)
            .map(|step| {
                if forward {
                    (from + step) % n
                } else {
                    (from + n - step) % n
                }
            })
            .find(|row| {
                self.order
                    .get(*row)
                    .and_then(|i| self.shown(users).at(i))
                    .is_some_and(|u| u.alert(at, &settings.limits).is_some())
            });
        if let Some(row) = found {
            self.select_row(row, users, page);
        }
        found.is_some()
    }

    /// The row at a line of the table (0 is the first), for the mouse.
    pub(crate) fn row_at_line(&self, line: usize) -> Option<usize> {
        let pinned = self.order.pinned();
        let row = if line < pinned { line } else { line + self.offset };
        (row < self.order.len()).then_some(row)
    }

    fn shown<'a>(&'a self, users: &'a Users) -> &'a Users {
        self.frozen.as_ref().map_or(users, |f| &f.users)
    }

    /// Scrolls as little as needed for the cursor to be seen.
    pub(crate) fn show_cursor(&mut self, users: &Users, page: usize) {
        let pinned = self.order.pinned();
        let room = page.saturating_sub(pinned).max(1);
        let most = self.order.len().saturating_sub(pinned + room);
        let row = self.cursor(users);
        if row >= pinned {
            let row = row - pinned;
            if row < self.offset {
                self.offset = row;
            } else if row >= self.offset + room {
                self.offset = row + 1 - room;
            }
        }
        self.offset = self.offset.min(most);
    }
}
