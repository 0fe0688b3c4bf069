//! The details pane of the row under the cursor. It shows only readings that the dashboard keeps and asks nothing of
//! the server.

use chrono::TimeDelta;
use ratatui::layout::Rect;

use crate::{
    app::RecentFigures,
    fmt,
    layout::{self, MARGIN},
    store::User,
    ui::{
        canvas::Canvas,
        chart::{self, LinePoint, Series, TimeAxis},
        detail::line_point,
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
    let figures = RecentFigures::new(user);
    let (Some(first), Some(last)) = (figures.points.first(), figures.points.last()) else {
        return;
    };
    let points: Vec<LinePoint> = figures.points.iter().filter_map(line_point).collect();
    let axis = TimeAxis {
        start: first.at,
        // At least ten seconds; the millisecond puts the last reading inside.
        end: last.at.max(first.at + TimeDelta::seconds(10)) + TimeDelta::milliseconds(1),
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
    let stats = stats(canvas, user, &figures);
    let area = layout::inset_left(right, 1);
    for ((label, text), y) in stats.iter().zip(area.top()..area.bottom()) {
        canvas.text(area.x, y, LABEL_WIDTH, label, dim);
        let width = area.width.saturating_sub(LABEL_WIDTH);
        canvas.text(area.x + LABEL_WIDTH, y, width, text, canvas.theme.text);
    }
}

/// Returns the figures of the readings that arrived last. They are not the server's statistics of a time range.
fn stats(canvas: &Canvas<'_>, user: &User, figures: &RecentFigures) -> Vec<(&'static str, String)> {
    let (_, now) = canvas.app.shown();
    let received = match figures.points.len() {
        1 => "one reading".to_owned(),
        count => format!("{count} readings, {}", fmt::duration(figures.length)),
    };
    let mut lines = vec![("received", received)];
    if let Some((min, mean, max)) = figures.heart_rate {
        let mean = fmt::one_decimal(mean);
        let text = if max > min {
            format!("{mean} ({min:.0} to {max:.0})")
        } else {
            mean
        };
        lines.push(("avg bpm", text));
    }
    if let Some(steps) = figures.steps {
        lines.push(("steps", format!("{steps:.0}")));
    }
    if let Some(kcal) = figures.calories {
        lines.push(("kcal", fmt::one_decimal(kcal)));
    }
    lines.push(("newest", fmt::date_time(user.newest, canvas.app.settings.tz)));
    if let Some(received_at) = user.last_received {
        lines.push(("arrived", fmt::ago(now - received_at)));
    }
    let sources: Vec<&str> = user.sources.iter().map(|s| source_name(s.as_str())).collect();
    lines.push(("from", sources.join(", ")));
    lines
}
