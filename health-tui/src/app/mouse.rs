//! The mouse: rows, columns' heads, tabs, the read-out, fields, the wheel.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use crate::{
    app::{
        action::Effect,
        form::Field,
        link::LinkState,
        state::{App, Pane},
    },
    keys::Action,
    layout::{self, ScreenAreas, UserAreas},
    store::Sorting,
};

/// Rows one notch of the wheel scrolls.
const WHEEL_ROWS: isize = 3;

impl App {
    pub(super) fn mouse(&mut self, event: MouseEvent, effects: &mut Vec<Effect>) {
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
            self.help = Some(to.min(self.help_scroll_max()));
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
            Pane::Stats => self.form.scroll_by(down),
        }
    }

    fn click(&mut self, at: Position, effects: &mut Vec<Effect>) {
        if self.help.take().is_some() {
            return;
        }
        let screen = ScreenAreas::new(self.size);
        let [live, stats] = layout::tabs(screen.header);
        if live.contains(at) {
            self.pane = Pane::Live;
            return;
        }
        if stats.contains(at) {
            return self.open_stats();
        }
        if screen.header.contains(at) && !self.link.is_connected() {
            if matches!(self.link.state, LinkState::Waiting { .. }) {
                effects.push(Effect::RetryNow);
            }
            return;
        }
        match self.pane {
            Pane::Live => self.click_live(at),
            Pane::User => self.read_at(at),
            Pane::Stats => self.click_form(at),
        }
    }

    fn click_live(&mut self, at: Position) {
        let areas = self.live_areas();
        let page = self.page();
        if areas.header.contains(at) {
            let named = !self.settings.names.is_empty();
            let columns = layout::table_columns(areas.header.width, &self.settings.columns, named);
            if let Some(column) = columns.iter().find(|c| (c.x..=c.x + c.width()).contains(&at.x)) {
                let same = column.column == self.live.sorting.column;
                self.sort(Sorting {
                    column: column.column,
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
        let plot = UserAreas::new(&ScreenAreas::new(self.size)).plot();
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

    fn click_form(&mut self, at: Position) {
        let fields = self.form_areas().fields;
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
            y += self.form.height(field, fields.width);
        }
    }
}
