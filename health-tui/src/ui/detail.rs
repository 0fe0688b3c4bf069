//! One user: charts over a window of time, the read-out, and what the window says.

use chrono::{DateTime, Utc};
use health_core::StatsResponse;
use ratatui::layout::Rect;

use crate::{
    app::{Point, UserView},
    fmt,
    keys::{Action, Scope},
    layout::{Frame, MARGIN, UserAreas},
    ui::{
        chart::{self, Axis, Count, Mark, Series},
        paint::Paint,
    },
};

pub(crate) fn draw(p: &mut Paint<'_>, frame: &Frame) {
    let Some(view) = &p.app.user else { return };
    let areas = UserAreas::of(frame);
    let now = p.app.now;
    let (start, end) = view.window(now);
    let axis = Axis {
        start,
        end,
        tz: p.app.settings.tz,
    };
    sub_line(p, frame.sub, view, &axis);
    let first = view.points.partition_point(|q| q.to < start);
    let shown = &view.points[first..];
    let last = shown.partition_point(|q| q.from < end);
    let shown = &shown[..last];
    let t = p.theme;
    let marks: Vec<Mark> = shown
        .iter()
        .filter_map(|q| {
            q.heart_rate.map(|(low, mean, high)| Mark {
                at: q.at,
                low,
                mean,
                high,
            })
        })
        .collect();
    let read = view.cursor.and_then(|c| nearest(shown, c, &axis, areas.plot().width));
    let at = view.cursor.map(|c| {
        c.with_timezone(&axis.tz).format(if view.bucket().is_some() {
            "%d %b %H:%M"
        } else {
            "%H:%M:%S"
        })
    });
    let rate = read.and_then(|q| q.heart_rate).map(rate_text);
    let text = at.map(|at| format!("{} at {at}", rate.as_deref().unwrap_or("nothing")));
    let used = title(p, areas.heart, "heart rate, bpm", text);
    whereabouts(p, areas.heart, used, view);
    if marks.is_empty() {
        nothing(p, areas.plot(), view);
        chart::lines(p, areas.heart, &axis, &[], view.cursor);
    } else {
        chart::lines(
            p,
            areas.heart,
            &axis,
            &[Series {
                marks: &marks,
                ink: t.heart,
            }],
            view.cursor,
        );
    }
    let counts = |metric: fn(&Point) -> Option<f64>| -> Vec<Count> {
        shown
            .iter()
            .filter_map(|q| {
                metric(q).map(|value| Count {
                    from: q.from,
                    to: q.to,
                    value,
                })
            })
            .collect()
    };
    if let Some(area) = areas.steps {
        title(
            p,
            area,
            "steps a minute",
            read.and_then(|q| q.steps).map(|v| format!("{v:.0} steps")),
        );
        chart::bars(p, area, &axis, &counts(|q| q.steps), t.steps, view.cursor);
    }
    if let Some(area) = areas.calories {
        title(
            p,
            area,
            "kcal a minute",
            read.and_then(|q| q.calories).map(|v| format!("{v:.1} kcal")),
        );
        chart::bars(p, area, &axis, &counts(|q| q.calories), t.calories, view.cursor);
    }
    figures(p, areas.stats, view, &marks);
}

/// Who, from when to when.
fn sub_line(p: &mut Paint<'_>, area: Rect, view: &UserView, axis: &Axis) {
    let t = p.theme;
    let tz = axis.tz;
    let live = if view.is_live() {
        "live".to_owned()
    } else {
        format!("ends {} ago", fmt::age(p.app.now - axis.end))
    };
    let title = p.app.title(view.id);
    let range = fmt::moments(axis.start, axis.end, tz, p.glyphs.to);
    let span = fmt::span(view.span());
    p.spans(
        area.x + MARGIN,
        area.y,
        area.width.saturating_sub(2),
        &[
            (title.as_str(), t.strong),
            ("  ", t.base),
            (span.as_str(), t.accent),
            ("  ", t.base),
            (live.as_str(), if view.is_live() { t.good } else { t.warn }),
            ("  ", t.base),
            (range.as_str(), t.dim),
            (" ", t.dim),
            (tz.name(), t.dim),
        ],
    );
}

/// What the server has not answered, at the right of the title.
fn whereabouts(p: &mut Paint<'_>, area: Rect, used: u16, view: &UserView) {
    let t = p.theme;
    let (text, style) = match &view.error {
        Some(why) => (why.as_str(), t.bad),
        None if view.is_loading(p.app.now) => ("asking the server", t.warn),
        None => return,
    };
    let room = area.width.saturating_sub(used + 3);
    p.text_right(area.right().saturating_sub(1), area.y, room, text, style);
}

/// Returns the columns it took.
fn title(p: &mut Paint<'_>, area: Rect, text: &str, read: Option<String>) -> u16 {
    let t = p.theme;
    let (label, value) = (format!("{text}  "), read.unwrap_or_default());
    let spans = [(label.as_str(), t.dim), (value.as_str(), t.strong)];
    MARGIN + p.spans(area.x + MARGIN, area.y, area.width.saturating_sub(MARGIN + 1), &spans)
}

fn rate_text((low, mean, high): (f64, f64, f64)) -> String {
    if high > low {
        format!("{mean:.1} bpm ({low:.0} to {high:.0})")
    } else {
        format!("{mean:.0} bpm")
    }
}

/// The point the read-out means: the nearest that is no more than two columns away, or the bucket it lies in.
fn nearest<'a>(points: &'a [Point], cursor: DateTime<Utc>, axis: &Axis, width: u16) -> Option<&'a Point> {
    let near = (axis.end - axis.start) * 2 / i32::from(width.max(1));
    let at = points.partition_point(|q| q.at < cursor);
    [at.checked_sub(1), Some(at)]
        .into_iter()
        .flatten()
        .filter_map(|i| points.get(i))
        .filter(|q| (q.from <= cursor && cursor < q.to) || (q.at - cursor).abs() <= near)
        .min_by_key(|q| (q.at - cursor).abs())
}

fn nothing(p: &mut Paint<'_>, plot: Rect, view: &UserView) {
    let t = p.theme;
    let (text, style) = match &view.error {
        Some(why) => (
            format!("{why} ({} asks again)", p.key(Scope::Everywhere, Action::RetryNow)),
            t.bad,
        ),
        None if view.asked.is_some() => ("Asking the server ...".to_owned(), t.dim),
        None => (
            format!(
                "No heart rate in this window: {} goes back, {} zooms out.",
                p.key(Scope::User, Action::PanLeft),
                p.key(Scope::User, Action::ZoomOut)
            ),
            t.dim,
        ),
    };
    let area = Rect {
        x: plot.x + 2,
        y: plot.y + plot.height / 3,
        width: plot.width.saturating_sub(4),
        height: plot.height.saturating_sub(plot.height / 3),
    };
    p.wrapped(area, &text, style);
}

fn figures(p: &mut Paint<'_>, area: Rect, view: &UserView, marks: &[Mark]) {
    if area.height == 0 {
        return;
    }
    if area.height <= 4 {
        return strip(p, area, view, marks);
    }
    let t = p.theme;
    let mut y = area.y;
    let line = |p: &mut Paint<'_>, label: &str, text: &str, y: &mut u16| {
        if *y < area.bottom() {
            p.text(area.x, *y, 14, label, t.dim);
            p.text_right(
                area.right().saturating_sub(1),
                *y,
                area.width.saturating_sub(15),
                text,
                t.base,
            );
        }
        *y += 1;
    };
    if let Some(user) = p.app.users.get(view.id) {
        p.text(area.x, y, area.width, "Now", t.strong);
        y += 1;
        let none = p.glyphs.none;
        let or_none = |v: Option<String>| v.unwrap_or_else(|| none.to_owned());
        line(
            p,
            "heart rate",
            &or_none(user.heart_rate.map(|v| format!("{v:.0} bpm"))),
            &mut y,
        );
        line(
            p,
            "newest",
            &format!("{} ago", fmt::age(p.app.now - user.newest)).replace("now ago", "just now"),
            &mut y,
        );
        y += 1;
    }
    p.text(area.x, y, area.width, "This window", t.strong);
    y += 1;
    for (label, text) in window_lines(view, marks, p.app.now) {
        line(p, label, &text, &mut y);
    }
    y += 1;
    y = zones(p, area, y, marks);
    if let Some(stats) = view.stats(p.app.now) {
        sources(p, area, y, stats);
    }
}

/// The same in two to four lines, for narrow terminals.
fn strip(p: &mut Paint<'_>, area: Rect, view: &UserView, marks: &[Mark]) {
    let t = p.theme;
    p.rule(Rect { height: 1, ..area }, "This window");
    let lines = window_lines(view, marks, p.app.now);
    let wide = area.width / 4;
    for (i, (label, text)) in (0u16..).zip(&lines) {
        let (x, y) = (area.x + MARGIN + i % 4 * wide, area.y + 1 + i / 4);
        if y < area.bottom() {
            let used = p.text(x, y, wide, label, t.dim);
            p.text(x + used + 1, y, wide.saturating_sub(used + 2), text, t.base);
        }
    }
}

/// From the server's statistics where they are there, else from the points.
fn window_lines(view: &UserView, marks: &[Mark], now: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if !marks.is_empty() {
        let n = f64::from(u32::try_from(marks.len()).unwrap_or(1));
        let mean = marks.iter().map(|m| m.mean).sum::<f64>() / n;
        let low = marks.iter().map(|m| m.low).fold(f64::INFINITY, f64::min);
        let high = marks.iter().map(|m| m.high).fold(f64::NEG_INFINITY, f64::max);
        lines.push(("avg", fmt::one(mean)));
        lines.push(("min", format!("{low:.0}")));
        lines.push(("max", format!("{high:.0}")));
    }
    if let Some(answer) = view.stats(now) {
        let s = &answer.stats;
        lines.push(("worn", format!("{:.0} %", s.heart_rate_coverage * 100.0)));
        lines.push(("steps", fmt::grouped(u64::try_from(s.total_steps).unwrap_or(0))));
        lines.push(("kcal", fmt::grouped_one(s.total_calories)));
        lines.push(("samples", fmt::grouped(u64::try_from(s.samples).unwrap_or(0))));
    }
    lines
}

/// Shares of the readings in each fifth of the way up, as the American College of Sports Medicine divides it: from half
/// of the maximal heart rate in steps of a tenth.
fn zones(p: &mut Paint<'_>, area: Rect, mut y: u16, marks: &[Mark]) -> u16 {
    const NAMES: [&str; 6] = ["rest", "very light", "light", "moderate", "hard", "maximal"];
    if marks.is_empty() || area.height < 14 {
        return y;
    }
    let t = p.theme;
    let most = p.app.settings.heart_rate_max;
    let mut counts = [0u32; 6];
    for mark in marks {
        let zone = (1..6)
            .rev()
            .find(|z| mark.mean >= most * (0.4 + 0.1 * f64::from(*z)))
            .unwrap_or(0);
        counts[usize::try_from(zone).unwrap_or(0)] += 1;
    }
    p.text(area.x, y, area.width, "Zones", t.strong);
    y += 1;
    let all = f64::from(counts.iter().sum::<u32>());
    let room = area.width.saturating_sub(19);
    for (name, count) in NAMES.iter().zip(counts).rev() {
        if y >= area.bottom() {
            break;
        }
        let share = f64::from(count) / all;
        p.text(area.x, y, 11, name, t.dim);
        let long = (0..room)
            .take_while(|c| f64::from(*c) + 0.5 < share * f64::from(room))
            .count();
        p.text(area.x + 12, y, room, &p.glyphs.levels[5].repeat(long), t.heart.soft);
        p.text_right(
            area.right().saturating_sub(1),
            y,
            5,
            &format!("{:.0} %", share * 100.0),
            t.base,
        );
        y += 1;
    }
    y + 1
}

fn sources(p: &mut Paint<'_>, area: Rect, mut y: u16, answer: &StatsResponse) {
    let t = p.theme;
    if answer.sources.is_empty() || y + 1 >= area.bottom() {
        return;
    }
    p.text(area.x, y, area.width, "Sources", t.strong);
    y += 1;
    for source in &answer.sources {
        if y >= area.bottom() {
            break;
        }
        let name = if source.source.is_empty() {
            "(unnamed)"
        } else {
            &source.source
        };
        p.text(area.x, y, area.width.saturating_sub(12), name, t.dim);
        let count = fmt::grouped(u64::try_from(source.samples).unwrap_or(0));
        p.text_right(area.right().saturating_sub(1), y, 11, &count, t.base);
        y += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_told_with_its_mean() {
        assert_eq!(rate_text((60.0, 72.35, 90.0)), "72.3 bpm (60 to 90)");
        assert_eq!(rate_text((72.0, 72.0, 72.0)), "72 bpm");
    }
}
