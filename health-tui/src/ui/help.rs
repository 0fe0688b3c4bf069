//! All keys, from the one list.

use ratatui::layout::Rect;

use crate::{
    app::App,
    keys::Scope,
    ui::paint::{Paint, columns},
};

/// The lines help has, for the limit of its scrolling.
pub(crate) fn help_lines(app: &App) -> u16 {
    let lines: usize = Scope::ALL.iter().map(|s| app.settings.keymap.of(*s).count() + 2).sum();
    let page = usize::from(app.size.1.saturating_sub(4));
    u16::try_from(lines.saturating_sub(page)).unwrap_or(u16::MAX)
}

pub(crate) fn draw(p: &mut Paint<'_>, screen: Rect) {
    let width = screen.width.saturating_sub(4).min(84);
    let height = screen.height.saturating_sub(2);
    let area = Rect::new((screen.width - width) / 2, (screen.height - height) / 2, width, height);
    let inside = p.panel(area, "Keys");
    let t = p.theme;
    let scroll = usize::from(p.app.help.unwrap_or(0));
    let mut lines: Vec<(String, &str, bool)> = Vec::new();
    for scope in Scope::ALL {
        if !lines.is_empty() {
            lines.push((String::new(), "", false));
        }
        lines.push((scope.title().to_owned(), "", true));
        for (binding, keys) in p.app.settings.keymap.of(scope) {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            lines.push((keys.join(" "), binding.help, false));
        }
    }
    let keys_width = lines
        .iter()
        .filter(|l| !l.2)
        .map(|l| columns(&l.0))
        .max()
        .unwrap_or(0)
        .min(inside.width / 2);
    let more = lines.len() > scroll + usize::from(inside.height);
    for (y, (keys, help, title)) in (inside.y..inside.bottom()).zip(lines.iter().skip(scroll)) {
        if *title {
            p.text(inside.x, y, inside.width, keys, t.strong);
        } else {
            p.text(inside.x, y, keys_width, keys, t.accent);
            let x = inside.x + keys_width + 2;
            p.text(x, y, inside.right().saturating_sub(x), help, t.base);
        }
    }
    let hint = if more {
        " more below: down, page down; esc closes "
    } else {
        " esc closes "
    };
    p.text_right(
        area.right().saturating_sub(2),
        area.bottom().saturating_sub(1),
        width.saturating_sub(4),
        hint,
        t.dim,
    );
}
