//! The actions of the range statistics form.

use tui_input::InputRequest;

use crate::{
    app::{
        effect::Effect,
        state::{App, Pane},
        stats_form::RangeQuery,
    },
    keys::Action,
};

impl App {
    pub(super) fn act_in_form(&mut self, action: Action, effects: &mut Vec<Effect>) {
        match action {
            Action::FieldNext if self.form.focus.is_none() => self.form.move_focus(true),
            Action::FieldNext | Action::FieldPrevious => self.form.move_focus(action == Action::FieldNext),
            Action::ChoiceLeft | Action::ChoiceRight => {
                let right = action == Action::ChoiceRight;
                match self.form.focused_input() {
                    Some(input) if right => input.edit(InputRequest::GoToNextChar),
                    Some(input) => input.edit(InputRequest::GoToPrevChar),
                    None => self.form.choose(right),
                }
            }
            Action::ClearField => {
                if let Some(input) = self.form.focused_input() {
                    input.clear();
                    self.form.text_changed();
                }
            }
            Action::PageUp | Action::PageDown => self.form.scroll_by(action == Action::PageDown),
            Action::Open => self.send_form(effects),
            Action::Back => match &self.form.query {
                RangeQuery::Running { id, .. } => {
                    effects.push(Effect::CancelQuery { id: *id });
                    self.form.query = RangeQuery::Cancelled;
                }
                _ if self.form.focus.is_some() => self.form.focus = None,
                _ => self.pane = Pane::Live,
            },
            _ => {}
        }
    }

    fn send_form(&mut self, effects: &mut Vec<Effect>) {
        let Some((query, request)) = self.form.read(self.now, &self.settings) else {
            return;
        };
        if let RangeQuery::Running { id, .. } = &self.form.query {
            effects.push(Effect::CancelQuery { id: *id });
        }
        if self.form_areas().answer.is_empty() {
            self.form.focus = None;
        }
        let id = self.next_query_id();
        self.form.query = RangeQuery::Running {
            id,
            since: self.now,
            request,
        };
        effects.push(Effect::SendQuery { id, query });
    }

    /// Opens the form. An empty user field is filled with the user on the screen.
    pub(super) fn open_stats(&mut self) {
        if self.form.users.text().trim().is_empty()
            && let Some(id) = self
                .user
                .as_ref()
                .map(|view| view.id)
                .or_else(|| self.live.user_under_cursor(&self.users))
        {
            self.form.prefill(id, None);
        }
        self.live.editing = None;
        self.pane = Pane::Stats;
    }
}
