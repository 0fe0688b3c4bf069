//! Range stats: the form at the left, the answer at the right.

use ratatui::layout::{Position, Rect};

use crate::{
    app::{Asked, Field, PRESETS, Run, UserRange},
    fmt,
    keys::{Action, Scope},
    layout::{self, Frame, LABEL_WIDTH, MARGIN},
    theme::Ink,
    ui::{
        chart::{self, Axis, Count, Mark, Series},
        paint::Paint,
    },
};

pub(crate) fn draw(p: &mut Paint<'_>, frame: &Frame) -> Option<Position> {
    let areas = p.app.form_areas();
    sub_line(p, frame.sub);
    if areas.fields.is_empty() {
        answer(p, areas.answer);
        return None;
    }
    if !areas.answer.is_empty() {
        for y in areas.answer.top()..areas.answer.bottom() {
            p.text(areas.answer.x.saturating_sub(2), y, 1, p.glyphs.vertical, p.theme.line);
        }
        answer(p, areas.answer);
    }
    fields(p, areas.fields)
}

/// What the answer is about.
fn sub_line(p: &mut Paint<'_>, area: Rect) {
    let t = p.theme;
    let Run::Done { asked, .. } = &p.app.form.run else {
        p.text(area.x + MARGIN, area.y, area.width, "Statistics of any range", t.base);
        return;
    };
    let span = fmt::span(asked.end - asked.start);
    let range = fmt::moments(asked.start, asked.end, asked.tz, p.glyphs.to);
    let spans = [
        ("Statistics of ", t.base),
        (span.as_str(), t.accent),
        ("  ", t.base),
        (range.as_str(), t.dim),
        (" ", t.dim),
        (asked.tz.name(), t.dim),
    ];
    p.spans(area.x + MARGIN, area.y, area.width.saturating_sub(MARGIN + 1), &spans);
}

fn fields(p: &mut Paint<'_>, area: Rect) -> Option<Position> {
    let (app, t) = (p.app, p.theme);
    let form = &app.form;
    let mut cursor = None;
    let mut y = area.y;
    for field in Field::ALL {
        if y >= area.bottom() {
            break;
        }
        let on = form.focus == Some(field);
        p.text(area.x, y, LABEL_WIDTH, field.label(), if on { t.accent } else { t.dim });
        let value = Rect::new(area.x + LABEL_WIDTH, y, area.width.saturating_sub(LABEL_WIDTH + 1), 1);
        p.buf.set_style(value, if on { t.field_on } else { t.field });
        let style = if on { t.field_on } else { t.field };
        let text = match field {
            Field::Users if app.masked && !on => "(masked)".to_owned(),
            Field::Users => form.users.text().to_owned(),
            Field::Preset => choice(p, PRESETS[form.preset].0),
            Field::Start => form.start.text().to_owned(),
            Field::End => form.end.text().to_owned(),
            Field::Bucket => choice(p, form.bucket.map_or("auto", crate::app::BucketWidth::name)),
            Field::Zone => form.zone.text().to_owned(),
        };
        if on && field.is_text() {
            let line = match field {
                Field::Users => &form.users,
                Field::Start => &form.start,
                Field::End => &form.end,
                _ => &form.zone,
            };
            // A text longer than its field is seen around the cursor.
            let room = value.width.saturating_sub(3);
            let hidden = line.cursor_column().saturating_sub(room);
            let visible: String = text.chars().skip(hidden.into()).collect();
            p.text(value.x + 1, y, value.width.saturating_sub(1), &visible, style);
            cursor = Some(Position::new(value.x + 1 + line.cursor_column() - hidden, y));
        } else {
            p.text(value.x + 1, y, value.width.saturating_sub(1), &text, style);
        }
        if let Some(why) = form.error(field) {
            let below = Rect {
                y: y + 1,
                height: area.bottom().saturating_sub(y + 1),
                width: area.width.saturating_sub(1),
                ..area
            };
            y += p.wrapped(below, why, t.bad);
        }
        y += 1;
    }
    y += 1;
    let hints = [
        "times: -2h, 18:00, today,",
        "2025-03-02 18:00, RFC 3339",
        "several users: 101, 202",
    ];
    if y + 3 <= area.bottom() {
        for (hint, y) in hints.iter().zip(y..area.bottom()) {
            p.text(area.x, y, area.width.saturating_sub(1), hint, t.dim);
        }
    }
    cursor
}

fn choice(p: &Paint<'_>, text: &str) -> String {
    format!("{} {text} {}", p.glyphs.left, p.glyphs.right)
}

fn answer(p: &mut Paint<'_>, area: Rect) {
    let t = p.theme;
    let top = area;
    match &p.app.form.run {
        Run::Nothing => {
            p.wrapped(top, "Whose statistics, over which time? Enter asks the server.", t.dim);
        }
        Run::Cancelled => {
            p.wrapped(top, "Cancelled. Enter asks again.", t.dim);
        }
        Run::Running { since, .. } => {
            let s = (p.app.now - *since).num_seconds();
            let text = if s < 1 {
                "Asking ...".to_owned()
            } else {
                format!("Asking ... {s} s ({} cancels)", p.key(Scope::Form, Action::Back))
            };
            p.wrapped(top, &text, t.warn);
        }
        Run::Failed { why } => {
            let used = p.wrapped(top, "There is no answer.", t.bad);
            let below = Rect {
                y: top.y + used,
                height: top.height.saturating_sub(used),
                ..top
            };
            p.wrapped(below, why, t.base);
        }
        Run::Done { asked, answer } => done(p, top, asked, answer),
    }
}

fn done(p: &mut Paint<'_>, area: Rect, asked: &Asked, answer: &[UserRange]) {
    let t = p.theme;
    let below = area;
    if answer.iter().all(|a| a.stats.stats.samples == 0) {
        p.wrapped(
            below,
            "No data in this range. Try a longer one, or another user.",
            t.dim,
        );
        return;
    }
    let (columns, wide) = table_columns(below.width, answer.len());
    let lines = table_lines(&answer[..columns], wide);
    let scroll = if usize::from(below.height) >= lines.len() + 8 {
        0
    } else {
        usize::from(p.app.form.scroll).min(lines.len())
    };
    let used = table(p, below, answer, wide, &lines[scroll..]);
    let (_, plot) = layout::split_above(below, used + 1);
    plots(p, plot, asked, answer);
}

/// A label and a value for each user.
type Line = (&'static str, Vec<String>);

/// Columns of the labels left of the table, and of the narrowest user: `10 800` and a name that can be told apart.
const TABLE_LABEL: u16 = 15;
const TABLE_LEAST: u16 = 9;

/// How many users fit side by side, and the columns of each. No figure is ever cut: a part of a number is another number.
fn table_columns(width: u16, users: usize) -> (usize, u16) {
    let room = width.saturating_sub(TABLE_LABEL + 1);
    let most = usize::from((room / TABLE_LEAST).max(1));
    let shown = users.min(most);
    let wide = room / u16::try_from(shown).unwrap_or(1).max(1);
    (shown, wide.min(18))
}

fn table_lines(answer: &[UserRange], wide: u16) -> Vec<Line> {
    let number = |v: Option<f64>| v.map_or_else(|| "none".to_owned(), fmt::one);
    let count = |n: i64| fmt::grouped(u64::try_from(n).unwrap_or(0));
    let row = |label: &'static str, f: &dyn Fn(&UserRange) -> String| (label, answer.iter().map(f).collect());
    let mut lines: Vec<Line> = vec![
        row("average bpm", &|a| number(a.stats.stats.average_heart_rate)),
        row("time-weighted", &|a| number(a.stats.stats.time_weighted_heart_rate)),
        row(
            "min, max",
            &|a| match (a.stats.stats.min_heart_rate, a.stats.stats.max_heart_rate) {
                (Some(low), Some(high)) => format!("{low:.0}, {high:.0}"),
                _ => "none".to_owned(),
            },
        ),
    ];
    let percentile = |a: &UserRange, p: &str| {
        let value = a.percentiles.percentiles.get(p).copied().flatten();
        value.map_or_else(|| "none".to_owned(), |v| format!("{v:.0}"))
    };
    if wide > 14 {
        lines.push(row("p50, p95, p99", &|a| {
            ["50", "95", "99"].map(|p| percentile(a, p)).join(", ")
        }));
    } else {
        lines.extend([("p50", "50"), ("p95", "95"), ("p99", "99")].map(|(label, p)| row(label, &|a| percentile(a, p))));
    }
    lines.push(row("coverage", &|a| {
        format!("{:.0} %", a.stats.stats.heart_rate_coverage * 100.0)
    }));
    lines.push(row("steps", &|a| count(a.stats.stats.total_steps)));
    lines.push(row("kcal", &|a| fmt::grouped_one(a.stats.stats.total_calories)));
    lines.push(row("samples", &|a| count(a.stats.stats.samples)));
    lines
}

/// Users side by side. Returns the lines it took.
fn table(p: &mut Paint<'_>, area: Rect, answer: &[UserRange], wide: u16, lines: &[Line]) -> u16 {
    let t = p.theme;
    let shown = wide.saturating_sub(1);
    let columns = lines.first().map_or(0, |l| l.1.len());
    let right = |i: usize| area.x + TABLE_LABEL + wide * (u16::try_from(i).unwrap_or(0) + 1);
    if columns < answer.len() {
        let more = format!("{} of {} users", columns, answer.len());
        p.text(area.x, area.y, TABLE_LABEL, &more, t.warn);
    }
    for (i, one) in answer.iter().take(columns).enumerate() {
        let label = p.app.label(one.stats.user_id.get()).into_owned();
        let style = if answer.len() == 1 {
            t.strong
        } else {
            t.hues[i % t.hues.len()]
        };
        p.text_right(right(i), area.y, shown, &label, style);
    }
    let mut y = area.y + 1;
    for (label, values) in lines {
        if y >= area.bottom() {
            break;
        }
        p.text(area.x, y, TABLE_LABEL, label, t.dim);
        for (i, value) in values.iter().enumerate() {
            p.text_right(right(i), y, shown, value, t.base);
        }
        y += 1;
    }
    y - area.y
}

fn plots(p: &mut Paint<'_>, area: Rect, asked: &Asked, answer: &[UserRange]) {
    let t = p.theme;
    if area.height < 5 || answer.iter().all(|a| a.buckets.is_empty()) {
        return;
    }
    let axis = Axis {
        start: asked.start,
        end: asked.end,
        tz: asked.tz,
    };
    let single = answer.len() == 1;
    let marks = |a: &UserRange| -> Vec<Mark> {
        let each = a.buckets.iter().filter_map(|b| {
            let s = &b.stats;
            Some(Mark {
                at: b.start + (b.end - b.start) / 2,
                low: s.min_heart_rate?,
                mean: s.average_heart_rate?,
                high: s.max_heart_rate?,
            })
        });
        each.collect()
    };
    let marks: Vec<Vec<Mark>> = answer.iter().map(marks).collect();
    let series: Vec<Series<'_>> = marks
        .iter()
        .enumerate()
        .map(|(i, marks)| Series {
            marks,
            ink: if single {
                t.heart
            } else {
                Ink::all(t.hues[i % t.hues.len()])
            },
        })
        .collect();
    let bars = single && area.height >= 14;
    let (heart, steps) = layout::split_below(area, if bars { (area.height / 3).min(6) } else { 0 });
    let head = format!("heart rate, bpm, by {}", asked.bucket.name());
    p.text(heart.x + MARGIN, heart.y, heart.width, &head, t.dim);
    chart::lines(p, heart, &axis, &series, None);
    if bars {
        p.text(steps.x + MARGIN, steps.y, steps.width, "steps a minute", t.dim);
        let counts: Vec<Count> = answer[0]
            .buckets
            .iter()
            .filter(|b| b.stats.samples > 0)
            .map(|b| Count {
                from: b.start,
                to: b.end,
                value: f64::from(i32::try_from(b.stats.total_steps).unwrap_or(i32::MAX)),
            })
            .collect();
        chart::bars(p, steps, &axis, &counts, t.steps, None);
    }
}
