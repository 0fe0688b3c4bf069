//! The one way the state changes.

use chrono::{DateTime, Utc};
use crossterm::event::{KeyCode, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use crate::{
    app::{
        action::{Action, Answer, Batch, Effect, FeedNews, Input, Net, Query, QueryError, Tone},
        form::{Field, Run},
        line::Line,
        link::LinkState,
        live::Frozen,
        state::{App, Pane},
        user::UserView,
    },
    export,
    keys::{Key, Scope},
    layout::{self, FormAreas, Frame, UserAreas},
    store::{Filter, Sorting},
    theme::Theme,
};

/// Rows one notch of the wheel scrolls.
const WHEEL_ROWS: isize = 3;

impl App {
    /// Takes one input at `now` and says what to do outside.
    pub(crate) fn update(&mut self, input: Input, now: DateTime<Utc>) -> Vec<Effect> {
        self.now = now;
        let mut effects = Vec::new();
        match input {
            Input::Key(key) => {
                self.dirty = true;
                self.key(key, &mut effects);
            }
            Input::Paste(text) => {
                self.dirty = true;
                self.paste(&text);
            }
            Input::Mouse(event) => self.mouse(event, &mut effects),
            Input::Resize(width, height) => self.resize(width, height),
            Input::Resumed(width, height) => {
                self.resize(width, height);
                effects.push(Effect::ClearScreen);
            }
            Input::Net(net) => self.net(net, &mut effects),
            Input::Note(tone, text) => {
                self.dirty = true;
                self.say(tone, text);
            }
            Input::Tick => self.dirty = true,
        }
        self.settle(&mut effects);
        effects
    }

    fn resize(&mut self, width: u16, height: u16) {
        self.dirty = true;
        self.size = (width, height);
        let page = self.page();
        self.live.show_cursor(&self.users, page);
    }

    /// Whether keys are text at the moment.
    pub(crate) fn is_typing(&self) -> bool {
        self.help.is_none() && (self.live.editing.is_some() || (self.pane == Pane::Stats && self.form.is_typing()))
    }

    /// Whose keys hold.
    pub(crate) fn scope(&self) -> Scope {
        match self.pane {
            Pane::Live if self.live.editing.is_some() => Scope::Filter,
            Pane::Live => Scope::Live,
            Pane::User => Scope::User,
            Pane::Stats => Scope::Form,
        }
    }

    /// What follows from the time and from what has changed.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        if self.toast.as_ref().is_some_and(|t| t.until <= self.now) {
            self.toast = None;
            self.dirty = true;
        }
        if self.link.tick(self.now) {
            self.dirty = true;
        }
        if self.live.rebuild_due().is_some_and(|at| at <= self.now) {
            let page = self.page();
            self.live.rebuild(&self.users, &self.settings, self.now, page);
            self.dirty = true;
        }
        if self.pane == Pane::User
            && let Some(query) = self.user.as_ref().and_then(|u| u.wants(self.now))
        {
            let id = self.new_id();
            if let Some(user) = &mut self.user
                && let Some(old) = user.asking(id, &query)
            {
                effects.push(Effect::Cancel { id: old });
            }
            effects.push(Effect::Ask { id, query });
            self.dirty = true;
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn net(&mut self, net: Net, effects: &mut Vec<Effect>) {
        match net {
            Net::Feed(news) => self.feed(&news, effects),
            Net::Samples(batch) => self.samples(&batch),
            Net::Answer { id, result } => self.answer(id, result),
        }
    }

    fn feed(&mut self, news: &FeedNews, effects: &mut Vec<Effect>) {
        self.dirty = true;
        let first = !self.link.ever;
        self.link.hear(news, self.now);
        match news {
            FeedNews::Connected { resumed, reason } => {
                if *resumed == Some(false) {
                    let why = reason.as_deref().unwrap_or("the cursor was too old");
                    self.say(Tone::Bad, format!("readings may be missing: {why}"));
                }
                // Who is there, also those who send nothing now. After a gap in the feed it fills in what was missed.
                if first || *resumed == Some(false) {
                    let id = self.new_id();
                    if let Some(old) = self.asked_users.replace(id) {
                        effects.push(Effect::Cancel { id: old });
                    }
                    effects.push(Effect::Ask {
                        id,
                        query: Query::Users,
                    });
                }
                if let Some(user) = &mut self.user {
                    user.retry();
                }
            }
            FeedNews::Refused { reason } => self.say(Tone::Bad, format!("the feed says: {reason}")),
            FeedNews::Connecting { .. }
            | FeedNews::Waiting { .. }
            | FeedNews::Lagged { .. }
            | FeedNews::Replaying { .. } => {}
        }
    }

    fn samples(&mut self, batch: &Batch) {
        self.link.count(batch, self.now);
        let mut new = false;
        for sample in &batch.samples {
            new |= self.users.hear(sample, self.now);
            if let Some(user) = self.user.as_mut().filter(|u| u.id == sample.user_id().get()) {
                user.hear(sample);
            }
        }
        match &mut self.live.frozen {
            Some(frozen) => {
                frozen.waiting += u64::try_from(batch.samples.len()).unwrap_or(u64::MAX) + batch.coalesced;
            }
            None => self.live.outdated = true,
        }
        if new && self.live.frozen.is_none() && self.live.order.len() < self.page() {
            // The first people appear at once; in a full table nobody would see the difference.
            self.live.rebuild_now();
        }
        self.dirty = true;
    }

    fn answer(&mut self, id: u64, result: Result<Answer, QueryError>) {
        if self.asked_users == Some(id) {
            match result {
                Ok(Answer::Users { samples, last }) => {
                    for sample in &samples {
                        self.users.learn(sample);
                    }
                    if last {
                        self.asked_users = None;
                    }
                    if self.live.frozen.is_none() {
                        self.live.rebuild_now();
                    }
                }
                // The table fills from the feed all the same.
                _ => self.asked_users = None,
            }
            self.dirty = true;
            return;
        }
        if let Some(user) = self.user.as_mut().filter(|u| u.asked == Some(id)) {
            match result {
                Ok(Answer::Window { points, stats }) => user.answered(points, stats, self.now),
                Ok(_) => {}
                Err(error) => user.failed(error.to_string(), self.now),
            }
            self.dirty = true;
            return;
        }
        if let Run::Running { id: running, asked, .. } = &self.form.run
            && *running == id
        {
            self.form.run = match result {
                Ok(Answer::Range(answer)) => Run::Done {
                    asked: asked.clone(),
                    answer,
                },
                Ok(_) => return,
                Err(error) => Run::Failed { why: error.to_string() },
            };
            self.form.scroll = 0;
            self.dirty = true;
        }
    }

    fn key(&mut self, key: Key, effects: &mut Vec<Effect>) {
        if self.help.is_some() {
            return self.key_in_help(key, effects);
        }
        let typing = self.is_typing();
        match self.settings.keymap.action(self.scope(), typing, key) {
            Some(action) => self.act(action, effects),
            None if typing => self.edit(key),
            None => {}
        }
    }

    fn key_in_help(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let scroll = self.help.unwrap_or(0);
        let action = self.settings.keymap.action(Scope::Live, false, key);
        let page = self.size.1.saturating_sub(6);
        match action {
            Some(Action::Help | Action::Back | Action::Open) => self.help = None,
            // `q` closes what is in front; ctrl-c always ends the program.
            Some(Action::Quit) if key.text().is_some() => self.help = None,
            Some(Action::Quit) => effects.push(Effect::Quit { keep_frame: false }),
            Some(Action::Up) => self.help = Some(scroll.saturating_sub(1)),
            Some(Action::Down) => self.help = Some(scroll.saturating_add(1)),
            Some(Action::PageUp) => self.help = Some(scroll.saturating_sub(page)),
            Some(Action::PageDown | Action::Freeze) => self.help = Some(scroll.saturating_add(page)),
            Some(Action::First) => self.help = Some(0),
            Some(Action::Suspend) => effects.push(Effect::Suspend),
            _ => {}
        }
        if let Some(scroll) = self.help {
            self.help = Some(scroll.min(crate::ui::help_lines(self)));
        }
    }

    fn act(&mut self, action: Action, effects: &mut Vec<Effect>) {
        match action {
            Action::Help => self.help = Some(0),
            Action::Quit => effects.push(Effect::Quit { keep_frame: false }),
            Action::QuitKeeping => effects.push(Effect::Quit { keep_frame: true }),
            Action::TabStats | Action::NextTab if self.pane != Pane::Stats => self.open_stats(),
            Action::TabStats => {}
            Action::TabLive | Action::NextTab => self.pane = Pane::Live,
            Action::RetryNow => {
                if !self.link.is_connected() {
                    effects.push(Effect::RetryNow);
                }
                if let Some(user) = &mut self.user {
                    user.retry();
                }
            }
            Action::Mask => self.masked = !self.masked,
            Action::NextTheme => {
                self.settings.theme = self.settings.theme.next();
                self.theme = Theme::new(self.settings.theme, self.settings.depth);
                self.say(Tone::Good, format!("theme: {}", self.settings.theme.name()));
            }
            Action::ToggleMouse => {
                self.mouse = !self.mouse;
                effects.push(Effect::Mouse(self.mouse));
                let text = if self.mouse {
                    "the mouse is on"
                } else {
                    "the mouse is off: select text as usual"
                };
                self.say(Tone::Good, text);
            }
            Action::ExportCsv => self.save(export::Form::Csv, effects),
            Action::ExportJson => self.save(export::Form::Json, effects),
            Action::Copy => match export::clipboard(self) {
                Some(text) => {
                    effects.push(Effect::Copy(text));
                    self.say(Tone::Good, "copied");
                }
                None => self.say(Tone::Bad, "there is nothing to copy yet"),
            },
            Action::Suspend => effects.push(Effect::Suspend),
            Action::Redraw => effects.push(Effect::ClearScreen),
            other => match self.pane {
                Pane::Live => self.act_live(other),
                Pane::User => self.act_user(other, effects),
                Pane::Stats => self.act_form(other, effects),
            },
        }
    }

    fn act_live(&mut self, action: Action) {
        let page = self.page();
        let rows = isize::try_from(page).unwrap_or(isize::MAX);
        match action {
            Action::Up => self.live.move_by(-1, &self.users, page),
            Action::Down => self.live.move_by(1, &self.users, page),
            Action::PageUp => self.live.move_by(-rows, &self.users, page),
            Action::PageDown => self.live.move_by(rows, &self.users, page),
            Action::First => self.live.go_to_first(),
            Action::Last => self.live.select_row(usize::MAX, &self.users, page),
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

    fn act_user(&mut self, action: Action, effects: &mut Vec<Effect>) {
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

    fn act_form(&mut self, action: Action, effects: &mut Vec<Effect>) {
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
        let id = self.new_id();
        self.form.run = Run::Running {
            id,
            since: self.now,
            asked,
        };
        effects.push(Effect::Ask { id, query });
    }

    fn open_stats(&mut self) {
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

    fn save(&mut self, form: export::Form, effects: &mut Vec<Effect>) {
        match export::file(self, form) {
            Some((name, content)) => effects.push(Effect::Save { name, content }),
            None => self.say(Tone::Bad, "there is nothing to save yet"),
        }
    }

    fn sort(&mut self, sorting: Sorting) {
        self.live.sorting = sorting;
        self.live.rebuild_now();
    }

    /// Takes the filter as far as it can be understood: while `hr>` is being typed, the rows stay as they were.
    fn set_filter(&mut self, text: String) {
        match Filter::parse(&text) {
            Ok(filter) => {
                self.live.filter = filter;
                self.live.filter_error = None;
                self.live.rebuild_now();
            }
            Err(error) => self.live.filter_error = Some(error.to_string()),
        }
        self.live.filter_text = text;
    }

    fn keep_filter(&mut self) {
        if self.live.filter_error.is_none() {
            self.live.editing = None;
        }
    }

    fn edit(&mut self, key: Key) {
        let Some(line) = (match self.pane {
            Pane::Live => self.live.editing.as_mut(),
            Pane::Stats => self.form.line_mut(),
            Pane::User => None,
        }) else {
            return;
        };
        match key.code() {
            KeyCode::Char('w') if key.text().is_none() => line.delete_word(),
            KeyCode::Char('a') if key.text().is_none() => line.home(),
            KeyCode::Backspace => line.backspace(),
            KeyCode::Delete => line.delete(),
            KeyCode::Left => line.left(),
            KeyCode::Right => line.right(),
            KeyCode::Home => line.home(),
            KeyCode::End => line.end(),
            _ => match key.text() {
                Some(c) => line.insert(c.encode_utf8(&mut [0; 4])),
                None => return,
            },
        }
        self.text_changed();
    }

    fn paste(&mut self, text: &str) {
        if !self.is_typing() {
            return;
        }
        let line = match self.pane {
            Pane::Live => self.live.editing.as_mut(),
            Pane::Stats => self.form.line_mut(),
            Pane::User => None,
        };
        if let Some(line) = line {
            line.insert(text);
            self.text_changed();
        }
    }

    fn text_changed(&mut self) {
        match self.pane {
            Pane::Live => {
                if let Some(text) = self.live.editing.as_ref().map(|l| l.text().to_owned())
                    && text != self.live.filter_text
                {
                    self.set_filter(text);
                }
            }
            Pane::Stats => self.form.edited(),
            Pane::User => {}
        }
    }

    fn mouse(&mut self, event: MouseEvent, effects: &mut Vec<Effect>) {
        if !self.mouse {
            return;
        }
        let at = Position::new(event.column, event.row);
        match event.kind {
            MouseEventKind::ScrollUp | MouseEventKind::ScrollDown => {
                self.dirty = true;
                self.wheel(event.kind == MouseEventKind::ScrollDown, at);
            }
            MouseEventKind::ScrollLeft | MouseEventKind::ScrollRight if self.pane == Pane::User => {
                self.dirty = true;
                if let Some(view) = &mut self.user {
                    let share = if event.kind == MouseEventKind::ScrollLeft {
                        -0.1
                    } else {
                        0.1
                    };
                    view.pan(share, self.now);
                }
            }
            MouseEventKind::Down(MouseButton::Left) => {
                self.dirty = true;
                self.click(at, effects);
            }
            MouseEventKind::Drag(MouseButton::Left) if self.pane == Pane::User => {
                self.dirty = true;
                self.read_at(at);
            }
            _ => {}
        }
    }

    fn wheel(&mut self, down: bool, at: Position) {
        let sign = if down { 1 } else { -1 };
        if let Some(scroll) = self.help {
            let to = scroll.saturating_add_signed(if down { 3 } else { -3 });
            self.help = Some(to.min(crate::ui::help_lines(self)));
            return;
        }
        match self.pane {
            Pane::Live => {
                let page = self.page();
                self.live.scroll_by(sign * WHEEL_ROWS, &self.users, page);
            }
            Pane::User => {
                self.read_at(at);
                if let Some(view) = &mut self.user {
                    view.zoom(!down, self.now);
                }
            }
            Pane::Stats => self.form.scroll = self.form.scroll.saturating_add_signed(if down { 3 } else { -3 }),
        }
    }

    fn click(&mut self, at: Position, effects: &mut Vec<Effect>) {
        if self.help.take().is_some() {
            return;
        }
        let frame = Frame::of(self.size);
        let [live, stats] = layout::tabs(frame.bar);
        if live.contains(at) {
            self.pane = Pane::Live;
            return;
        }
        if stats.contains(at) {
            return self.open_stats();
        }
        if frame.bar.contains(at) && !self.link.is_connected() {
            if matches!(self.link.state, LinkState::Waiting { .. }) {
                effects.push(Effect::RetryNow);
            }
            return;
        }
        match self.pane {
            Pane::Live => self.click_live(at),
            Pane::User => self.read_at(at),
            Pane::Stats => self.click_form(&frame, at),
        }
    }

    fn click_live(&mut self, at: Position) {
        let areas = self.live_areas();
        let page = self.page();
        if areas.head.contains(at) {
            let named = !self.settings.names.is_empty();
            let groups = layout::groups(areas.head.width, &self.settings.columns, named, crate::ui::SPARK_MAX);
            if let Some(group) = groups.iter().find(|g| (g.x..=g.x + g.width()).contains(&at.x)) {
                let same = group.column == self.live.sorting.column;
                self.sort(Sorting {
                    column: group.column,
                    reverse: same && !self.live.sorting.reverse,
                });
            }
        } else if areas.rows.contains(at)
            && let Some(row) = self.live.row_at_line(usize::from(at.y - areas.rows.y))
        {
            let before = self.live.selected;
            self.live.select_row(row, &self.users, page);
            if before.is_some() && before == self.live.selected {
                self.act_live(Action::Open);
            }
        }
    }

    /// Puts the read-out under the mouse.
    fn read_at(&mut self, at: Position) {
        let plot = UserAreas::of(&Frame::of(self.size)).plot();
        let tall = Rect {
            height: self.size.1,
            y: 0,
            ..plot
        };
        if tall.contains(at)
            && let Some(view) = &mut self.user
        {
            view.set_cursor_column(at.x - plot.x, plot.width, self.now);
        }
    }

    fn click_form(&mut self, frame: &Frame, at: Position) {
        let fields = FormAreas::of(frame).fields;
        if !fields.contains(at) {
            return;
        }
        let mut y = fields.y;
        for field in Field::ALL {
            if at.y == y {
                if self.form.focus == Some(field) && !field.is_text() {
                    self.form.choose(true);
                }
                self.form.focus = Some(field);
                return;
            }
            y += crate::ui::field_height(self, field);
        }
    }
}
