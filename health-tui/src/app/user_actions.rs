//! The actions of the view of one user.

use crate::{
    app::{
        effect::Effect,
        state::{App, Pane},
    },
    keys::Action,
};

impl App {
    pub(super) fn act_in_user_view(&mut self, action: Action, effects: &mut Vec<Effect>) {
        let (width, now) = (self.chart_width(), self.now);
        let Some(view) = &mut self.user else {
            self.pane = Pane::Live;
            return;
        };
        match action {
            Action::CursorLeft => view.move_cursor(-1, width, now),
            Action::CursorRight => view.move_cursor(1, width, now),
            Action::PanLeft => view.pan(-0.5, now),
            Action::PanRight => view.pan(0.5, now),
            Action::ZoomIn => view.zoom(true, now),
            Action::ZoomOut => view.zoom(false, now),
            Action::GoLive => view.go_live(),
            Action::Up | Action::Down => self.show_neighbour(action == Action::Down, effects),
            Action::StatsOfUser => {
                let (id, window) = (view.id, view.window(now));
                self.form.prefill(id, Some(window));
                self.pane = Pane::Stats;
            }
            Action::Back => {
                effects.extend(view.pending_query().map(|id| Effect::CancelQuery { id }));
                self.user = None;
                self.pane = Pane::Live;
            }
            _ => {}
        }
    }

    /// Shows the user in the row above or below, with the same window.
    fn show_neighbour(&mut self, down: bool, effects: &mut Vec<Effect>) {
        let visible_rows = self.visible_rows();
        self.live
            .move_cursor(if down { 1 } else { -1 }, &self.users, visible_rows);
        if let (Some(id), Some(view)) = (self.live.user_under_cursor(&self.users), &mut self.user)
            && id != view.id
        {
            effects.extend(view.pending_query().map(|id| Effect::CancelQuery { id }));
            *view = view.with_same_window(id, self.users.get(id));
        }
    }
}
