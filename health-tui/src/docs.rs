//! The generated parts of the documentation: the pictures, and the tables of options and keys in `docs/dashboard.md`.
//!
//! These tests fail if a file is out of date. `UPDATE_DOCS=1 cargo test -p health-tui --lib docs` writes the files.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use clap::{Arg, CommandFactory};
use ratatui::{buffer::Buffer, layout::Rect, style::Color};

use crate::{
    app::App,
    fixtures,
    keys::{Keymap, Scope},
    options::Cli,
    svg,
    theme::ThemeName,
    ui,
};

const PICTURE_SIZE: (u16, u16) = (120, 36);

#[test]
fn the_pictures_show_the_present_dashboard() {
    for theme in [ThemeName::Dark, ThemeName::Light] {
        for (name, app) in [
            ("live", fixtures::live(theme, PICTURE_SIZE)),
            ("user", fixtures::user(theme, PICTURE_SIZE)),
            ("range", fixtures::range(theme, PICTURE_SIZE)),
        ] {
            let path = docs().join("pictures").join(format!("{name}-{}.svg", theme.name()));
            check_or_update(&path, &picture(&app));
        }
    }
}

#[test]
fn the_tables_show_the_present_options_and_keys() {
    let path = docs().join("dashboard.md");
    let mut page = fs::read_to_string(&path).unwrap();
    for (section, table) in [("options", options()), ("keys", keys(&Keymap::default()))] {
        let (begin, end) = (
            format!("<!-- generated: {section} -->\n"),
            format!("<!-- end: {section} -->"),
        );
        let (before, rest) = page.split_once(&begin).expect("the page has the section");
        let (_, after) = rest.split_once(&end).expect("the section has an end");
        page = format!("{before}{begin}\n{table}\n{end}{after}");
    }
    check_or_update(&path, &page);
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Compares a file with its generated content, or writes it if `UPDATE_DOCS` is set.
fn check_or_update(path: &Path, content: &str) {
    if env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(path, content).unwrap();
    }
    assert!(
        fs::read_to_string(path).is_ok_and(|file| file == content),
        "{} is out of date: run UPDATE_DOCS=1 cargo test -p health-tui --lib docs",
        path.display()
    );
}

fn picture(app: &App) -> String {
    let mut buf = Buffer::empty(Rect::new(0, 0, app.size.0, app.size.1));
    ui::draw(app, &mut buf);
    let style = app.theme.background;
    svg::picture(&buf, style.fg.unwrap_or(Color::Reset), style.bg.unwrap_or(Color::Reset))
}

/// Returns a table of the keys for each scope.
fn keys(keymap: &Keymap) -> String {
    let tables = Scope::ALL.map(|scope| {
        let rows = keymap.bindings_in(scope).map(|(binding, keys)| {
            let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            format!("| {} | {} |\n", keys.join(" "), binding.help)
        });
        format!("| {} | |\n|---|---|\n{}", scope.title(), rows.collect::<String>())
    });
    tables.join("\n")
}

/// Returns a table of the options without a subcommand.
fn options() -> String {
    let command = Cli::command();
    let rows = command
        .get_arguments()
        .filter(|arg| arg.get_long().is_some())
        .map(option);
    format!("| option | meaning |\n|---|---|\n{}", rows.collect::<String>())
}

fn option(arg: &Arg) -> String {
    let value = match arg.get_value_names() {
        Some(names) if arg.get_action().takes_values() => format!(" {}", names.join(" ")),
        _ => String::new(),
    };
    // Writing to a String cannot fail.
    let mut meaning = arg.get_help().expect("each option has a help").to_string();
    for default in arg.get_default_values() {
        _ = write!(meaning, " [default: {}]", default.display());
    }
    if let Some(variable) = arg.get_env() {
        _ = write!(meaning, " [env: {}]", variable.display());
    }
    let long = arg.get_long().expect("only options are listed");
    format!("| `--{long}{value}` | {meaning} |\n")
}
