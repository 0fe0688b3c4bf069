//! The live table: one row for each user.
//!
//! Only the visible rows are built, so a frame costs the same for any number of users. Ratatui's `Table` builds every
//! row, which takes 65 ms for 20 000 users.

use std::borrow::Cow;

use ratatui::{
    layout::{Position, Rect},
    style::Style,
    widgets::{Scrollbar, ScrollbarOrientation, ScrollbarState, StatefulWidget},
};

use crate::{
    app::{App, ConnectionState},
    fmt,
    keys::{Action, Scope},
    layout::{self, MARGIN, SPARKLINE_WIDTH_MAX, ScreenAreas, TableColumn},
    store::{Column, PackedSample, User},
    theme::{MetricStyle, Theme},
    ui::{
        canvas::{Canvas, columns as columns_of},
        preview,
        scale::Scale,
        sparkline, status,
    },
};

pub(crate) fn draw(canvas: &mut Canvas<'_>, screen: &ScreenAreas) -> Option<Position> {
    let app = canvas.app;
    let areas = app.live_areas();
    let cursor = if app.live.editing.is_some() {
        filter_line(canvas, screen.subheader)
    } else {
        summary_line(canvas, screen.subheader);
        None
    };
    let users = visible_users(app, areas.rows.height);
    let has_names = !app.settings.names.is_empty();
    let columns: Vec<(TableColumn, Option<MetricColumn>)> = layout::table_columns(
        areas.header.width,
        &app.settings.columns,
        has_names,
        app.live.age_columns(),
    )
    .into_iter()
    .map(|column| (column, MetricColumn::new(column, &users, app.settings.row_scales)))
    .collect();
    for (column, metric) in &columns {
        header(canvas, areas.header, *column, metric.as_ref());
    }
    if users.is_empty() {
        empty(canvas, areas.rows);
    }
    let current = app.live.user_under_cursor(&app.users);
    let mut values = Vec::with_capacity(usize::from(SPARKLINE_WIDTH_MAX));
    for (user, line) in users.iter().zip(areas.rows.rows()) {
        if current == Some(user.id) {
            canvas.buf.set_style(line, canvas.theme.selected);
            canvas.text(line.x, line.y, 1, canvas.symbols.cursor, canvas.theme.accent);
        }
        row(canvas, line, user, &columns, &mut values);
    }
    scrollbar(canvas, areas.rows);
    if let Some(area) = areas.preview {
        preview::draw(canvas, area, current.and_then(|id| app.shown().0.get(id)));
    }
    cursor
}

fn visible_users(app: &App, height: u16) -> Vec<&User> {
    let (users, _) = app.shown();
    (0..usize::from(height))
        .map_while(|line| app.live.row_at_line(line))
        .filter_map(|row| app.live.order.get(row).and_then(|index| users.at(index)))
        .collect()
}

/// A metric of the table: its column shows the newest value and a sparkline.
struct Metric {
    column: Column,
    reading: fn(PackedSample) -> Option<f64>,
    newest: fn(&User) -> Option<String>,
    style: fn(&Theme) -> MetricStyle,
}

const METRICS: [Metric; 3] = [
    Metric {
        column: Column::HeartRate,
        reading: PackedSample::heart_rate,
        newest: |user| user.heart_rate.map(|v| format!("{v:.0}")),
        style: |theme| theme.heart_rate,
    },
    Metric {
        column: Column::Steps,
        reading: PackedSample::steps,
        newest: |user| user.steps.map(fmt::short),
        style: |theme| theme.steps,
    },
    Metric {
        column: Column::Calories,
        reading: PackedSample::calories,
        newest: |user| user.calories.map(fmt::kcal),
        style: |theme| theme.calories,
    },
];

/// A metric with the scale of its sparklines.
struct MetricColumn {
    metric: &'static Metric,
    /// The same for all visible rows, so that they can be compared. `None`: each row has its own.
    common_scale: Option<Scale>,
}

impl MetricColumn {
    /// Returns `None` for the columns of users and ages.
    fn new(column: TableColumn, visible: &[&User], row_scales: bool) -> Option<Self> {
        let metric = METRICS.iter().find(|metric| metric.column == column.column)?;
        let readings = visible.iter().flat_map(|user| metric.readings(user, column));
        let common_scale = (!row_scales).then(|| metric.scale(readings, 10.0));
        Some(Self { metric, common_scale })
    }

    fn scale(&self, user: &User, column: TableColumn) -> Scale {
        self.common_scale
            .unwrap_or_else(|| self.metric.scale(self.metric.readings(user, column), 5.0))
    }
}

impl Metric {
    /// Returns the readings that a sparkline of the column shows.
    fn readings(&self, user: &User, column: TableColumn) -> impl Iterator<Item = f64> {
        let width = usize::from(column.sparkline_width);
        user.ring.samples().rev().take(width).filter_map(self.reading)
    }

    /// Returns a scale of the readings. That of heart rates ends at multiples of `step`.
    fn scale(&self, readings: impl Iterator<Item = f64>, step: f64) -> Scale {
        if self.column == Column::HeartRate {
            // A heart rate is never near 0: its scale starts at the lowest reading.
            Scale::around(readings, step)
        } else {
            Scale::from_zero(readings)
        }
    }
}

/// The line below the header while the filter is being typed: the filter, and its error or the number of matches.
fn filter_line(canvas: &mut Canvas<'_>, area: Rect) -> Option<Position> {
    let (app, theme) = (canvas.app, canvas.theme);
    let filter = app.live.editing.as_ref()?;
    let (x, y, width) = (area.x + MARGIN, area.y, area.width.saturating_sub(MARGIN + 1));
    let right = area.right().saturating_sub(1);
    let (matching, all) = (app.live.order.len(), app.shown().0.len());
    let matches = format!("{} of {}", fmt::thousands(matching), fmt::thousands(all));
    // A long filter leaves up to half of the line to what is to be said about it.
    let said = columns_of(app.live.filter_error.as_deref().unwrap_or(&matches)) + 2;
    let slash = canvas.text(x, y, width, "/", theme.accent);
    let room = width.saturating_sub(slash + said.min(width / 2));
    let (used, cursor) = canvas.input(x + slash, y, room, filter, theme.strong);
    let used = slash + used;
    let room = width.saturating_sub(used + 2);
    if let Some(error) = &app.live.filter_error {
        canvas.text(x + used + 2, y, room, error, theme.bad);
    } else {
        canvas.text_right(right, y, room, &matches, theme.dim);
    }
    Some(cursor)
}

/// Returns why there is no connection if the summary line shows it: the header has no room for it, and this line has.
pub(super) fn reason_in_summary<'a>(canvas: &Canvas<'a>, width: u16) -> Option<&'a str> {
    let app = canvas.app;
    let is_free = app.live.editing.is_none() && app.live.frozen.is_none() && app.users.len() > 0;
    let reason = status::reason_without_room(canvas, width).filter(|_| is_free)?;
    (columns_of(reason) <= width.saturating_sub(MARGIN + 1)).then_some(reason)
}

/// The line below the header: how many users there are, and how the table differs from all users as they are now. If
/// there is no connection and the header has no room for the reason, this line has it: it may name the remedy.
fn summary_line(canvas: &mut Canvas<'_>, area: Rect) {
    let (app, theme) = (canvas.app, canvas.theme);
    let (x, y, width) = (area.x + MARGIN, area.y, area.width.saturating_sub(MARGIN + 1));
    if let Some(reason) = reason_in_summary(canvas, area.width) {
        canvas.text(x, y, width, reason, theme.bad);
        return;
    }
    let separator = format!("  {}  ", canvas.symbols.separator);
    let mut used = 0;
    for (i, (text, style)) in summary(canvas).iter().enumerate() {
        if i > 0 {
            used += canvas.text(x + used, y, width.saturating_sub(used), &separator, theme.border);
        }
        used += canvas.text(x + used, y, width.saturating_sub(used), text, *style);
    }
    if let Some(frozen) = &app.live.frozen {
        let key = app.settings.keymap.first_key(Scope::Live, Action::Freeze);
        let hint = key.map_or_else(String::new, |key| format!(", {key} resumes"));
        let text = format!(" FROZEN {} new{hint} ", fmt::thousands(frozen.new_samples));
        let right = area.right().saturating_sub(1);
        canvas.text_right(right, y, width.saturating_sub(used + 1), &text, theme.banner);
    }
}

fn summary(canvas: &Canvas<'_>) -> Vec<(String, Style)> {
    let (app, theme) = (canvas.app, canvas.theme);
    let users = app.shown().0.len();
    let mut parts = vec![(counted(users, "user"), theme.text)];
    if app.live.alerts > 0 {
        let alerts = counted(app.live.alerts, "alert");
        parts.push((format!("{} {alerts}", canvas.symbols.high), theme.bad));
    }
    if !app.live.filter_text.is_empty() {
        let matching = fmt::thousands(app.live.order.len());
        parts.push((format!("filter {} ({matching})", app.live.filter_text), theme.accent));
    }
    if app.masked {
        parts.push(("masked".to_owned(), theme.warn));
    }
    parts
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", fmt::thousands(count))
}

/// The title of a column, an arrow if the table is sorted by it, and the scale of its sparklines.
fn header(canvas: &mut Canvas<'_>, area: Rect, column: TableColumn, metric: Option<&MetricColumn>) {
    let (app, theme, symbols) = (canvas.app, canvas.theme, canvas.symbols);
    let title = match column.column {
        Column::User => "user",
        Column::HeartRate => "bpm",
        Column::Steps => "steps",
        Column::Calories => "kcal",
        Column::Age => "age",
    };
    let is_user = column.column == Column::User;
    let sorting = app.live.sorting;
    let is_sorted = sorting.column == column.column;
    // Users are in ascending order by default, values in descending order.
    let arrow = if !is_sorted {
        ""
    } else if is_user == sorting.reverse {
        symbols.descending
    } else {
        symbols.ascending
    };
    let style = if is_sorted { theme.accent } else { theme.dim };
    let x = area.x + column.x;
    if is_user {
        canvas.text(x, area.y, column.value_width, &format!("{title}{arrow}"), style);
    } else {
        // The arrow may be one column left of the values.
        let text = format!("{arrow}{title}");
        let right = x + column.value_width;
        canvas.text_right(right, area.y, column.value_width + 1, &text, style);
    }
    if let Some(MetricColumn { common_scale, .. }) = metric
        && column.sparkline_width >= 5
        && app.live.order.len() > 0
    {
        let range = match common_scale {
            Some(scale) => format!(
                "{}{}{}",
                fmt::tick(scale.low),
                symbols.range_dash,
                fmt::tick(scale.high)
            ),
            None if column.sparkline_width >= 9 => "own scale".to_owned(),
            None => "own".to_owned(),
        };
        canvas.text_right(x + column.width(), area.y, column.sparkline_width, &range, theme.dim);
    }
}

fn row(
    canvas: &mut Canvas<'_>,
    line: Rect,
    user: &User,
    columns: &[(TableColumn, Option<MetricColumn>)],
    values: &mut Vec<Option<f64>>,
) {
    let (app, theme, symbols) = (canvas.app, canvas.theme, canvas.symbols);
    let y = line.y;
    let (_, now) = app.shown();
    let is_stale = user.is_stale(now, &app.settings.alert_thresholds);
    if user.pinned {
        canvas.text(line.x + 1, y, 1, symbols.pin, theme.accent);
    }
    for (column, metric_column) in columns {
        let x = line.x + column.x;
        let right = x + column.value_width;
        if let Some(metric_column) = metric_column {
            let metric = metric_column.metric;
            let scale = metric_column.scale(user, *column);
            value(canvas, (x, y), *column, user, metric, is_stale);
            user.ring.columns(column.sparkline_width.into(), metric.reading, values);
            let style = if is_stale {
                MetricStyle::uniform(theme.stale)
            } else {
                (metric.style)(theme)
            };
            sparkline::draw(canvas, (right + 1, y), column.sparkline_width, values, scale, style);
        } else if column.column == Column::User {
            let style = if is_stale { theme.dim } else { theme.strong };
            canvas.text(x, y, column.value_width, &app.label(user.id), style);
        } else {
            let age = user.age(now);
            let style = if is_stale || fmt::is_ahead(age) {
                theme.warn
            } else {
                theme.dim
            };
            let text = fmt::age(age);
            canvas.text_right(right, y, column.value_width, &text, style);
            if is_stale {
                // The column is wider while an age is "4m ahead": the symbol stays beside the age.
                let symbol = right.saturating_sub(columns_of(&text) + 2).max(x);
                canvas.text(symbol, y, 1, symbols.stale, theme.warn);
            }
        }
    }
}

/// The newest value of a metric, with a symbol before a heart rate beyond the alert thresholds.
fn value(
    canvas: &mut Canvas<'_>,
    (x, y): (u16, u16),
    column: TableColumn,
    user: &User,
    metric: &Metric,
    is_stale: bool,
) {
    let (app, theme) = (canvas.app, canvas.theme);
    let alert = user
        .alert(app.shown().1, &app.settings.alert_thresholds)
        .filter(|_| column.column == Column::HeartRate);
    let (text, style) = match (metric.newest)(user) {
        None => (canvas.symbols.no_value.to_owned(), theme.border),
        Some(text) if alert.is_some() => (text, theme.bad),
        Some(text) if is_stale => (text, theme.dim),
        Some(text) => (text, theme.text),
    };
    canvas.text_right(x + column.value_width, y, column.value_width, &text, style);
    if let Some(alert) = alert {
        canvas.text(x, y, 1, canvas.symbols.alert(alert), theme.bad);
    }
}

/// Explains why the table is empty, and what to do.
fn empty(canvas: &mut Canvas<'_>, area: Rect) {
    let (app, theme) = (canvas.app, canvas.theme);
    let (reason, remedy) = if app.users.len() > 0 {
        (
            "No user matches the filter.".to_owned(),
            format!("{} clears it.", canvas.key(Scope::Live, Action::Back)),
        )
    } else if let ConnectionState::WaitingToRetry { reason, .. } = &app.connection.state {
        let retry = format!("{} tries again now.", canvas.key(Scope::Everywhere, Action::RetryNow));
        (
            format!("Cannot connect to {}: {reason}.", app.server),
            // Some reasons say what to do. For the others, the server is down or the address is wrong.
            if ["--", "token", "certificate", "TLS"]
                .iter()
                .any(|word| reason.contains(word))
            {
                retry
            } else {
                format!("Is health-server running, and does --feed name its feed? {retry}")
            },
        )
    } else if !app.connection.was_connected {
        (format!("Connecting to {} ...", app.server), String::new())
    } else {
        (
            "Connected. Waiting for the first reading.".to_owned(),
            "To post readings: cargo run --release --example simulate".to_owned(),
        )
    };
    let width = area.width.saturating_sub(2 * MARGIN);
    let lines: Vec<(Cow<'_, str>, Style)> = [(&reason, theme.text), (&remedy, theme.dim)]
        .into_iter()
        .flat_map(|(text, style)| fmt::wrap(text, width.into()).into_iter().map(move |line| (line, style)))
        .collect();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let top = area.y + area.height.saturating_sub(height.saturating_add(1)) / 2;
    for ((line, style), y) in lines.iter().zip(top..area.bottom()) {
        let x = area.x + area.width.saturating_sub(columns_of(line)) / 2;
        canvas.text(x, y, width, line, *style);
    }
}

/// Draws a scrollbar at the right edge if some rows are not visible.
fn scrollbar(canvas: &mut Canvas<'_>, area: Rect) {
    let page = usize::from(area.height);
    let offset_max = canvas.app.live.order.len().saturating_sub(page);
    if offset_max == 0 {
        return;
    }
    let mut state = ScrollbarState::new(offset_max + 1)
        .viewport_content_length(page)
        .position(canvas.app.live.offset);
    Scrollbar::new(ScrollbarOrientation::VerticalRight)
        .begin_symbol(None)
        .end_symbol(None)
        .thumb_symbol(canvas.symbols.scrollbar_thumb)
        .thumb_style(canvas.theme.dim)
        .track_symbol(Some(canvas.symbols.vertical_line))
        .track_style(canvas.theme.border)
        .render(area, canvas.buf, &mut state);
}
