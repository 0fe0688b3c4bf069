//! The bar at the top, which tells the truth about the connection, and the hints at the bottom.

use chrono::TimeDelta;
use ratatui::{layout::Rect, style::Style};

use crate::{
    app::{LinkState, Pane},
    fmt,
    keys::Scope,
    layout::{self, MARGIN},
    ui::paint::{Paint, columns},
};

pub(crate) fn bar(p: &mut Paint<'_>, area: Rect) {
    let t = p.theme;
    p.buf.set_style(area, t.bar);
    p.spans(
        area.x + MARGIN,
        area.y,
        9,
        &[(p.glyphs.heart, t.heart.full), (" Health", t.strong)],
    );
    let [live, stats] = layout::tabs(area);
    let on_stats = p.app.pane == Pane::Stats;
    for (tab, text, on) in [(live, " 1 Live ", !on_stats), (stats, " 2 Range stats ", on_stats)] {
        p.text(tab.x, tab.y, tab.width, text, if on { t.tab_on } else { t.dim });
    }
    let from = stats.right() + 1;
    connection(p, area, area.width.saturating_sub(from + 1));
}

/// Right-aligned, the most important part first to be kept.
fn connection(p: &mut Paint<'_>, area: Rect, room: u16) {
    let (t, g, link) = (p.theme, p.glyphs, &p.app.link);
    let mut parts: Vec<(String, Style)> = Vec::new();
    match &link.state {
        LinkState::Connected if link.quiet_since.is_some() => {
            let since = link.quiet_since.map_or(0, |at| (p.app.now - at).num_seconds());
            parts.push((format!("{} silent for {since} s", g.waiting), t.warn));
        }
        LinkState::Connected => parts.push((format!("{} connected", g.connected), t.good)),
        LinkState::Replay { what } => parts.push((format!("{} {what}", g.right), t.accent)),
        LinkState::Connecting { attempt: 1 } => parts.push((format!("{} connecting", g.waiting), t.warn)),
        LinkState::Connecting { attempt } => {
            parts.push((format!("{} connecting (attempt {attempt})", g.waiting), t.warn));
        }
        LinkState::Waiting { attempt, why, retry_at } => {
            let left = (*retry_at - p.app.now).num_milliseconds().max(0);
            let seconds = (left + 999) / 1_000;
            parts.push((format!("{} retry in {seconds} s", g.waiting), t.bad));
            parts.push((why.clone(), t.base));
            parts.push((format!("attempt {attempt}"), t.dim));
        }
    }
    if link.is_connected() {
        if let Some(rate) = link.rate() {
            parts.push((format!("{}/s", fmt::short(rate)), t.base));
        }
        if let Some(lag) = link.lag {
            parts.push((
                format!("lag {}", lag_text(lag)),
                if lag > TimeDelta::seconds(60) { t.warn } else { t.dim },
            ));
        }
    }
    if link.skipped > 0 {
        parts.push((format!("skipped {}", fmt::grouped(link.skipped)), t.warn));
    }
    let between = format!(" {} ", g.between);
    let width = |parts: &[(String, Style)]| {
        let gaps = u16::try_from(parts.len().saturating_sub(1)).unwrap_or(0) * 3;
        parts.iter().map(|(text, _)| columns(text)).sum::<u16>() + gaps
    };
    while parts.len() > 2 && width(&parts) > room {
        parts.pop();
    }
    let wide = width(&parts).min(room);
    let mut x = (area.right().saturating_sub(1)).saturating_sub(wide);
    let end = area.right().saturating_sub(1);
    for (i, (text, style)) in parts.iter().enumerate() {
        if i > 0 {
            x += p.text(x, area.y, end.saturating_sub(x), &between, t.line);
        }
        x += p.text(x, area.y, end.saturating_sub(x), text, *style);
    }
}

fn lag_text(lag: TimeDelta) -> String {
    if lag < TimeDelta::seconds(60) {
        format!("{:.1} s", lag.as_seconds_f64())
    } else {
        fmt::age(lag)
    }
}

/// What the most useful keys do here, as many as fit.
pub(crate) fn footer(p: &mut Paint<'_>, area: Rect) {
    let t = p.theme;
    p.buf.set_style(area, t.bar);
    let scope = p.app.scope();
    let typing = p.app.is_typing();
    let mut x = area.x + MARGIN;
    // Help first: a narrow terminal has no room for all of them, and help knows the rest.
    for from in [Scope::Everywhere, scope] {
        for (binding, keys) in p.app.settings.keymap.of(from) {
            let Some(hint) = binding.hint else { continue };
            // While text is typed, a letter is a letter.
            let Some(key) = keys.iter().find(|k| !typing || k.text().is_none()) else {
                continue;
            };
            let key = key.to_string();
            let wide = columns(&key) + 1 + columns(hint) + 2;
            if x + wide > area.right() {
                return;
            }
            x += p.text(x, area.y, wide, &key, t.accent) + 1;
            x += p.text(x, area.y, wide, hint, t.dim) + 2;
        }
    }
}
