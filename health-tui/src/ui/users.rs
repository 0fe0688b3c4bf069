//! The live table: one row a user. Only the rows that are seen are built, so its cost does not grow with the users.

use ratatui::layout::{Position, Rect};

use crate::{
    app::{App, LinkState},
    fmt,
    keys::{Action, Scope},
    layout::{self, Frame, Group, MARGIN, SPARK_MAX},
    store::{Alert, Column, Entry, User},
    theme::Ink,
    ui::{
        paint::{Paint, columns},
        preview,
        spark::{self, Scale},
    },
};

/// The sparkline columns with their reading.
const METRICS: [(Column, Metric); 3] = [
    (Column::HeartRate, Entry::heart_rate),
    (Column::Steps, Entry::steps),
    (Column::Calories, Entry::calories),
];

type Metric = fn(Entry) -> Option<f64>;

pub(crate) fn draw(p: &mut Paint<'_>, frame: &Frame) -> Option<Position> {
    let app = p.app;
    let areas = app.live_areas();
    let cursor = sub_line(p, frame.sub);
    let named = !app.settings.names.is_empty();
    let groups = layout::groups(areas.head.width, &app.settings.columns, named, SPARK_MAX);
    let rows = visible(app, areas.rows.height);
    let scales = scales(&rows, &groups);
    head(p, areas.head, &groups, &scales);
    if rows.is_empty() {
        empty(p, areas.rows);
    }
    let mut values = Vec::with_capacity(usize::from(SPARK_MAX));
    let current = app.live.current(&app.users);
    for (user, y) in rows.iter().zip(areas.rows.y..) {
        let selected = current == Some(user.id);
        if selected {
            p.buf
                .set_style(Rect::new(areas.rows.x, y, areas.rows.width, 1), p.theme.selected);
            p.text(areas.rows.x, y, 1, p.glyphs.cursor, p.theme.accent);
        }
        row(p, (areas.rows.x, y), user, &groups, &scales, &mut values);
    }
    scrollbar(p, areas.rows);
    if let Some(area) = areas.preview {
        preview::draw(p, area, current.and_then(|id| app.shown().0.get(id)));
    }
    cursor
}

fn visible(app: &App, height: u16) -> Vec<&User> {
    let (users, _) = app.shown();
    (0..usize::from(height))
        .map_while(|line| app.live.row_at_line(line))
        .filter_map(|row| app.live.order.get(row).and_then(|i| users.at(i)))
        .collect()
}

/// One scale a metric for all rows that are seen, so that rows can be compared.
fn scales(rows: &[&User], groups: &[Group]) -> [Scale; 3] {
    METRICS.map(|(column, metric)| {
        let width = groups
            .iter()
            .find(|g| g.column == column)
            .map_or(0, |g| usize::from(g.spark));
        let values = rows
            .iter()
            .flat_map(|u| u.ring.entries().rev().take(width).filter_map(metric));
        match column {
            // A heart never rests at zero: the scale begins where the readings do.
            Column::HeartRate => Scale::around(values, 10.0),
            _ => Scale::from_zero(values),
        }
    })
}

/// What is shown of whom, or the filter being typed.
fn sub_line(p: &mut Paint<'_>, area: Rect) -> Option<Position> {
    let (app, theme) = (p.app, p.theme);
    let (x, y, width) = (area.x + MARGIN, area.y, area.width.saturating_sub(MARGIN + 1));
    if let Some(line) = &app.live.editing {
        let used = p.spans(x, y, width, &[("/", theme.accent), (line.text(), theme.strong)]);
        if let Some(why) = &app.live.filter_error {
            p.text(x + used + 2, y, width.saturating_sub(used + 2), why, theme.bad);
        } else {
            let n = app.live.order.len();
            let count = format!(
                "{} of {}",
                fmt::grouped(as_u64(n)),
                fmt::grouped(as_u64(app.shown().0.len()))
            );
            p.text_right(
                area.right().saturating_sub(1),
                y,
                width.saturating_sub(used + 2),
                &count,
                theme.dim,
            );
        }
        return Some(Position::new(
            (x + 1 + line.cursor_column()).min(area.right().saturating_sub(1)),
            y,
        ));
    }
    let total = app.shown().0.len();
    let mut left = vec![(
        format!(
            "{} {}",
            fmt::grouped(as_u64(total)),
            if total == 1 { "user" } else { "users" }
        ),
        theme.base,
    )];
    if app.live.alerts > 0 {
        let n = app.live.alerts;
        left.push((
            format!(
                "{} {} {}",
                p.glyphs.high,
                fmt::grouped(as_u64(n)),
                if n == 1 { "alert" } else { "alerts" }
            ),
            theme.bad,
        ));
    }
    if !app.live.filter_text.is_empty() {
        left.push((
            format!(
                "filter {} ({})",
                app.live.filter_text,
                fmt::grouped(as_u64(app.live.order.len()))
            ),
            theme.accent,
        ));
    }
    if app.masked {
        left.push(("masked".to_owned(), theme.warn));
    }
    let between = format!("  {}  ", p.glyphs.between);
    let mut used = 0;
    for (i, (text, style)) in left.iter().enumerate() {
        if i > 0 {
            used += p.text(x + used, y, width.saturating_sub(used), &between, theme.line);
        }
        used += p.text(x + used, y, width.saturating_sub(used), text, *style);
    }
    if let Some(frozen) = &app.live.frozen {
        let key = app.settings.keymap.first(Scope::Live, Action::Freeze);
        let key = key.map_or_else(String::new, |k| format!(", {k} goes on"));
        let text = format!(" FROZEN {} readings wait{key} ", fmt::grouped(frozen.waiting));
        p.text_right(
            area.right().saturating_sub(1),
            y,
            width.saturating_sub(used + 1),
            &text,
            theme.banner,
        );
    }
    None
}

fn head(p: &mut Paint<'_>, area: Rect, groups: &[Group], scales: &[Scale; 3]) {
    let t = p.theme;
    for group in groups {
        let (title, metric) = match group.column {
            Column::User => ("user", None),
            Column::HeartRate => ("bpm", Some(0)),
            Column::Steps => ("steps", Some(1)),
            Column::Calories => ("kcal", Some(2)),
            Column::Age => ("age", None),
        };
        let sorting = p.app.live.sorting;
        let sorted = sorting.column == group.column;
        let arrow = match (sorted, sorting.reverse) {
            (false, _) => "",
            (true, false) if group.column == Column::User => p.glyphs.ascending,
            (true, true) if group.column == Column::User => p.glyphs.descending,
            (true, false) => p.glyphs.descending,
            (true, true) => p.glyphs.ascending,
        };
        let style = if sorted { t.accent } else { t.dim };
        let text = if group.column == Column::User {
            format!("{title}{arrow}")
        } else {
            format!("{arrow}{title}")
        };
        let x = area.x + group.x;
        if group.column == Column::User {
            p.text(x, area.y, group.value, &text, style);
        } else {
            // An arrow may stand one column further left than the values do.
            p.text_right(x + group.value, area.y, group.value + 1, &text, style);
        }
        if let (Some(metric), true) = (metric, group.spark >= 5 && p.app.live.order.len() > 0) {
            let scale = scales[metric];
            let range = format!("{}{}{}", fmt::round(scale.low), p.glyphs.to, fmt::round(scale.high));
            p.text_right(x + group.width(), area.y, group.spark, &range, t.dim);
        }
    }
}

fn row(
    p: &mut Paint<'_>,
    at: (u16, u16),
    user: &User,
    groups: &[Group],
    scales: &[Scale; 3],
    columns: &mut Vec<Option<f64>>,
) {
    let (theme, app) = (p.theme, p.app);
    let (x0, y) = at;
    let (_, now) = app.shown();
    let limits = &app.settings.limits;
    let is_stale = user.is_stale(now, limits);
    let alert = user.alert(now, limits);
    if user.pinned {
        p.text(x0 + 1, y, 1, p.glyphs.pin, theme.accent);
    }
    for group in groups {
        let (x, right) = (x0 + group.x, x0 + group.x + group.value);
        let quiet = if is_stale { theme.dim } else { theme.base };
        match group.column {
            Column::User => {
                let style = if is_stale { theme.dim } else { theme.strong };
                p.text(x, y, group.value, &app.label(user.id), style);
            }
            Column::HeartRate => {
                let style = if alert.is_some() { theme.bad } else { quiet };
                number(
                    p,
                    right,
                    y,
                    group.value,
                    user.heart_rate.map(|v| format!("{v:.0}")),
                    style,
                );
                if let Some(alert) = alert {
                    p.text(
                        x,
                        y,
                        1,
                        if alert == Alert::High {
                            p.glyphs.high
                        } else {
                            p.glyphs.low
                        },
                        theme.bad,
                    );
                }
                user.ring.columns(group.spark.into(), Entry::heart_rate, columns);
                spark::draw(
                    p,
                    (right + 1, y),
                    group.spark,
                    columns,
                    scales[0],
                    if is_stale { Ink::all(theme.stale) } else { theme.heart },
                );
            }
            Column::Steps => {
                number(p, right, y, group.value, user.steps.map(fmt::short), quiet);
                user.ring.columns(group.spark.into(), Entry::steps, columns);
                spark::draw(
                    p,
                    (right + 1, y),
                    group.spark,
                    columns,
                    scales[1],
                    if is_stale { Ink::all(theme.stale) } else { theme.steps },
                );
            }
            Column::Calories => {
                number(p, right, y, group.value, user.calories.map(fmt::kcal), quiet);
                user.ring.columns(group.spark.into(), Entry::calories, columns);
                spark::draw(
                    p,
                    (right + 1, y),
                    group.spark,
                    columns,
                    scales[2],
                    if is_stale {
                        Ink::all(theme.stale)
                    } else {
                        theme.calories
                    },
                );
            }
            Column::Age => {
                p.text_right(
                    right,
                    y,
                    group.value,
                    &fmt::age(user.age(now)),
                    if is_stale { theme.warn } else { theme.dim },
                );
                if is_stale {
                    p.text(x, y, 1, p.glyphs.stale, theme.warn);
                }
            }
        }
    }
}

fn number(p: &mut Paint<'_>, right: u16, y: u16, width: u16, text: Option<String>, style: ratatui::style::Style) {
    match text {
        Some(text) => p.text_right(right, y, width, &text, style),
        None => p.text_right(right, y, width, p.glyphs.none, p.theme.line),
    }
}

/// Why there is nothing, and what to do.
fn empty(p: &mut Paint<'_>, area: Rect) {
    let (app, t) = (p.app, p.theme);
    let (first, second) = if app.users.len() > 0 {
        (
            "No row passes the filter.".to_owned(),
            format!("{} clears it", p.key(Scope::Live, Action::Back)),
        )
    } else if let LinkState::Waiting { why, .. } = &app.link.state {
        (
            format!("No connection to {}: {why}.", app.server),
            format!(
                "Is health-server running? {} tries again now",
                p.key(Scope::Everywhere, Action::RetryNow)
            ),
        )
    } else if !app.link.ever {
        (format!("Connecting to {} ...", app.server), String::new())
    } else {
        (
            "Connected. Waiting for the first reading.".to_owned(),
            "Nobody posts yet? cargo run --release --example simulate".to_owned(),
        )
    };
    let y = area.y + area.height.saturating_sub(3) / 2;
    for (text, y, style) in [(first, y, t.base), (second, y + 1, t.dim)] {
        if y < area.bottom() {
            let x = area.x + area.width.saturating_sub(columns(&text)) / 2;
            p.text(x.max(area.x + 1), y, area.width.saturating_sub(2), &text, style);
        }
    }
}

/// A track with a thumb at the right edge, where not everything is seen.
fn scrollbar(p: &mut Paint<'_>, area: Rect) {
    let total = p.app.live.order.len();
    let page = usize::from(area.height);
    if total <= page || page == 0 || area.width == 0 {
        return;
    }
    let thumb = (page * page / total).max(1);
    let most = total - page;
    let top = (page - thumb) * p.app.live.offset.min(most) / most;
    for (line, y) in (0..page).zip(area.top()..area.bottom()) {
        let on = (top..top + thumb).contains(&line);
        let (mark, style) = if on {
            (p.glyphs.thumb, p.theme.dim)
        } else {
            (p.glyphs.vertical, p.theme.line)
        };
        p.text(area.right() - 1, y, 1, mark, style);
    }
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
