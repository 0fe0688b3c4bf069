//! The view of one user: charts over a time window, the value under the cursor, and statistics of the window.

use chrono::{DateTime, Utc};
use health_core::StatsResponse;
use ratatui::{layout::Rect, style::Style};

use crate::{
    app::{ChartPoint, HeartRateZones, UserView},
    fmt,
    keys::{Action, Scope},
    layout::{self, MARGIN, ScreenAreas, UserAreas},
    ui::{
        canvas::{Canvas, columns},
        chart::{self, Bar, LinePoint, Series, TimeAxis},
        source_name,
    },
};

/// The largest height of statistics that are below the charts. Higher ones are right of them.
const STRIP_HEIGHT_MAX: u16 = 4;

pub(crate) fn draw(canvas: &mut Canvas<'_>, screen: &ScreenAreas) {
    let Some(view) = &canvas.app.user else { return };
    let areas = UserAreas::new(screen);
    let (start, end) = view.window(canvas.app.now);
    let tz = canvas.app.settings.tz;
    let axis = TimeAxis { start, end, tz };
    window_line(canvas, screen.subheader, view, &axis);
    let points = in_window(&view.points, &axis);
    let line_points: Vec<LinePoint> = points.iter().filter_map(line_point).collect();
    let read = view
        .cursor
        .and_then(|cursor| nearest(points, cursor, &axis, areas.plot().width));
    heart_rate_chart(canvas, &areas, view, &axis, &line_points, read);
    let bar_charts = [
        (
            areas.steps,
            "steps a minute",
            bars(points, |point| point.steps),
            read.and_then(|point| point.steps).map(|v| format!("{v:.0} steps")),
            canvas.theme.steps,
        ),
        (
            areas.calories,
            "kcal a minute",
            bars(points, |point| point.calories),
            read.and_then(|point| point.calories).map(|v| format!("{v:.1} kcal")),
            canvas.theme.calories,
        ),
    ];
    for (area, name, bars, value, style) in bar_charts {
        if let Some(area) = area {
            title(canvas, area, name, value.map(|text| (text, canvas.theme.strong)));
            chart::bars(canvas, area, &axis, &bars, style, view.cursor);
        }
    }
    // Without a line, the chart says why.
    let failure = failure(canvas, view).filter(|_| !line_points.is_empty());
    stats(canvas, areas.stats, view, failure);
}

/// Returns the points that overlap the window. `points` are in the order of time.
fn in_window<'a>(points: &'a [ChartPoint], axis: &TimeAxis) -> &'a [ChartPoint] {
    let first = points.partition_point(|point| point.end < axis.start);
    let points = &points[first..];
    &points[..points.partition_point(|point| point.start < axis.end)]
}

pub(super) fn line_point(point: &ChartPoint) -> Option<LinePoint> {
    point.heart_rate.map(|(low, mean, high)| LinePoint {
        at: point.at,
        low,
        mean,
        high,
    })
}

fn bars(points: &[ChartPoint], value: fn(&ChartPoint) -> Option<f64>) -> Vec<Bar> {
    let bars = points.iter().filter_map(|point| {
        value(point).map(|value| Bar {
            from: point.start,
            to: point.end,
            value,
        })
    });
    bars.collect()
}

/// The line below the header: the user and the time window.
fn window_line(canvas: &mut Canvas<'_>, area: Rect, view: &UserView, axis: &TimeAxis) {
    let theme = canvas.theme;
    let title = canvas.app.title(view.id);
    let length = fmt::duration(view.length());
    let (end, end_style) = if view.is_live() {
        // A window follows the present without a connection too, but nothing new arrives in it.
        let is_connected = canvas.app.connection.is_connected();
        ("live".to_owned(), if is_connected { theme.good } else { theme.dim })
    } else {
        (format!("ends {}", fmt::ago(canvas.app.now - axis.end)), theme.warn)
    };
    let range = fmt::time_range(axis.start, axis.end, axis.tz, canvas.symbols.range_dash);
    let zone = fmt::zone(axis.tz);
    let spans = [
        ("  ", theme.text),
        (length.as_str(), theme.accent),
        ("  ", theme.text),
        (end.as_str(), end_style),
        ("  ", theme.text),
        (range.as_str(), theme.dim),
        (" ", theme.dim),
        (zone.as_ref(), theme.dim),
    ];
    let (x, width) = (area.x + MARGIN, area.width.saturating_sub(MARGIN));
    // A long name leaves room for the window, but has at least half of the line.
    let window: u16 = spans.iter().map(|(text, _)| columns(text)).sum();
    let room = width.saturating_sub(window).max(width / 2);
    let used = canvas.text(x, area.y, room, &title, theme.strong);
    canvas.spans(x + used, area.y, width.saturating_sub(used), &spans);
}

fn heart_rate_chart(
    canvas: &mut Canvas<'_>,
    areas: &UserAreas,
    view: &UserView,
    axis: &TimeAxis,
    points: &[LinePoint],
    read: Option<&ChartPoint>,
) {
    let area = areas.heart_rate;
    let theme = canvas.theme;
    let under_cursor = view.cursor.map(|cursor| {
        let format = if view.bucket().is_some() {
            "%d %b %H:%M"
        } else {
            "%H:%M:%S"
        };
        let time = cursor.with_timezone(&axis.tz).format(format);
        match read.and_then(|point| point.heart_rate) {
            Some(heart_rate) => format!("{} at {time}", heart_rate_text(heart_rate)),
            None => format!("no reading at {time}"),
        }
    });
    let value = match under_cursor {
        Some(text) => Some((text, theme.strong)),
        // A wide screen has the newest value at the right.
        None if view.is_live() && areas.stats.height <= STRIP_HEIGHT_MAX => newest_heart_rate(canvas, view),
        None => None,
    };
    let used = title(canvas, area, "heart rate, bpm", value);
    query_state(canvas, area, used, view);
    let series = Series {
        points,
        style: canvas.theme.heart_rate,
    };
    if points.is_empty() {
        no_heart_rate(canvas, areas.plot(), view);
        chart::lines(canvas, area, axis, &[], view.cursor);
    } else {
        chart::lines(canvas, area, axis, &[series], view.cursor);
    }
}

/// Draws the title of a chart and the value under the cursor. Returns the columns that it used.
fn title(canvas: &mut Canvas<'_>, area: Rect, name: &str, value: Option<(String, Style)>) -> u16 {
    let theme = canvas.theme;
    let (value, style) = value.unwrap_or_default();
    let name = format!("{name}  ");
    let spans = [(name.as_str(), theme.dim), (value.as_str(), style)];
    let width = area.width.saturating_sub(MARGIN + 1);
    MARGIN + canvas.spans(area.x + MARGIN, area.y, width, &spans)
}

/// Returns the newest heart rate with its age, and with the symbol of an alert or of a user who is silent.
fn newest_heart_rate(canvas: &Canvas<'_>, view: &UserView) -> Option<(String, Style)> {
    let (app, theme) = (canvas.app, canvas.theme);
    let user = app.users.get(view.id)?;
    let thresholds = &app.settings.alert_thresholds;
    let text = format!(
        "{:.0} bpm {}",
        user.heart_rate?,
        fmt::ago(user.heart_rate_age(app.now)?)
    );
    Some(match user.alert(app.now, thresholds) {
        Some(alert) => (format!("{} {text}", canvas.symbols.alert(alert)), theme.bad),
        None if user.is_stale(app.now, thresholds) => (format!("{} {text}", canvas.symbols.stale), theme.warn),
        None => (text, theme.strong),
    })
}

/// Draws at the right of the title that the server is being asked, or why it did not answer.
fn query_state(canvas: &mut Canvas<'_>, area: Rect, used: u16, view: &UserView) {
    let (text, style) = match &view.error {
        Some(_) => ("no answer", canvas.theme.bad),
        None if view.is_loading(canvas.app.now) => ("asking the server", canvas.theme.warn),
        None => return,
    };
    let room = area.width.saturating_sub(used + 3);
    canvas.text_right(area.right().saturating_sub(1), area.y, room, text, style);
}

fn heart_rate_text((low, mean, high): (f64, f64, f64)) -> String {
    if high > low {
        format!("{mean:.1} bpm ({low:.0} to {high:.0})")
    } else {
        format!("{mean:.0} bpm")
    }
}

/// Returns the point under the cursor: the bucket that contains it, or the nearest point at most two columns away.
fn nearest<'a>(points: &'a [ChartPoint], cursor: DateTime<Utc>, axis: &TimeAxis, width: u16) -> Option<&'a ChartPoint> {
    let distance_max = (axis.end - axis.start) * 2 / i32::from(width.max(1));
    let after = points.partition_point(|point| point.at < cursor);
    [after.checked_sub(1), Some(after)]
        .into_iter()
        .flatten()
        .filter_map(|i| points.get(i))
        .filter(|point| {
            let is_inside = point.start <= cursor && cursor < point.end;
            is_inside || (point.at - cursor).abs() <= distance_max
        })
        .min_by_key(|point| (point.at - cursor).abs())
}

/// Returns why the server has said nothing about the window, and what to do. The title of the chart has no room for it.
fn failure(canvas: &Canvas<'_>, view: &UserView) -> Option<String> {
    let error = view.error.as_ref()?;
    let retry = canvas.key(Scope::Everywhere, Action::RetryNow);
    let is_unanswered = view.stats(canvas.app.now).is_none();
    is_unanswered.then(|| format!("{error} ({retry} asks again)"))
}

/// Explains why the chart is empty, and what to do.
fn no_heart_rate(canvas: &mut Canvas<'_>, plot: Rect, view: &UserView) {
    let theme = canvas.theme;
    let (text, style) = match failure(canvas, view) {
        Some(text) => (text, theme.bad),
        None if view.pending_query().is_some() => ("Asking the server ...".to_owned(), theme.dim),
        None => {
            let earlier = canvas.key(Scope::User, Action::PanLeft);
            let zoom_out = canvas.key(Scope::User, Action::ZoomOut);
            (
                format!("No heart rate in this window. {earlier} goes back in time, {zoom_out} zooms out."),
                theme.dim,
            )
        }
    };
    let area = Rect {
        x: plot.x + 2,
        y: plot.y + plot.height / 3,
        width: plot.width.saturating_sub(4),
        height: plot.height.saturating_sub(plot.height / 3),
    };
    canvas.wrapped(area, &text, style);
}

/// Draws the statistics right of the charts or, on a narrow screen, in a few lines below them.
fn stats(canvas: &mut Canvas<'_>, area: Rect, view: &UserView, failure: Option<String>) {
    if area.height <= STRIP_HEIGHT_MAX {
        return stats_strip(canvas, area, view, failure.as_deref());
    }
    let mut column = StatsColumn { area, y: area.y };
    if let Some(user) = canvas.app.users.get(view.id) {
        let heart_rate = match user.heart_rate {
            Some(v) => format!("{v:.0} bpm"),
            None => canvas.symbols.no_value.to_owned(),
        };
        column.heading(canvas, "Now");
        column.value(canvas, "heart rate", &heart_rate);
        column.value(canvas, "newest", &fmt::ago(canvas.app.now - user.newest));
        column.y += 1;
    }
    column.heading(canvas, "This window");
    if let Some(text) = failure {
        let (_, below) = layout::split_top(area, column.y.saturating_sub(area.y));
        let width = below.width.saturating_sub(1);
        canvas.wrapped(Rect { width, ..below }, &text, canvas.theme.bad);
        return;
    }
    for (label, text) in window_lines(canvas, view) {
        column.value(canvas, label, &text);
    }
    column.y += 1;
    if let Some(stats) = view.stats(canvas.app.now) {
        if let Some(shares) = stats.zones.filter(|_| area.height >= 14) {
            zones(canvas, &mut column, &shares);
        }
        sources(canvas, &mut column, &stats.response);
    }
}

/// A column of headings, labels and values. Lines that do not fit are left out.
struct StatsColumn {
    area: Rect,
    y: u16,
}

impl StatsColumn {
    fn heading(&mut self, canvas: &mut Canvas<'_>, text: &str) {
        if self.y < self.area.bottom() {
            canvas.text(self.area.x, self.y, self.area.width, text, canvas.theme.strong);
        }
        self.y += 1;
    }

    fn value(&mut self, canvas: &mut Canvas<'_>, label: &str, value: &str) {
        if self.y < self.area.bottom() {
            let right = self.area.right().saturating_sub(1);
            canvas.text_right(right, self.y, self.area.width, value, canvas.theme.text);
            let room = self.area.width.saturating_sub(columns(value) + 2);
            canvas.text(self.area.x, self.y, room, label, canvas.theme.dim);
        }
        self.y += 1;
    }
}

/// Draws the statistics of the window in up to four columns below a title.
fn stats_strip(canvas: &mut Canvas<'_>, area: Rect, view: &UserView, failure: Option<&str>) {
    const COLUMNS: u16 = 4;
    if area.height == 0 {
        return;
    }
    if let Some(text) = failure {
        return failure_strip(canvas, area, text);
    }
    canvas.rule(area, "This window");
    let width = area.width / COLUMNS;
    for (i, (label, text)) in (0..).zip(&window_lines(canvas, view)) {
        let (x, y) = (area.x + MARGIN + i % COLUMNS * width, area.y + 1 + i / COLUMNS);
        if y < area.bottom() {
            let used = canvas.text(x, y, width, label, canvas.theme.dim);
            let room = width.saturating_sub(used + 2);
            canvas.text(x + used + 1, y, room, text, canvas.theme.text);
        }
    }
}

/// Draws why there are no statistics. If the strip has no room for all of it, it covers the lower end of the charts.
fn failure_strip(canvas: &mut Canvas<'_>, area: Rect, text: &str) {
    let width = area.width.saturating_sub(MARGIN + 1);
    let lines = u16::try_from(fmt::wrap(text, width.into()).len()).unwrap_or(u16::MAX);
    let covered = lines.saturating_add(1).saturating_sub(area.height).min(area.y / 2);
    let area = Rect {
        y: area.y - covered,
        height: area.height + covered,
        ..area
    };
    canvas.clear(area);
    canvas.rule(area, "This window");
    let (_, below) = layout::split_top(area, 1);
    let below = layout::inset_left(below, MARGIN);
    canvas.wrapped(Rect { width, ..below }, text, canvas.theme.bad);
}

/// Returns the server's statistics of the window. Those of a live window end at the time "as of".
fn window_lines(canvas: &Canvas<'_>, view: &UserView) -> Vec<(&'static str, String)> {
    let Some(stats) = view.stats(canvas.app.now) else {
        let state = if view.error.is_some() { "failed" } else { "asking" };
        return vec![("server", state.to_owned())];
    };
    let no_value = || canvas.symbols.no_value.to_owned();
    let s = &stats.response.stats;
    let mut lines = vec![
        ("avg", s.average_heart_rate.map_or_else(no_value, fmt::one_decimal)),
        ("min", s.min_heart_rate.map_or_else(no_value, |bpm| format!("{bpm:.0}"))),
        ("max", s.max_heart_rate.map_or_else(no_value, |bpm| format!("{bpm:.0}"))),
        ("worn", format!("{:.0} %", s.heart_rate_coverage * 100.0)),
        ("steps", fmt::thousands(s.total_steps)),
        ("kcal", fmt::thousands_one_decimal(s.total_calories)),
        ("samples", fmt::thousands(s.samples)),
    ];
    if view.is_live() {
        let end = stats.response.end.with_timezone(&canvas.app.settings.tz);
        lines.push(("as of", end.format("%H:%M:%S").to_string()));
    }
    lines
}

fn zones(canvas: &mut Canvas<'_>, column: &mut StatsColumn, zones: &HeartRateZones) {
    column.heading(canvas, "Zones");
    for (name, share) in zones.iter().rev() {
        zone_bar(canvas, column, share);
        column.value(canvas, name, &format!("{:.0} %", share * 100.0));
    }
    column.y += 1;
}

/// Draws the bar of a zone between its name and its share.
fn zone_bar(canvas: &mut Canvas<'_>, column: &StatsColumn, share: f64) {
    const NAME_WIDTH: u16 = 12;
    const SHARE_WIDTH: u16 = 7;
    let area = column.area;
    if column.y >= area.bottom() {
        return;
    }
    let room = area.width.saturating_sub(NAME_WIDTH + SHARE_WIDTH);
    let length = (0..room)
        .take_while(|cell| f64::from(*cell) + 0.5 < share * f64::from(room))
        .count();
    let bar = canvas.symbols.bars[5].repeat(length);
    canvas.text(area.x + NAME_WIDTH, column.y, room, &bar, canvas.theme.heart_rate.soft);
}

fn sources(canvas: &mut Canvas<'_>, column: &mut StatsColumn, response: &StatsResponse) {
    if response.sources.is_empty() || column.y + 1 >= column.area.bottom() {
        return;
    }
    column.heading(canvas, "Sources");
    for source in &response.sources {
        column.value(canvas, source_name(&source.source), &fmt::thousands(source.samples));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_readings_is_shown_after_its_mean() {
        assert_eq!(heart_rate_text((60.0, 72.35, 90.0)), "72.3 bpm (60 to 90)");
        assert_eq!(heart_rate_text((72.0, 72.0, 72.0)), "72 bpm");
    }
}
