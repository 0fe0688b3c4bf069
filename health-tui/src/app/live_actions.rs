//! The actions of the live table.

use crate::{
    app::{
        event::Tone,
        live_table::FrozenTable,
        state::{App, Pane},
        text_input::TextInput,
        user_view::UserView,
    },
    keys::Action,
    store::Sorting,
};

impl App {
    pub(super) fn act_in_live_table(&mut self, action: Action) {
        match action {
            Action::Up
            | Action::Down
            | Action::PageUp
            | Action::PageDown
            | Action::First
            | Action::Last
            | Action::NextAlert
            | Action::PreviousAlert => self.move_in_live_table(action),
            Action::Open if self.live.editing.is_some() => self.accept_filter(),
            Action::Open => self.open_user(),
            Action::Filter => self.live.editing = Some(TextInput::new(self.live.filter_text.clone())),
            Action::Back => {
                self.live.editing = None;
                self.set_filter(String::new());
            }
            Action::ClearField => {
                if let Some(input) = &mut self.live.editing {
                    input.clear();
                }
                self.set_filter(String::new());
            }
            Action::SortNext => self.sort(self.live.sorting.moved(true)),
            Action::SortPrevious => self.sort(self.live.sorting.moved(false)),
            Action::Reverse => self.sort(Sorting {
                reverse: !self.live.sorting.reverse,
                ..self.live.sorting
            }),
            Action::Pin => self.pin_user(),
            Action::Freeze => self.toggle_freeze(),
            Action::Preview => {
                self.live.preview = !self.live.preview;
                let visible_rows = self.visible_rows();
                self.live.scroll_to_cursor(&self.users, visible_rows);
            }
            Action::RowScales => {
                self.settings.row_scales = !self.settings.row_scales;
                let text = if self.settings.row_scales {
                    "Each row has its own scale."
                } else {
                    "All rows have the same scale."
                };
                self.show_toast(Tone::Good, text);
            }
            Action::StatsOfUser => {
                if let Some(id) = self.live.user_under_cursor(&self.users) {
                    self.form.prefill(id, None);
                    self.pane = Pane::Stats;
                }
            }
            _ => {}
        }
    }

    fn move_in_live_table(&mut self, action: Action) {
        let visible_rows = self.visible_rows();
        let page = isize::try_from(visible_rows).unwrap_or(isize::MAX);
        match action {
            Action::Up => self.live.move_cursor(-1, &self.users, visible_rows),
            Action::Down => self.live.move_cursor(1, &self.users, visible_rows),
            Action::PageUp => self.live.move_cursor(-page, &self.users, visible_rows),
            Action::PageDown => self.live.move_cursor(page, &self.users, visible_rows),
            Action::First => self.live.go_to_first(),
            Action::Last => {
                // Users who have arrived since the last rebuild must be in the order too.
                if self.live.outdated && self.live.frozen.is_none() {
                    self.live.rebuild(&self.users, &self.settings, self.now, visible_rows);
                }
                self.live.select_row(usize::MAX, &self.users, visible_rows);
            }
            _ => {
                let forward = action == Action::NextAlert;
                let found = self
                    .live
                    .select_alert(forward, &self.users, &self.settings, self.now, visible_rows);
                if !found {
                    self.show_toast(Tone::Good, "No row of the table has an alert.");
                }
            }
        }
    }

    fn open_user(&mut self) {
        if let Some(id) = self.live.user_under_cursor(&self.users) {
            self.live.selected = Some(id);
            self.user = Some(UserView::new(id, self.users.get(id)));
            self.pane = Pane::User;
        }
    }

    fn pin_user(&mut self) {
        if let Some(id) = self.live.user_under_cursor(&self.users) {
            self.live.selected = Some(id);
            let frozen = self.live.frozen.as_mut().and_then(|frozen| frozen.users.get_mut(id));
            for user in [self.users.get_mut(id), frozen].into_iter().flatten() {
                user.pinned = !user.pinned;
            }
            self.live.rebuild_soon();
        }
    }

    fn toggle_freeze(&mut self) {
        self.live.frozen = match self.live.frozen.take() {
            Some(_) => None,
            None => Some(Box::new(FrozenTable {
                users: self.users.clone(),
                at: self.now,
                new_samples: 0,
            })),
        };
        self.live.rebuild_soon();
    }

    pub(super) fn sort(&mut self, sorting: Sorting) {
        self.live.sorting = sorting;
        self.live.rebuild_soon();
    }
}
