//! Snapshots of every pane in every state: the text, and below it the styles, because colours carry meaning too.

use std::{fmt::Write as _, sync::LazyLock, time::Duration};

use chrono::TimeDelta;
use proptest::prelude::*;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier},
};

use crate::{
    app::{App, ConnectionEvent, Effect, Input, NetworkEvent, QueryError, QueryResponse, ReceivedSamples},
    caps::ColourDepth,
    config::Settings,
    fixtures::{self, noon, press},
    keys::{Action, Key, Keymap, Scope},
    theme::{Theme, ThemeName},
    ui,
};

const SIZES: [(u16, u16); 3] = [(80, 24), (60, 12), (120, 36)];

fn frame(app: &App) -> Buffer {
    let mut buf = Buffer::empty(Rect::new(0, 0, app.size.0, app.size.1));
    ui::draw(app, &mut buf);
    buf
}

/// Returns the text of a frame, then its styles as letters, then a legend of the letters.
fn with_styles(buf: &Buffer) -> String {
    let mut legend: Vec<(Color, Color, Modifier)> = Vec::new();
    let mut text = String::new();
    let mut styles = String::new();
    let mut runs: Vec<char> = Vec::new();
    for y in 0..buf.area.height {
        for x in 0..buf.area.width {
            let cell = buf.cell((x, y)).unwrap();
            text.push_str(cell.symbol());
            let style = (cell.fg, cell.bg, cell.modifier);
            let index = legend.iter().position(|s| *s == style).unwrap_or_else(|| {
                legend.push(style);
                legend.len() - 1
            });
            runs.push(letter(index));
        }
        // A run of cells with one style is a letter and a length.
        for run in runs.chunk_by(|a, b| a == b) {
            write!(styles, "{}{} ", run[0], run.len()).unwrap();
        }
        styles.pop();
        runs.clear();
        let trimmed = text.trim_end_matches(' ').len();
        text.truncate(trimmed);
        text.push('\n');
        styles.push('\n');
    }
    for (index, (fg, bg, modifier)) in legend.iter().enumerate() {
        writeln!(styles, "{} {fg} on {bg} {modifier:?}", letter(index)).unwrap();
    }
    format!("{text}\n{styles}")
}

fn letter(index: usize) -> char {
    char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[index])
}

fn connection_event(app: &mut App, event: ConnectionEvent, after_ms: i64) {
    app.update(
        Input::Network(NetworkEvent::Connection(event)),
        noon() + TimeDelta::milliseconds(after_ms),
    );
}

fn disconnect(app: &mut App) {
    let disconnected = ConnectionEvent::Disconnected {
        attempt: 4,
        reason: "connection refused".to_owned(),
        retry_in: Duration::from_millis(2_600),
    };
    connection_event(app, disconnected, 0);
}

type State = (&'static str, App);

/// Returns a dashboard in each state that a user can meet, with the name of its snapshot.
fn states(theme: ThemeName, size: (u16, u16)) -> Vec<State> {
    let live = || fixtures::live(theme, size);
    let mut states = connection_states(theme, size);
    states.extend(table_states(&live));
    states.extend(user_states(&live));
    states.push(("user", fixtures::user(theme, size)));
    states.extend(form_states(&live));
    states.push(("range", fixtures::range(theme, size)));
    let mut app = fixtures::range(theme, size);
    if app.form.focus.is_some() {
        press(&mut app, &["esc"]);
    }
    press(&mut app, &["pagedown", "pagedown", "pagedown", "pagedown"]);
    states.push(("range_scrolled", app));
    states
}

/// Returns a copy of a dashboard after a change.
fn after(start: &dyn Fn() -> App, change: impl FnOnce(&mut App)) -> App {
    let mut app = start();
    change(&mut app);
    app
}

fn connection_states(theme: ThemeName, size: (u16, u16)) -> Vec<State> {
    let settings = Settings {
        theme,
        ..Settings::default()
    };
    let started = || App::new(settings.clone(), "127.0.0.1:8001", size, noon());
    let live = || fixtures::live(theme, size);
    let connected = ConnectionEvent::Connected {
        resumed: None,
        reason: None,
    };
    let silent = ConnectionEvent::Silent {
        elapsed: Duration::from_secs(7),
    };
    vec![
        ("connecting", started()),
        ("empty", after(&started, |app| connection_event(app, connected, 0))),
        ("never_connected", after(&started, disconnect)),
        ("disconnected", after(&live, disconnect)),
        (
            "silent",
            after(&live, |app| {
                connection_event(app, silent, 0);
                app.update(Input::Tick, noon() + TimeDelta::seconds(2));
            }),
        ),
        (
            "lagged",
            after(&live, |app| {
                connection_event(app, ConnectionEvent::Lagged { missed: 12_345 }, 0);
            }),
        ),
    ]
}

fn table_states(live: &dyn Fn() -> App) -> Vec<State> {
    let pressed = |keys: &[&str]| {
        after(live, |app| {
            press(app, keys);
        })
    };
    let received = ReceivedSamples {
        samples: Vec::new(),
        replaced: 1_234,
    };
    vec![
        ("live", live()),
        (
            "stale",
            after(live, |app| {
                app.update(Input::Tick, noon() + TimeDelta::minutes(7));
            }),
        ),
        (
            "frozen",
            after(live, |app| {
                press(app, &["space"]);
                app.update(Input::Network(NetworkEvent::Samples(received)), noon());
            }),
        ),
        ("filtered_to_nothing", pressed(&["/", "h", "r", ">", "2", "0", "0"])),
        ("filter_error", pressed(&["/", "p", "u", "l", "s", "e", ">", "3"])),
        ("sorted_pinned_masked", pressed(&["s", "*", "p", "n"])),
        ("help", pressed(&["?"])),
        ("toast", pressed(&["M"])),
        ("own_scales", pressed(&["c"])),
        (
            "clock_ahead",
            after(live, |app| {
                let samples = vec![fixtures::sample(104, noon() + TimeDelta::minutes(4), 71.0)];
                let received = ReceivedSamples { samples, replaced: 0 };
                app.update(Input::Network(NetworkEvent::Samples(received)), noon());
                app.update(Input::Tick, noon() + TimeDelta::milliseconds(1_100));
            }),
        ),
    ]
}

fn user_states(live: &dyn Fn() -> App) -> Vec<State> {
    let opened = |app: &mut App| press(app, &["enter"]);
    vec![
        (
            "user_loading",
            after(live, |app| {
                opened(app);
            }),
        ),
        (
            "user_failed",
            after(live, |app| {
                let effects = opened(app);
                fail(app, &effects);
            }),
        ),
    ]
}

fn form_states(live: &dyn Fn() -> App) -> Vec<State> {
    vec![
        (
            "form",
            after(live, |app| {
                press(app, &["2"]);
            }),
        ),
        (
            "form_error",
            after(live, |app| {
                press(app, &["2", "tab"]);
                app.update(Input::Paste("x".to_owned()), noon());
                press(app, &["enter"]);
            }),
        ),
        (
            "query_running",
            after(live, |app| {
                press(app, &["2", "enter"]);
                app.update(Input::Tick, noon() + TimeDelta::seconds(3));
            }),
        ),
        (
            "query_failed",
            after(live, |app| {
                let effects = press(app, &["2", "enter"]);
                fail(app, &effects);
            }),
        ),
    ]
}

/// Answers the last query of `effects` with an error.
fn fail(app: &mut App, effects: &[Effect]) {
    let id = effects
        .iter()
        .rev()
        .find_map(|e| {
            if let Effect::SendQuery { id, .. } = e {
                Some(*id)
            } else {
                None
            }
        })
        .unwrap();
    let error = QueryError::Unreachable {
        server: "127.0.0.1:8000".to_owned(),
        reason: "connection refused".to_owned(),
    };
    app.update(
        Input::Network(NetworkEvent::Response { id, result: Err(error) }),
        noon(),
    );
}

#[test]
fn every_pane_in_every_state() {
    for theme in [ThemeName::Dark, ThemeName::Mono] {
        let mut shown: Vec<(&str, String)> = Vec::new();
        for size in SIZES {
            for (i, (name, app)) in states(theme, size).into_iter().enumerate() {
                let one = format!("{}x{}\n{}\n", size.0, size.1, with_styles(&frame(&app)));
                match shown.get_mut(i) {
                    Some((_, all)) => all.push_str(&one),
                    None => shown.push((name, one)),
                }
            }
        }
        for (name, all) in shown {
            insta::assert_snapshot!(format!("{name}_{}", theme.name()), all);
        }
    }
}

#[test]
fn the_ascii_setting_draws_only_ascii() {
    for (name, mut app) in states(ThemeName::Dark, (120, 36)) {
        app.settings.unicode = false;
        let buf = frame(&app);
        let other = buf.content().iter().find(|c| !c.symbol().is_ascii());
        assert!(other.is_none(), "{name}: {other:?}");
    }
}

#[test]
fn the_mono_theme_has_no_colours_and_shows_the_cursor() {
    for (name, app) in states(ThemeName::Mono, (80, 24)) {
        let buf = frame(&app);
        assert!(
            buf.content()
                .iter()
                .all(|c| c.fg == Color::Reset && c.bg == Color::Reset),
            "{name}"
        );
    }
    let buf = frame(&fixtures::live(ThemeName::Mono, (80, 24)));
    assert!(buf.content().iter().any(|c| c.symbol() == "▌"));
}

#[test]
fn text_is_visible_in_every_theme_and_colour_depth() {
    use clap::ValueEnum;
    for theme in ThemeName::value_variants() {
        for depth in [ColourDepth::Ansi16, ColourDepth::Ansi256, ColourDepth::True] {
            let mut app = fixtures::live(*theme, (80, 24));
            app.theme = Theme::new(*theme, depth);
            let buf = frame(&app);
            let text: Vec<_> = buf.content().iter().filter(|c| c.symbol() != " ").collect();
            assert!(
                text.iter().all(|c| c.fg != c.bg || c.fg == Color::Reset),
                "{theme:?} {depth:?}"
            );
        }
    }
}

static STATES: LazyLock<Vec<(&str, App)>> = LazyLock::new(|| states(ThemeName::Dark, (120, 36)));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any keys in any order at any size.
    #[test]
    fn no_size_and_no_key_panics(
        sizes in prop::collection::vec((0u16..=200, 0u16..=60), 1..4),
        keys in prop::collection::vec(0usize..100, 0..40),
        start in 0usize..30,
    ) {
        let all: Vec<Key> = Scope::ALL
            .into_iter()
            .flat_map(|scope| {
                let keymap = Keymap::default();
                let bindings = keymap.bindings_in(scope);
                bindings.flat_map(|(b, keys)| keys.iter().map(move |key| (b.action, *key))).collect::<Vec<_>>()
            })
            .filter(|(action, _)| *action != Action::Suspend)
            .map(|(_, key)| key)
            .collect();
        let mut app = STATES[start % STATES.len()].1.clone();
        for (i, (w, h)) in sizes.iter().enumerate() {
            app.update(Input::Resize(*w, *h), noon());
            for key in keys.iter().skip(i).step_by(sizes.len()) {
                app.update(Input::Key(all[key % all.len()]), noon());
                frame(&app);
            }
            app.update(Input::Tick, noon() + TimeDelta::seconds(5));
            frame(&app);
        }
    }

    /// Any clicks and turns of the wheel.
    #[test]
    fn no_click_panics(start in 0usize..30, clicks in prop::collection::vec((0u16..130, 0u16..40, 0u8..3), 1..30)) {
        use crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
        let mut app = STATES[start % STATES.len()].1.clone();
        for (column, row, kind) in clicks {
            let kind = match kind {
                0 => MouseEventKind::Down(MouseButton::Left),
                1 => MouseEventKind::ScrollUp,
                _ => MouseEventKind::ScrollDown,
            };
            app.update(Input::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }), noon());
            frame(&app);
        }
    }
}

/// Each size is drawn in one state. A step of 7 through the states, which is prime, combines all states with all
/// shapes.
#[test]
fn every_size_up_to_200x60_is_drawn() {
    let mut states: Vec<App> = STATES.iter().map(|(_, app)| app.clone()).collect();
    let count = states.len();
    let mut drawn = 0;
    for (i, (w, h)) in (0..=200).flat_map(|w| (0..=60).map(move |h| (w, h))).enumerate() {
        let app = &mut states[i * 7 % count];
        app.update(Input::Resize(w, h), noon());
        drawn += usize::from(frame(app).content().iter().any(|c| c.symbol() != " "));
    }
    assert_eq!(drawn, 200 * 60, "each frame with at least one cell shows something");
}

#[test]
fn an_answer_to_an_unknown_query_changes_nothing() {
    let mut app = fixtures::live(ThemeName::Dark, (80, 24));
    let before = with_styles(&frame(&app));
    app.update(
        Input::Network(NetworkEvent::Response {
            id: 999,
            result: Ok(QueryResponse::Range(Vec::new())),
        }),
        noon(),
    );
    assert_eq!(with_styles(&frame(&app)), before);
}
