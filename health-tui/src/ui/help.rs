//! All keys, from the one list.

use crate::{
    keys::{Action, Scope},
    layout,
    ui::paint::{Paint, columns},
};

pub(crate) fn draw(p: &mut Paint<'_>) {
    let area = layout::help(p.app.size);
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
    let key = |action| p.key(Scope::Live, action);
    let hint = if more {
        format!(
            " more below: {}, {}; {} closes ",
            key(Action::Down),
            key(Action::PageDown),
            key(Action::Back)
        )
    } else {
        format!(" {} closes ", key(Action::Back))
    };
    p.text_right(
        area.right().saturating_sub(2),
        area.bottom().saturating_sub(1),
        area.width.saturating_sub(4),
        &hint,
        t.dim,
    );
}
