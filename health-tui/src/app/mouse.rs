//! Mouse events: clicks on rows, column heads, tabs, charts and fields, and the wheel.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use crate::{
    app::{
        effect::Effect,
        feed_connection::ConnectionState,
        state::{App, Pane},
        stats_form::FormField,
    },
    keys::Action,
    layout::{self, ScreenAreas, UserAreas},
    store::Sorting,
};

/// The number of rows that one notch of the wheel scrolls: what most terminal programs do.
const WHEEL_ROWS: isize = 3;

/// The share of the window by which one notch of a horizontal wheel pans.
const WHEEL_PAN_SHARE: f64 = 0.1;

impl App {
    pub(super) fn handle_mouse(&mut self, event: MouseEvent, effects: &mut Vec<Effect>) {
        if !self.mouse {
            return;
        }
        let at = Position::new(event.column, event.row);
        match event.kind {
            MouseEventKind::ScrollUp | MouseEventKind::ScrollDown => {
                self.dirty = true;
                self.scroll_wheel(event.kind == MouseEventKind::ScrollDown, at);
            }
            MouseEventKind::ScrollLeft | MouseEventKind::ScrollRight if self.pane == Pane::User => {
                self.dirty = true;
                if let Some(view) = &mut self.user {
                    let is_left = event.kind == MouseEventKind::ScrollLeft;
                    view.pan(if is_left { -WHEEL_PAN_SHARE } else { WHEEL_PAN_SHARE }, self.now);
                }
            }
            MouseEventKind::Down(MouseButton::Left) => {
                self.dirty = true;
                self.click(at, effects);
            }
            MouseEventKind::Drag(MouseButton::Left) if self.pane == Pane::User => {
                self.dirty = true;
                self.move_chart_cursor_to(at);
            }
            _ => {}
        }
    }

    fn scroll_wheel(&mut self, down: bool, at: Position) {
        let sign = if down { 1 } else { -1 };
        if let Some(scroll) = self.help {
            let scroll = scroll.saturating_add_signed(if down { 3 } else { -3 });
            self.help = Some(scroll.min(self.help_scroll_max()));
            return;
        }
        match self.pane {
            Pane::Live => {
                let visible_rows = self.visible_rows();
                self.live.scroll_by(sign * WHEEL_ROWS, &self.users, visible_rows);
            }
            Pane::User => {
                self.move_chart_cursor_to(at);
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
        if screen.header.contains(at) && !self.connection.is_connected() {
            if matches!(self.connection.state, ConnectionState::WaitingToRetry { .. }) {
                effects.push(Effect::RetryNow);
            }
            return;
        }
        match self.pane {
            Pane::Live => self.click_in_live_table(at),
            Pane::User => self.move_chart_cursor_to(at),
            Pane::Stats => self.click_in_form(at),
        }
    }

    fn click_in_live_table(&mut self, at: Position) {
        let areas = self.live_areas();
        let visible_rows = self.visible_rows();
        if areas.header.contains(at) {
            let named = !self.settings.names.is_empty();
            let columns = layout::table_columns(
                areas.header.width,
                &self.settings.columns,
                named,
                self.live.age_columns(),
            );
            if let Some(column) = columns
                .iter()
                .find(|column| (column.x..=column.x + column.width()).contains(&at.x))
            {
                let is_same = column.column == self.live.sorting.column;
                self.sort(Sorting {
                    column: column.column,
                    reverse: is_same && !self.live.sorting.reverse,
                });
            }
        } else if areas.rows.contains(at)
            && let Some(row) = self.live.row_at_line(usize::from(at.y - areas.rows.y))
        {
            let previous = self.live.selected;
            self.live.select_row(row, &self.users, visible_rows);
            if previous.is_some() && previous == self.live.selected {
                self.act_in_live_table(Action::Open);
            }
        }
    }

    /// Moves the chart cursor to the column of the mouse. The charts below the first one have the same columns.
    fn move_chart_cursor_to(&mut self, at: Position) {
        let plot = UserAreas::new(&ScreenAreas::new(self.size)).plot();
        let all_charts = Rect {
            height: self.size.1,
            y: 0,
            ..plot
        };
        if all_charts.contains(at)
            && let Some(view) = &mut self.user
        {
            view.set_cursor_column(at.x - plot.x, plot.width, self.now);
        }
    }

    fn click_in_form(&mut self, at: Position) {
        let fields = self.form_areas().fields;
        if !fields.contains(at) {
            return;
        }
        let mut y = fields.y;
        for field in FormField::ALL {
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
