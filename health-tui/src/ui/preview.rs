//! The details pane of the row under the cursor. It shows only readings that the dashboard keeps and asks nothing of the
//! server.

use chrono::TimeDelta;
use ratatui::layout::Rect;

use crate::{
    fmt,
    layout::{self, MARGIN},
    store::{Entry, User},
    ui::{
        canvas::Canvas,
        chart::{self, LinePoint, Series, TimeAxis},
        scale::min_max,
        source_name,
    },
};

/// Columns of the statistics right of the chart.
const STATS_WIDTH: u16 = 30;
/// Columns of their labels.
const LABEL_WIDTH: u16 = 9;

pub(crate) fn draw(canvas: &mut Canvas<'_>, area: Rect, user: Option<&User>) {
    let (title, body) = layout::split_top(area, 1);
    let Some(user) = user else {
        canvas.rule(title, "Details");
        canvas.text(
            body.x + MARGIN,
            body.y,
            body.width,
            "No user is selected.",
            canvas.theme.dim,
        );
        return;
    };
    canvas.rule(title, &canvas.app.title(user.id));
    let (left, right) = layout::split_left(body, body.width.saturating_sub(STATS_WIDTH));
    let mut entries = user.ring.entries();
    let Some(first) = entries.next() else { return };
    let last = entries.next_back().unwrap_or(first);
    let points: Vec<LinePoint> = user.ring.entries().filter_map(point).collect();
    let axis = TimeAxis {
        start: first.at(),
        // At least ten seconds; the millisecond puts the last reading inside.
        end: last.at().max(first.at() + TimeDelta::seconds(10)) + TimeDelta::milliseconds(1),
        tz: canvas.app.settings.tz,
    };
    let dim = canvas.theme.dim;
    if points.is_empty() {
        let text = "The latest readings have no heart rate.";
        canvas.text(left.x + MARGIN, left.y + 1, left.width, text, dim);
    } else {
        let series = Series {
            points: &points,
            style: canvas.theme.heart_rate,
        };
        chart::lines(canvas, left, &axis, &[series], None);
        canvas.text(left.x + MARGIN, left.y, left.width, "bpm", dim);
    }
    let stats = stats(canvas, user, &points, last.at() - first.at());
    let area = layout::inset_left(right, 1);
    for ((label, text), y) in stats.iter().zip(area.top()..area.bottom()) {
        canvas.text(area.x, y, LABEL_WIDTH, label, dim);
        let width = area.width.saturating_sub(LABEL_WIDTH);
        canvas.text(area.x + LABEL_WIDTH, y, width, text, canvas.theme.text);
    }
}

fn point(entry: Entry) -> Option<LinePoint> {
    entry.heart_rate().map(|heart_rate| LinePoint {
        at: entry.at(),
        low: heart_rate,
        mean: heart_rate,
        high: heart_rate,
    })
}

fn stats(canvas: &Canvas<'_>, user: &User, points: &[LinePoint], length: TimeDelta) -> Vec<(&'static str, String)> {
    let (_, now) = canvas.app.shown();
    let mut lines = Vec::new();
    if let Some((min, max)) = min_max(points.iter().map(|p| p.mean)) {
        let count = f64::from(u32::try_from(points.len()).unwrap_or(1));
        let mean = points.iter().map(|p| p.mean).sum::<f64>() / count;
        lines.push(("avg bpm", fmt::one_decimal(mean)));
        lines.push(("min, max", format!("{min:.0}, {max:.0}")));
    }
    let total = |reading: fn(Entry) -> Option<f64>| {
        user.ring
            .entries()
            .filter_map(reading)
            .fold(None, |sum, v| Some(sum.unwrap_or(0.0) + v))
    };
    if let Some(steps) = total(Entry::steps) {
        lines.push(("steps", format!("{steps:.0}")));
    }
    if let Some(kcal) = total(Entry::calories) {
        lines.push(("kcal", fmt::one_decimal(kcal)));
    }
    let over = match user.ring.len() {
        1 => "one reading".to_owned(),
        count => format!("{}, {count} readings", fmt::duration(length)),
    };
    lines.push(("over", over));
    lines.push(("newest", fmt::date_time(user.newest, canvas.app.settings.tz)));
    if let Some(heard) = user.heard {
        lines.push(("arrived", fmt::ago(now - heard)));
    }
    let sources: Vec<&str> = user.sources.iter().map(|s| source_name(s.as_str())).collect();
    lines.push(("from", sources.join(", ")));
    lines
}
