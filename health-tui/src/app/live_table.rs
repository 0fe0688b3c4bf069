//! The state of the live table: cursor, order, filter and freeze.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::text_input::TextInput,
    config::Settings,
    fmt,
    store::{RowFilter, RowOrder, Sorting, User, Users},
};

/// The users as they were when the table was frozen.
#[derive(Clone, Debug)]
pub(crate) struct FrozenTable {
    pub(crate) users: Users,
    pub(crate) at: DateTime<Utc>,
    /// Number of samples that have arrived since the freeze.
    pub(crate) new_samples: u64,
}

/// The live table.
#[derive(Clone, Debug)]
pub(crate) struct LiveTable {
    pub(crate) order: RowOrder,
    pub(crate) sorting: Sorting,
    pub(crate) filter: RowFilter,
    /// The filter as the user typed it.
    pub(crate) filter_text: String,
    pub(crate) filter_error: Option<String>,
    /// Set while the user types a filter.
    pub(crate) editing: Option<TextInput>,
    pub(crate) frozen: Option<Box<FrozenTable>>,
    pub(crate) preview: bool,
    /// The user under the cursor. `None` keeps the cursor on the first row, even if the user in it changes.
    pub(crate) selected: Option<i64>,
    /// Number of unpinned rows that are scrolled out above the table.
    pub(crate) offset: usize,
    /// Number of users, filtered out or not, whose newest heart rate is an alert.
    pub(crate) alerts: usize,
    /// Whether a user's newest timestamp is in the future: the ages then need more columns.
    has_ahead: bool,
    rebuilt_at: Option<DateTime<Utc>>,
    /// When the next user becomes stale: an alert ends then, and `stale` becomes true.
    next_stale_at: Option<DateTime<Utc>>,
    /// Whether something changed that may change the order.
    pub(crate) outdated: bool,
}

impl Default for LiveTable {
    fn default() -> Self {
        Self {
            order: RowOrder::default(),
            sorting: Sorting::default(),
            filter: RowFilter::default(),
            filter_text: String::new(),
            filter_error: None,
            editing: None,
            frozen: None,
            preview: true,
            selected: None,
            offset: 0,
            alerts: 0,
            has_ahead: false,
            rebuilt_at: None,
            next_stale_at: None,
            outdated: false,
        }
    }
}

impl LiveTable {
    /// Returns when the rows should be filtered and sorted again. The past means at once.
    ///
    /// Rows are sorted at most once a second, so that they do not jump around. Time alone can also change a row: a
    /// filter may compare ages, and a user may become stale. A frozen table ignores time.
    pub(crate) fn next_rebuild(&self) -> Option<DateTime<Utc>> {
        let Some(rebuilt_at) = self.rebuilt_at else {
            return self.outdated.then_some(DateTime::<Utc>::MIN_UTC);
        };
        let earliest = rebuilt_at + TimeDelta::seconds(1);
        if self.outdated || (self.filter.compares_age() && self.frozen.is_none()) {
            return Some(earliest);
        }
        let stale_at = self.next_stale_at.filter(|_| self.frozen.is_none());
        stale_at.map(|at| at.max(earliest))
    }

    /// Filters and sorts the rows. Scrolls so that the selected user stays on the same line of the screen.
    pub(crate) fn rebuild(&mut self, users: &Users, settings: &Settings, now: DateTime<Utc>, visible_rows: usize) {
        let old_row = self.cursor_row(users);
        // Not `shown_users`: the order is borrowed mutably below.
        let shown = self.frozen.as_ref().map_or(users, |frozen| &frozen.users);
        let at = self.frozen.as_ref().map_or(now, |frozen| frozen.at);
        let thresholds = &settings.alert_thresholds;
        self.order
            .rebuild(shown, &self.filter, self.sorting, &settings.names, at, thresholds);
        self.alerts = shown.iter().filter(|user| user.alert(at, thresholds).is_some()).count();
        self.has_ahead = shown.iter().any(|user| fmt::is_ahead(user.age(at)));
        // A user is stale after the threshold, not at it.
        let stale_at = |user: &User| user.last_sign() + thresholds.stale_after() + TimeDelta::milliseconds(1);
        self.next_stale_at = shown.iter().map(stale_at).filter(|stale_at| *stale_at > at).min();
        self.rebuilt_at = Some(now);
        self.outdated = false;
        let new_row = self.cursor_row(users);
        if self.selected.is_some() {
            self.offset = (self.offset + new_row).saturating_sub(old_row);
        }
        self.scroll_to_cursor(users, visible_rows);
    }

    /// Returns the columns of an age.
    pub(crate) fn age_columns(&self) -> u16 {
        if self.has_ahead {
            fmt::AGE_AHEAD_COLUMNS
        } else {
            fmt::AGE_COLUMNS
        }
    }

    /// Requests a rebuild at the end of this update, without waiting until a second has passed.
    pub(crate) fn rebuild_soon(&mut self) {
        self.outdated = true;
        self.rebuilt_at = None;
    }

    /// Returns the row under the cursor. The first row is 0.
    pub(crate) fn cursor_row(&self, users: &Users) -> usize {
        self.selected
            .and_then(|id| self.order.row_of(self.shown_users(users), id))
            .unwrap_or(0)
    }

    /// Returns the user under the cursor.
    pub(crate) fn user_under_cursor(&self, users: &Users) -> Option<i64> {
        let shown = self.shown_users(users);
        match self.selected {
            Some(id) if self.order.row_of(shown, id).is_some() => Some(id),
            _ => self.order.get(0).and_then(|index| shown.at(index)).map(|user| user.id),
        }
    }

    pub(crate) fn move_cursor(&mut self, rows: isize, users: &Users, visible_rows: usize) {
        let row = self.cursor_row(users).saturating_add_signed(rows);
        self.select_row(row, users, visible_rows);
    }

    pub(crate) fn select_row(&mut self, row: usize, users: &Users, visible_rows: usize) {
        let row = row.min(self.order.len().saturating_sub(1));
        self.selected = self
            .order
            .get(row)
            .and_then(|index| self.shown_users(users).at(index))
            .map(|user| user.id);
        self.scroll_to_cursor(users, visible_rows);
    }

    /// Moves the cursor to the first row and keeps it there.
    pub(crate) fn go_to_first(&mut self) {
        self.selected = None;
        self.offset = 0;
    }

    /// Scrolls with the mouse wheel. The cursor stays on its user until that row would leave the table.
    pub(crate) fn scroll_by(&mut self, rows: isize, users: &Users, visible_rows: usize) {
        let pinned = self.order.pinned();
        let unpinned_rows = visible_rows.saturating_sub(pinned).max(1);
        let offset_max = self.order.len().saturating_sub(pinned + unpinned_rows);
        self.offset = self.offset.saturating_add_signed(rows).min(offset_max);
        let row = self.cursor_row(users);
        if row >= pinned {
            let first = pinned + self.offset;
            let last = first + unpinned_rows - 1;
            if row < first || row > last {
                self.select_row(row.clamp(first, last), users, visible_rows);
            }
        }
    }

    /// Selects the next or the previous row with an alert and wraps around. Returns whether there is one.
    pub(crate) fn select_alert(
        &mut self,
        forward: bool,
        users: &Users,
        settings: &Settings,
        now: DateTime<Utc>,
        visible_rows: usize,
    ) -> bool {
        let rows = self.order.len();
        let cursor = self.cursor_row(users);
        let at = self.frozen.as_ref().map_or(now, |frozen| frozen.at);
        let found = (1..=rows)
            .map(|step| if forward { cursor + step } else { cursor + rows - step } % rows)
            .find(|row| {
                self.order
                    .get(*row)
                    .and_then(|index| self.shown_users(users).at(index))
                    .is_some_and(|user| user.alert(at, &settings.alert_thresholds).is_some())
            });
        if let Some(row) = found {
            self.select_row(row, users, visible_rows);
        }
        found.is_some()
    }

    /// Returns the row that a line of the table shows. The first line is 0.
    pub(crate) fn row_at_line(&self, line: usize) -> Option<usize> {
        let pinned = self.order.pinned();
        let row = if line < pinned { line } else { line + self.offset };
        (row < self.order.len()).then_some(row)
    }

    fn shown_users<'a>(&'a self, users: &'a Users) -> &'a Users {
        self.frozen.as_ref().map_or(users, |frozen| &frozen.users)
    }

    /// Scrolls no further than needed to make the cursor visible.
    pub(crate) fn scroll_to_cursor(&mut self, users: &Users, visible_rows: usize) {
        let pinned = self.order.pinned();
        let unpinned_rows = visible_rows.saturating_sub(pinned).max(1);
        let offset_max = self.order.len().saturating_sub(pinned + unpinned_rows);
        let row = self.cursor_row(users);
        if row >= pinned {
            let row = row - pinned;
            if row < self.offset {
                self.offset = row;
            } else if row >= self.offset + unpinned_rows {
                self.offset = row + 1 - unpinned_rows;
            }
        }
        self.offset = self.offset.min(offset_max);
    }
}
