//! The header, which shows the tabs and the state of the connection, and the footer, which shows keys.

use chrono::TimeDelta;
use ratatui::{layout::Rect, style::Style};

use crate::{
    app::{ConnectionState, Pane},
    fmt,
    keys::Scope,
    layout::{self, MARGIN},
    ui::canvas::{Canvas, columns},
};

/// A longer delay between a reading and its arrival is shown as a warning.
const LAG_WARNING: TimeDelta = TimeDelta::minutes(1);

pub(crate) fn header(canvas: &mut Canvas<'_>, area: Rect) {
    let theme = canvas.theme;
    canvas.buf.set_style(area, theme.bar);
    let title = [(canvas.symbols.heart, theme.heart_rate.full), (" Health", theme.strong)];
    canvas.spans(area.x + MARGIN, area.y, 9, &title);
    let [live, stats] = layout::tabs(area);
    let on_stats = canvas.app.pane == Pane::Stats;
    for (tab, text, is_active) in [(live, " 1 Live ", !on_stats), (stats, " 2 Range stats ", on_stats)] {
        let style = if is_active { theme.active_tab } else { theme.dim };
        canvas.text(tab.x, tab.y, tab.width, text, style);
    }
    connection(canvas, area, area.width.saturating_sub(stats.right() + 2));
}

/// Draws the state of the connection, right-aligned. The least important parts are left out if there is no room.
fn connection(canvas: &mut Canvas<'_>, area: Rect, room: u16) {
    let separator = format!(" {} ", canvas.symbols.separator);
    let mut parts = connection_state(canvas);
    parts.extend(traffic(canvas));
    let width = |parts: &[(String, Style)]| {
        let texts: u16 = parts.iter().map(|(text, _)| columns(text)).sum();
        texts + u16::try_from(parts.len().saturating_sub(1)).unwrap_or(0) * columns(&separator)
    };
    while parts.len() > 2 && width(&parts) > room {
        parts.pop();
    }
    let right = area.right().saturating_sub(1);
    let mut x = right.saturating_sub(width(&parts).min(room));
    for (i, (text, style)) in parts.iter().enumerate() {
        if i > 0 {
            x += canvas.text(x, area.y, right.saturating_sub(x), &separator, canvas.theme.border);
        }
        x += canvas.text(x, area.y, right.saturating_sub(x), text, *style);
    }
}

fn connection_state(canvas: &Canvas<'_>) -> Vec<(String, Style)> {
    let (theme, symbols, connection, now) = (canvas.theme, canvas.symbols, &canvas.app.connection, canvas.app.now);
    let disconnected = |text: String| format!("{} {text}", symbols.disconnected);
    match &connection.state {
        ConnectionState::Connected => match connection.silent_since {
            Some(since) => {
                let seconds = (now - since).num_seconds();
                vec![(disconnected(format!("silent for {seconds} s")), theme.warn)]
            }
            None => vec![(format!("{} connected", symbols.connected), theme.good)],
        },
        ConnectionState::Replaying { description } => vec![(format!("{} {description}", symbols.next), theme.accent)],
        ConnectionState::Connecting { attempt: 1 } => vec![(disconnected("connecting".to_owned()), theme.warn)],
        ConnectionState::Connecting { attempt } => {
            vec![(disconnected(format!("connecting (attempt {attempt})")), theme.warn)]
        }
        ConnectionState::WaitingToRetry {
            attempt,
            reason,
            retry_at,
        } => {
            let milliseconds = (*retry_at - now).num_milliseconds().max(0);
            let seconds = (milliseconds + 999) / 1_000;
            vec![
                (disconnected(format!("retry in {seconds} s")), theme.bad),
                (reason.clone(), theme.text),
                (format!("attempt {attempt}"), theme.dim),
            ]
        }
    }
}

fn traffic(canvas: &Canvas<'_>) -> Vec<(String, Style)> {
    let (theme, connection) = (canvas.theme, &canvas.app.connection);
    let mut parts = Vec::new();
    if connection.is_connected() {
        if let Some(rate) = connection.rate() {
            parts.push((format!("{}/s", fmt::short(rate)), theme.text));
        }
        if let Some(lag) = connection.lag {
            if fmt::is_ahead(lag) {
                parts.push((format!("clock {}", fmt::age(lag)), theme.warn));
            } else {
                let style = if lag > LAG_WARNING { theme.warn } else { theme.dim };
                parts.push((format!("lag {}", lag_text(lag.max(TimeDelta::zero()))), style));
            }
        }
    }
    if connection.skipped > 0 {
        parts.push((format!("skipped {}", fmt::thousands(connection.skipped)), theme.warn));
    }
    parts
}

fn lag_text(lag: TimeDelta) -> String {
    if lag < TimeDelta::minutes(1) {
        format!("{:.1} s", lag.as_seconds_f64())
    } else {
        fmt::age(lag)
    }
}

/// Draws the most useful keys of the pane, as many as fit.
pub(crate) fn footer(canvas: &mut Canvas<'_>, area: Rect) {
    let theme = canvas.theme;
    canvas.buf.set_style(area, theme.bar);
    let is_typing = canvas.app.is_typing();
    let mut x = area.x + MARGIN;
    // The key for help comes first: a narrow terminal shows only some keys, and help lists the others.
    for scope in [Scope::Everywhere, canvas.app.scope()] {
        for (binding, keys) in canvas.app.settings.keymap.bindings_in(scope) {
            let Some(hint) = binding.hint else { continue };
            // While text is being typed, keys that type a character have no action.
            let Some(key) = keys.iter().find(|k| !is_typing || k.typed_char().is_none()) else {
                continue;
            };
            let key = key.to_string();
            let width = columns(&key) + 1 + columns(hint) + 2;
            if x + width > area.right() {
                return;
            }
            x += canvas.text(x, area.y, width, &key, theme.accent) + 1;
            x += canvas.text(x, area.y, width, hint, theme.dim) + 2;
        }
    }
}
