//! The header, which shows the tabs and the state of the connection, and the footer, which shows keys.

use chrono::TimeDelta;
use ratatui::{layout::Rect, style::Style};

use crate::{
    app::{ConnectionState, Pane},
    fmt,
    keys::{Action, Scope},
    layout::{self, MARGIN, ScreenAreas},
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
    connection(canvas, area);
}

/// Returns the columns of the header that the state of the connection may take.
fn connection_room(header: Rect) -> u16 {
    let [_, stats] = layout::tabs(header);
    header.width.saturating_sub(stats.right() + 2)
}

fn separator(canvas: &Canvas<'_>) -> String {
    format!(" {} ", canvas.symbols.separator)
}

/// Returns the columns of texts with separators between them.
fn width_of(parts: &[(String, Style)], separator: &str) -> u16 {
    let texts: u16 = parts.iter().map(|(text, _)| columns(text)).sum();
    texts + u16::try_from(parts.len().saturating_sub(1)).unwrap_or(0) * columns(separator)
}

/// Returns why there is no connection, if a header of this width would cut the reason.
pub(super) fn reason_without_room<'a>(canvas: &Canvas<'a>, width: u16) -> Option<&'a str> {
    let ConnectionState::WaitingToRetry { reason, .. } = &canvas.app.connection.state else {
        return None;
    };
    let mut parts = connection_state(canvas);
    parts.truncate(2);
    let room = connection_room(Rect::new(0, 0, width, 1));
    (width_of(&parts, &separator(canvas)) > room).then_some(reason)
}

/// Draws why there is no connection above the footer, if no line has room for the reason: it may name the remedy.
pub(crate) fn lost_connection(canvas: &mut Canvas<'_>, screen: &ScreenAreas) {
    let Some(reason) = reason_without_room(canvas, screen.header.width) else {
        return;
    };
    let body = screen.body;
    let width = body.width.saturating_sub(2 * MARGIN);
    let lines = fmt::wrap(reason, usize::from(width)).len();
    let height = u16::try_from(lines).unwrap_or(u16::MAX).min(body.height * 2 / 3);
    let (_, area) = layout::split_bottom(body, height);
    canvas.clear(area);
    canvas.buf.set_style(area, canvas.theme.selected);
    let text = Rect {
        width,
        ..layout::inset_left(area, MARGIN)
    };
    canvas.wrapped(text, reason, canvas.theme.bad);
}

/// Draws the state of the connection, right-aligned. The least important parts are left out if there is no room.
fn connection(canvas: &mut Canvas<'_>, area: Rect) {
    let room = connection_room(area);
    let separator = separator(canvas);
    let mut parts = connection_state(canvas);
    parts.extend(traffic(canvas));
    let width = |parts: &[(String, Style)]| width_of(parts, &separator);
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

/// A key with its hint.
struct KeyHint {
    key: String,
    hint: &'static str,
    leads_back: bool,
}

impl KeyHint {
    /// Returns the columns of the key, the hint and the gap after them.
    fn width(&self) -> u16 {
        columns(&self.key) + 1 + columns(self.hint) + 2
    }
}

/// Draws the most useful keys of the pane, as many as fit. The help names its own keys.
pub(crate) fn footer(canvas: &mut Canvas<'_>, area: Rect) {
    let theme = canvas.theme;
    canvas.buf.set_style(area, theme.bar);
    if canvas.app.help.is_some() {
        return;
    }
    let mut x = area.x + MARGIN;
    for hint in key_hints(canvas, area.width.saturating_sub(MARGIN)) {
        let width = hint.width();
        if x + width > area.right() {
            return;
        }
        x += canvas.text(x, area.y, width, &hint.key, theme.accent) + 1;
        x += canvas.text(x, area.y, width, hint.hint, theme.dim) + 2;
    }
}

/// Returns the keys of the footer, the most important ones first. If not all fit, the key that leads back comes early:
/// without it, a narrow terminal would not show the way out.
fn key_hints(canvas: &Canvas<'_>, room: u16) -> Vec<KeyHint> {
    // The key for help comes first: a narrow terminal shows only some keys, and help lists the others.
    let mut hints = hints_of(canvas, Scope::Everywhere);
    let everywhere = hints.len();
    hints.extend(hints_of(canvas, canvas.app.scope()));
    let width: u16 = hints.iter().map(KeyHint::width).sum();
    if width > room
        && let Some(back) = hints.iter().position(|hint| hint.leads_back)
    {
        hints[everywhere..=back].rotate_right(1);
    }
    hints
}

fn hints_of(canvas: &Canvas<'_>, scope: Scope) -> Vec<KeyHint> {
    let is_typing = canvas.app.is_typing();
    let bindings = canvas.app.settings.keymap.bindings_in(scope);
    let hints = bindings.filter_map(|(binding, keys)| {
        // While text is being typed, keys that type a character have no action.
        let key = keys.iter().find(|k| !is_typing || k.typed_char().is_none())?;
        Some(KeyHint {
            key: key.to_string(),
            hint: binding.hint?,
            leads_back: binding.action == Action::Back,
        })
    });
    hints.collect()
}
