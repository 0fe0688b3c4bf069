//! The help screen: all keys, from the list of bindings.

use crate::{
    keys::{Action, Scope},
    layout,
    ui::canvas::{Canvas, columns},
};

/// One line of the help screen.
enum HelpLine {
    Blank,
    Title(&'static str),
    Binding { keys: String, help: &'static str },
}

pub(crate) fn draw(canvas: &mut Canvas<'_>) {
    let area = layout::help(canvas.app.size);
    let inside = canvas.panel(area, "Keys");
    let theme = canvas.theme;
    let lines = lines(canvas);
    let keys_width = lines
        .iter()
        .map(|line| match line {
            HelpLine::Binding { keys, .. } => columns(keys),
            HelpLine::Blank | HelpLine::Title(_) => 0,
        })
        .max()
        .unwrap_or(0)
        .min(inside.width / 2);
    let scroll = usize::from(canvas.app.help.unwrap_or(0));
    for (line, y) in lines.iter().skip(scroll).zip(inside.top()..inside.bottom()) {
        match line {
            HelpLine::Blank => {}
            HelpLine::Title(title) => {
                canvas.text(inside.x, y, inside.width, title, theme.strong);
            }
            HelpLine::Binding { keys, help } => {
                canvas.text(inside.x, y, keys_width, keys, theme.accent);
                let x = inside.x + keys_width + 2;
                canvas.text(x, y, inside.right().saturating_sub(x), help, theme.text);
            }
        }
    }
    let has_more = lines.len() > scroll + usize::from(inside.height);
    let key = |action| canvas.key(Scope::Live, action);
    let (down, page_down, close) = (key(Action::Down), key(Action::PageDown), key(Action::Back));
    let hint = if has_more {
        format!(" more below: {down}, {page_down}; {close} closes ")
    } else {
        format!(" {close} closes ")
    };
    canvas.text_right(
        area.right().saturating_sub(2),
        area.bottom().saturating_sub(1),
        area.width.saturating_sub(4),
        &hint,
        theme.dim,
    );
}

fn lines(canvas: &Canvas<'_>) -> Vec<HelpLine> {
    let mut lines = Vec::new();
    // The keys of the pane on the screen come first.
    let current = canvas.app.scope();
    let others = Scope::ALL.into_iter().filter(|scope| *scope != current);
    for scope in std::iter::once(current).chain(others) {
        if !lines.is_empty() {
            lines.push(HelpLine::Blank);
        }
        lines.push(HelpLine::Title(scope.title()));
        for (binding, keys) in canvas.app.settings.keymap.bindings_in(scope) {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            lines.push(HelpLine::Binding {
                keys: keys.join(" "),
                help: binding.help,
            });
        }
    }
    lines
}
