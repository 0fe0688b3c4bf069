//! The range statistics: the form at the left, the answer at the right.

use ratatui::layout::{Position, Rect};

use crate::{
    app::{FormField, PRESETS, RangeQuery, RangeRequest, TextInput, UserRangeStats},
    fmt,
    keys::{Action, Scope},
    layout::{self, LABEL_WIDTH, MARGIN, ScreenAreas},
    theme::MetricStyle,
    ui::{
        canvas::Canvas,
        chart::{self, Bar, LinePoint, Series, TimeAxis},
    },
};

/// Columns for the labels of the answer.
const ANSWER_LABEL_WIDTH: u16 = 15;
/// Columns for the narrowest user of the answer: `10 800`, or a name that differs from others.
const USER_WIDTH_MIN: u16 = 9;
/// Columns for the widest user.
const USER_WIDTH_MAX: u16 = 18;
/// Lines that the chart below the answer needs at least.
const CHART_HEIGHT_MIN: usize = 8;
/// A chart of fewer lines is not drawn.
const CHART_HEIGHT_DRAWN_MIN: u16 = 5;

pub(crate) fn draw(canvas: &mut Canvas<'_>, screen: &ScreenAreas) -> Option<Position> {
    let areas = canvas.app.form_areas();
    range_line(canvas, screen.subheader);
    if areas.fields.is_empty() {
        answer(canvas, areas.answer);
        return None;
    }
    if !areas.answer.is_empty() {
        let x = areas.answer.x.saturating_sub(2);
        for y in areas.answer.top()..areas.answer.bottom() {
            canvas.text(x, y, 1, canvas.symbols.vertical_line, canvas.theme.border);
        }
        answer(canvas, areas.answer);
    }
    fields(canvas, areas.fields)
}

/// The line below the header: the range of the answer.
fn range_line(canvas: &mut Canvas<'_>, area: Rect) {
    let theme = canvas.theme;
    let (x, width) = (area.x + MARGIN, area.width.saturating_sub(MARGIN + 1));
    let RangeQuery::Done { request, .. } = &canvas.app.form.query else {
        canvas.text(x, area.y, width, "Statistics of any time range", theme.text);
        return;
    };
    let length = fmt::duration(request.end - request.start);
    let range = fmt::time_range(request.start, request.end, request.tz, canvas.symbols.range_dash);
    let zone = fmt::zone(request.tz);
    let spans = [
        ("Statistics of ", theme.text),
        (length.as_str(), theme.accent),
        ("  ", theme.text),
        (range.as_str(), theme.dim),
        (" ", theme.dim),
        (zone.as_ref(), theme.dim),
    ];
    canvas.spans(x, area.y, width, &spans);
}

/// Draws the fields with their errors, and hints if there is room. Returns the position of the cursor.
fn fields(canvas: &mut Canvas<'_>, area: Rect) -> Option<Position> {
    const HINTS: [&str; 3] = [
        "times: -2h, 18:00, today,",
        "2025-03-02 18:00, RFC 3339",
        "several users: 101, 202",
    ];
    let (form, theme) = (&canvas.app.form, canvas.theme);
    let width = area.width.saturating_sub(1);
    let mut cursor = None;
    let mut y = area.y;
    for field in FormField::ALL {
        if y >= area.bottom() {
            break;
        }
        let line = Rect::new(area.x, y, width, 1);
        cursor = cursor.or(draw_field(canvas, line, field));
        y += 1;
        if let Some(error) = form.error(field) {
            let below = Rect::new(area.x, y, width, area.bottom().saturating_sub(y));
            y += canvas.wrapped(below, error, theme.bad);
        }
    }
    y += 1;
    if y + 3 <= area.bottom() {
        for (hint, y) in HINTS.iter().zip(y..) {
            canvas.text(area.x, y, width, hint, theme.dim);
        }
    }
    cursor
}

/// Draws a label and a value. Returns the position of the cursor if the field is a text with the focus.
fn draw_field(canvas: &mut Canvas<'_>, line: Rect, field: FormField) -> Option<Position> {
    let (form, theme) = (&canvas.app.form, canvas.theme);
    let has_focus = form.focus == Some(field);
    let (label_style, style) = if has_focus {
        (theme.accent, theme.focused_field)
    } else {
        (theme.dim, theme.field)
    };
    canvas.text(line.x, line.y, LABEL_WIDTH, field.label(), label_style);
    let (_, value) = layout::split_left(line, LABEL_WIDTH);
    canvas.buf.set_style(value, style);
    let (x, width) = (value.x + 1, value.width.saturating_sub(1));
    if let Some(input) = input(canvas, field).filter(|_| has_focus) {
        return Some(canvas.input(x, value.y, width, input, style).1);
    }
    canvas.text(x, value.y, width, &field_text(canvas, field), style);
    None
}

fn field_text(canvas: &Canvas<'_>, field: FormField) -> String {
    let form = &canvas.app.form;
    let choice = |text: &str| format!("{} {text} {}", canvas.symbols.previous, canvas.symbols.next);
    match field {
        FormField::Users if canvas.app.masked && form.focus != Some(field) => "(masked)".to_owned(),
        FormField::Users => form.users.text().to_owned(),
        FormField::Preset => choice(PRESETS[form.preset].0),
        FormField::Start => form.start.text().to_owned(),
        FormField::End => form.end.text().to_owned(),
        FormField::Bucket => choice(
            &form
                .bucket
                .map_or_else(|| "auto".to_owned(), |bucket| bucket.to_string()),
        ),
        FormField::Zone => form.zone.text().to_owned(),
    }
}

/// Returns the input of a text field.
fn input<'a>(canvas: &Canvas<'a>, field: FormField) -> Option<&'a TextInput> {
    let form = &canvas.app.form;
    match field {
        FormField::Users => Some(&form.users),
        FormField::Start => Some(&form.start),
        FormField::End => Some(&form.end),
        FormField::Zone => Some(&form.zone),
        FormField::Preset | FormField::Bucket => None,
    }
}

fn answer(canvas: &mut Canvas<'_>, whole: Rect) {
    let theme = canvas.theme;
    // A text does not touch the edge of the screen.
    let area = Rect {
        width: whole.width.saturating_sub(1),
        ..whole
    };
    match &canvas.app.form.query {
        RangeQuery::NotAsked => {
            let text = "Which user, and which time range? Enter asks the server.";
            canvas.wrapped(area, text, theme.dim);
        }
        RangeQuery::Cancelled => {
            canvas.wrapped(area, "Cancelled. Enter asks again.", theme.dim);
        }
        RangeQuery::Running { since, .. } => {
            let text = match (canvas.app.now - *since).num_seconds() {
                ..1 => "Asking the server ...".to_owned(),
                seconds => {
                    let cancel = canvas.key(Scope::Form, Action::Back);
                    format!("Asking the server ... {seconds} s ({cancel} cancels)")
                }
            };
            canvas.wrapped(area, &text, theme.warn);
        }
        RangeQuery::Failed { reason } => {
            let used = canvas.wrapped(area, "The query failed.", theme.bad);
            canvas.wrapped(layout::split_top(area, used).1, reason, theme.text);
        }
        RangeQuery::Done { request, users } => result(canvas, whole, request, users),
    }
}

/// The statistics of each user, and a chart below them.
fn result(canvas: &mut Canvas<'_>, area: Rect, request: &RangeRequest, answer: &[UserRangeStats]) {
    if answer.iter().all(|user| user.stats.stats.samples == 0) {
        let text = "No data in this range. Try a longer range or another user.";
        canvas.wrapped(area, text, canvas.theme.dim);
        return;
    }
    let (shown, user_width) = user_columns(area.width, answer.len());
    let rows = stats_rows(&answer[..shown], user_width);
    let all_fit = usize::from(area.height) >= rows.len() + CHART_HEIGHT_MIN;
    let scroll = if all_fit {
        0
    } else {
        usize::from(canvas.app.form.scroll).min(rows.len())
    };
    let lines_needed = rows.len() - scroll + 2 + usize::from(CHART_HEIGHT_DRAWN_MIN);
    let area = if usize::from(area.height) < lines_needed {
        let (above, last_line) = layout::split_bottom(area, 1);
        let text = format!("{} scrolls to the chart", canvas.key(Scope::Form, Action::PageDown));
        canvas.text(last_line.x, last_line.y, last_line.width, &text, canvas.theme.dim);
        above
    } else {
        area
    };
    let used = table(canvas, area, answer, user_width, &rows[scroll..]);
    charts(canvas, layout::split_top(area, used + 1).1, request, answer, shown);
}

/// One row of the answer: a label, and a value for each user.
struct StatsRow {
    label: &'static str,
    values: Vec<String>,
}

/// Returns how many users fit side by side, and the columns of each. Users that do not fit are left out, because a
/// number that is cut reads as another number.
fn user_columns(width: u16, users: usize) -> (usize, u16) {
    let room = width.saturating_sub(ANSWER_LABEL_WIDTH + 1);
    let shown = users.min(usize::from((room / USER_WIDTH_MIN).max(1)));
    let user_width = room / u16::try_from(shown).unwrap_or(1).max(1);
    (shown, user_width.min(USER_WIDTH_MAX))
}

fn stats_rows(answer: &[UserRangeStats], user_width: u16) -> Vec<StatsRow> {
    const NONE: &str = "none";
    let row = |label, value: &dyn Fn(&UserRangeStats) -> String| StatsRow {
        label,
        values: answer.iter().map(value).collect(),
    };
    let bpm = |v: Option<f64>| v.map_or_else(|| NONE.to_owned(), fmt::one_decimal);
    let percentile = |user: &UserRangeStats, p: &str| {
        let value = user.percentiles.percentiles.get(p).copied().flatten();
        value.map_or_else(|| NONE.to_owned(), |v| format!("{v:.0}"))
    };
    let mut rows = vec![
        row("average bpm", &|u| bpm(u.stats.stats.average_heart_rate)),
        row("time-weighted", &|u| bpm(u.stats.stats.time_weighted_heart_rate)),
        row(
            "min, max",
            &|u| match (u.stats.stats.min_heart_rate, u.stats.stats.max_heart_rate) {
                (Some(min), Some(max)) => format!("{min:.0}, {max:.0}"),
                _ => NONE.to_owned(),
            },
        ),
    ];
    if user_width > 14 {
        rows.push(row("p50, p95, p99", &|u| {
            ["50", "95", "99"].map(|p| percentile(u, p)).join(", ")
        }));
    } else {
        rows.extend([("p50", "50"), ("p95", "95"), ("p99", "99")].map(|(label, p)| row(label, &|u| percentile(u, p))));
    }
    rows.extend([
        row("coverage", &|u| {
            format!("{:.0} %", u.stats.stats.heart_rate_coverage * 100.0)
        }),
        row("steps", &|u| fmt::thousands(u.stats.stats.total_steps)),
        row("kcal", &|u| fmt::thousands_one_decimal(u.stats.stats.total_calories)),
        row("samples", &|u| fmt::thousands(u.stats.stats.samples)),
    ]);
    rows
}

/// Draws the users side by side. Returns the lines that it used.
fn table(canvas: &mut Canvas<'_>, area: Rect, answer: &[UserRangeStats], user_width: u16, rows: &[StatsRow]) -> u16 {
    let theme = canvas.theme;
    let width = user_width.saturating_sub(1);
    let shown = rows.first().map_or(0, |row| row.values.len());
    let right = |i: usize| area.x + ANSWER_LABEL_WIDTH + user_width * (u16::try_from(i).unwrap_or(0) + 1);
    if shown < answer.len() {
        let text = format!("{shown} of {} users", answer.len());
        canvas.text(area.x, area.y, ANSWER_LABEL_WIDTH, &text, theme.warn);
    }
    for (i, user) in answer.iter().take(shown).enumerate() {
        let label = canvas.app.label(user.stats.user_id.get());
        let style = if answer.len() == 1 {
            theme.strong
        } else {
            theme.users[i % theme.users.len()]
        };
        canvas.text_right(right(i), area.y, width, &label, style);
    }
    let lines = area.top() + 1..area.bottom();
    let used = rows.iter().zip(lines).fold(0, |used, (row, y)| {
        canvas.text(area.x, y, ANSWER_LABEL_WIDTH, row.label, theme.dim);
        for (i, value) in row.values.iter().enumerate() {
            canvas.text_right(right(i), y, width, value, theme.text);
        }
        used + 1
    });
    1 + used
}

/// Draws the heart rate of all users and, for a single user, the steps. The table names the first `shown` users in the
/// colours of their lines, and the title of the chart names the others.
fn charts(canvas: &mut Canvas<'_>, area: Rect, request: &RangeRequest, answer: &[UserRangeStats], shown: usize) {
    let theme = canvas.theme;
    if area.height < CHART_HEIGHT_DRAWN_MIN || answer.iter().all(|user| user.buckets.is_empty()) {
        return;
    }
    let axis = TimeAxis {
        start: request.start,
        end: request.end,
        tz: request.tz,
    };
    let is_single = answer.len() == 1;
    let points: Vec<Vec<LinePoint>> = answer.iter().map(heart_rates).collect();
    let series: Vec<Series<'_>> = points
        .iter()
        .enumerate()
        .map(|(i, points)| Series {
            points,
            style: if is_single {
                theme.heart_rate
            } else {
                MetricStyle::uniform(theme.users[i % theme.users.len()])
            },
        })
        .collect();
    let steps_height = if is_single && area.height >= 14 {
        (area.height / 3).min(6)
    } else {
        0
    };
    let (heart_rate, steps) = layout::split_bottom(area, steps_height);
    let title = format!("heart rate, bpm, by {}", request.bucket);
    let width = heart_rate.width.saturating_sub(MARGIN + 1);
    let used = canvas.text(heart_rate.x + MARGIN, heart_rate.y, width, &title, theme.dim);
    let (_, room) = layout::split_left(heart_rate, MARGIN + used);
    users_without_column(canvas, layout::split_top(room, 1).0, answer, shown);
    chart::lines(canvas, heart_rate, &axis, &series, None);
    if steps_height > 0 {
        canvas.text(steps.x + MARGIN, steps.y, steps.width, "steps a minute", theme.dim);
        chart::bars(canvas, steps, &axis, &step_bars(&answer[0]), theme.steps, None);
    }
}

/// Names the users who are in the chart but not in the table, each in the colour of the line.
fn users_without_column(canvas: &mut Canvas<'_>, area: Rect, answer: &[UserRangeStats], shown: usize) {
    let others = answer.len().saturating_sub(shown);
    let room = area.width / u16::try_from(others).unwrap_or(u16::MAX).max(1);
    let mut x = area.x;
    for (i, user) in answer.iter().enumerate().skip(shown) {
        let label = canvas.app.label(user.stats.user_id.get());
        let style = canvas.theme.users[i % canvas.theme.users.len()];
        x += 2 + canvas.text(x + 2, area.y, room.saturating_sub(2), &label, style);
    }
}

fn heart_rates(user: &UserRangeStats) -> Vec<LinePoint> {
    let points = user.buckets.iter().filter_map(|bucket| {
        Some(LinePoint {
            at: bucket.start + (bucket.end - bucket.start) / 2,
            low: bucket.stats.min_heart_rate?,
            mean: bucket.stats.average_heart_rate?,
            high: bucket.stats.max_heart_rate?,
        })
    });
    points.collect()
}

fn step_bars(user: &UserRangeStats) -> Vec<Bar> {
    let with_samples = user.buckets.iter().filter(|bucket| bucket.stats.samples > 0);
    with_samples
        .map(|bucket| Bar {
            from: bucket.start,
            to: bucket.end,
            value: f64::from(i32::try_from(bucket.stats.total_steps).unwrap_or(i32::MAX)),
        })
        .collect()
}
