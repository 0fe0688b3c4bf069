//! The details of the row under the cursor, from what the table remembers: nothing is asked of the server.

use chrono::TimeDelta;
use ratatui::layout::Rect;

use crate::{
    fmt,
    layout::{self, MARGIN},
    store::User,
    ui::{
        chart::{self, Axis, Mark, Series},
        paint::Paint,
    },
};

/// Columns of the figures at the right.
const FIGURES_WIDTH: u16 = 30;

pub(crate) fn draw(p: &mut Paint<'_>, area: Rect, user: Option<&User>) {
    let (head, body) = layout::split_above(area, 1);
    let Some(user) = user else {
        p.rule(head, "Details");
        p.text(body.x + MARGIN, body.y, body.width, "Nobody yet.", p.theme.dim);
        return;
    };
    let title = p.app.title(user.id);
    p.rule(head, &title);
    let (left, right) = layout::split_left(body, body.width.saturating_sub(FIGURES_WIDTH));
    let entries: Vec<_> = user.ring.entries().collect();
    let marks: Vec<Mark> = entries
        .iter()
        .filter_map(|e| {
            let v = e.heart_rate()?;
            Some(Mark {
                at: e.at(),
                low: v,
                mean: v,
                high: v,
            })
        })
        .collect();
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return;
    };
    let start = first.at();
    let axis = Axis {
        start,
        end: last.at().max(start + TimeDelta::seconds(10)) + TimeDelta::milliseconds(1),
        tz: p.app.settings.tz,
    };
    if marks.is_empty() {
        p.text(
            left.x + MARGIN,
            left.y + 1,
            left.width,
            "No heart rate among the newest readings.",
            p.theme.dim,
        );
    } else {
        let ink = p.theme.heart;
        chart::lines(p, left, &axis, &[Series { marks: &marks, ink }], None);
        let unit = [("bpm", p.theme.dim)];
        p.spans(left.x + MARGIN, left.y, left.width, &unit);
    }
    figures(p, layout::inset_left(right, 1), user, &marks, last.at() - start);
}

fn figures(p: &mut Paint<'_>, area: Rect, user: &User, marks: &[Mark], span: TimeDelta) {
    let t = p.theme;
    let (_, now) = p.app.shown();
    let mut lines: Vec<(&str, String)> = Vec::new();
    if !marks.is_empty() {
        let (mut low, mut high, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
        for m in marks {
            low = low.min(m.mean);
            high = high.max(m.mean);
            sum += m.mean;
        }
        let n = f64::from(u32::try_from(marks.len()).unwrap_or(1));
        lines.push(("avg bpm", fmt::one(sum / n)));
        lines.push(("min, max", format!("{low:.0}, {high:.0}")));
    }
    let sum = |metric: fn(crate::store::Entry) -> Option<f64>| {
        let values: Vec<f64> = user.ring.entries().filter_map(metric).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>())
    };
    if let Some(steps) = sum(crate::store::Entry::steps) {
        lines.push(("steps", format!("{steps:.0}")));
    }
    if let Some(kcal) = sum(crate::store::Entry::calories) {
        lines.push(("kcal", fmt::one(kcal)));
    }
    let over = match user.ring.len() {
        1 => "one reading".to_owned(),
        n => format!("{}, {n} readings", fmt::span(span)),
    };
    lines.push(("over", over));
    lines.push(("newest", fmt::moment(user.newest, p.app.settings.tz)));
    if let Some(heard) = user.heard {
        lines.push((
            "arrived",
            format!("{} ago", fmt::age(now - heard)).replace("now ago", "just now"),
        ));
    }
    let sources: Vec<&str> = user
        .sources
        .iter()
        .map(|s| if s.as_str().is_empty() { "(unnamed)" } else { s.as_str() })
        .collect();
    lines.push(("from", sources.join(", ")));
    for ((label, text), y) in lines.iter().zip(area.y..area.bottom()) {
        p.text(area.x, y, 9, label, t.dim);
        p.text(area.x + 9, y, area.width.saturating_sub(9), text, t.base);
    }
}
