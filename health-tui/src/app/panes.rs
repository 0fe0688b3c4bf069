//! What the keys of each pane do.

use crate::{
    app::{
        action::{Effect, Tone},
        form::Run,
        line::Line,
        live::Frozen,
        state::{App, Pane},
        user::UserView,
    },
    keys::Action,
    store::Sorting,
};

impl App {
    pub(super) fn act_live(&mut self, action: Action) {
        let page = self.page();
        let rows = isize::try_from(page).unwrap_or(isize::MAX);
        match action {
            Action::Up => self.live.move_by(-1, &self.users, page),
            Action::Down => self.live.move_by(1, &self.users, page),
            Action::PageUp => self.live.move_by(-rows, &self.users, page),
            Action::PageDown => self.live.move_by(rows, &self.users, page),
            Action::First => self.live.go_to_first(),
            Action::Last => {
                // Whoever has come since the order was made belongs to the end too.
                if self.live.outdated && self.live.frozen.is_none() {
                    self.live.rebuild(&self.users, &self.settings, self.now, page);
                }
                self.live.select_row(usize::MAX, &self.users, page);
            }
            Action::Open if self.live.editing.is_some() => self.keep_filter(),
            Action::Open => {
                if let Some(id) = self.live.current(&self.users) {
                    self.live.selected = Some(id);
                    self.user = Some(UserView::new(id, self.users.get(id)));
                    self.pane = Pane::User;
                }
            }
            Action::Filter => self.live.editing = Some(Line::new(self.live.filter_text.clone())),
            Action::Back => {
                self.live.editing = None;
                self.set_filter(String::new());
            }
            Action::ClearField => {
                if let Some(line) = &mut self.live.editing {
                    line.clear();
                }
                self.set_filter(String::new());
            }
            Action::SortNext => self.sort(self.live.sorting.moved(true)),
            Action::SortPrevious => self.sort(self.live.sorting.moved(false)),
            Action::Reverse => self.sort(Sorting {
                reverse: !self.live.sorting.reverse,
                ..self.live.sorting
            }),
            Action::Pin => {
                if let Some(id) = self.live.current(&self.users) {
                    self.live.selected = Some(id);
                    let frozen = self.live.frozen.as_mut().and_then(|f| f.users.get_mut(id));
                    for user in [self.users.get_mut(id), frozen].into_iter().flatten() {
                        user.pinned = !user.pinned;
                    }
                    self.live.rebuild_now();
                }
            }
            Action::Freeze => {
                self.live.frozen = match self.live.frozen.take() {
                    Some(_) => None,
                    None => Some(Box::new(Frozen {
                        users: self.users.clone(),
                        at: self.now,
                        waiting: 0,
                    })),
                };
                self.live.rebuild_now();
            }
            Action::NextAlert | Action::PreviousAlert => {
                let forward = action == Action::NextAlert;
                if !self
                    .live
                    .jump_to_alert(forward, &self.users, &self.settings, self.now, page)
                {
                    self.say(Tone::Good, "no alert among the rows shown");
                }
            }
            Action::Preview => {
                self.live.preview = !self.live.preview;
                let page = self.page();
                self.live.show_cursor(&self.users, page);
            }
            Action::StatsOfUser => {
                if let Some(id) = self.live.current(&self.users) {
                    self.form.prefill(id, None);
                    self.pane = Pane::Stats;
                }
            }
            _ => {}
        }
    }

    pub(super) fn act_user(&mut self, action: Action, effects: &mut Vec<Effect>) {
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
            Action::Up | Action::Down => self.other_user(action == Action::Down, effects),
            Action::StatsOfUser => {
                let (id, window) = (view.id, view.window(now));
                self.form.prefill(id, Some(window));
                self.pane = Pane::Stats;
            }
            Action::Back => {
                if let Some(id) = view.asked {
                    effects.push(Effect::Cancel { id });
                }
                self.user = None;
                self.pane = Pane::Live;
            }
            _ => {}
        }
    }

    /// The view moves to the row above or below, with its window.
    fn other_user(&mut self, down: bool, effects: &mut Vec<Effect>) {
        let page = self.page();
        self.live.move_by(if down { 1 } else { -1 }, &self.users, page);
        if let (Some(id), Some(view)) = (self.live.current(&self.users), &mut self.user)
            && id != view.id
        {
            if let Some(id) = view.asked {
                effects.push(Effect::Cancel { id });
            }
            *view = view.of_other(id, self.users.get(id));
        }
    }

    pub(super) fn act_form(&mut self, action: Action, effects: &mut Vec<Effect>) {
        match action {
            Action::FieldNext if self.form.focus.is_none() => self.form.move_focus(true),
            Action::FieldNext | Action::FieldPrevious => self.form.move_focus(action == Action::FieldNext),
            Action::ChoiceLeft | Action::ChoiceRight => {
                let right = action == Action::ChoiceRight;
                match self.form.line_mut() {
                    Some(line) if right => line.right(),
                    Some(line) => line.left(),
                    None => self.form.choose(right),
                }
            }
            Action::ClearField => {
                if let Some(line) = self.form.line_mut() {
                    line.clear();
                    self.form.edited();
                }
            }
            Action::PageUp | Action::PageDown => self.form.scroll_by(action == Action::PageDown),
            Action::Open => self.ask(effects),
            Action::Back => match &self.form.run {
                Run::Running { id, .. } => {
                    effects.push(Effect::Cancel { id: *id });
                    self.form.run = Run::Cancelled;
                }
                _ if self.form.focus.is_some() => self.form.focus = None,
                _ => self.pane = Pane::Live,
            },
            _ => {}
        }
    }

    fn ask(&mut self, effects: &mut Vec<Effect>) {
        let Some((query, asked)) = self.form.question(self.now, &self.settings) else {
            return;
        };
        if let Run::Running { id, .. } = &self.form.run {
            effects.push(Effect::Cancel { id: *id });
        }
        if self.form_areas().answer.is_empty() {
            self.form.focus = None;
        }
        let id = self.new_id();
        self.form.run = Run::Running {
            id,
            since: self.now,
            asked,
        };
        effects.push(Effect::Ask { id, query });
    }

    pub(super) fn open_stats(&mut self) {
        if self.form.users.text().trim().is_empty()
            && let Some(id) = self
                .user
                .as_ref()
                .map(|u| u.id)
                .or_else(|| self.live.current(&self.users))
        {
            self.form.prefill(id, None);
        }
        self.live.editing = None;
        self.pane = Pane::Stats;
    }

    pub(super) fn sort(&mut self, sorting: Sorting) {
        self.live.sorting = sorting;
        self.live.rebuild_now();
    }
}
