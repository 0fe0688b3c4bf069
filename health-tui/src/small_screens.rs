//! What must be readable on small screens: the way back, the remedy of an error, the newest heart rate.

use std::time::Duration;

use chrono::TimeDelta;
use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    app::{App, ConnectionEvent, Effect, Input, NetworkEvent, QueryError, RangeQuery},
    config::Settings,
    fixtures::{self, noon, press},
    theme::ThemeName,
    ui,
};

const REASON: &str = "a token is needed: set HEALTH_TOKEN or use --token-file";

/// Returns the lines of the screen without trailing spaces.
fn lines(app: &App) -> Vec<String> {
    let mut buf = Buffer::empty(Rect::new(0, 0, app.size.0, app.size.1));
    ui::draw(app, &mut buf);
    let line = |y| -> String { (0..app.size.0).map(|x| buf[(x, y)].symbol()).collect() };
    (0..app.size.1).map(|y| line(y).trim_end().to_owned()).collect()
}

/// Returns the text of the screen with single spaces, as if its lines were not wrapped.
fn words(app: &App) -> String {
    let lines = lines(app).join(" ");
    lines.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn disconnect(app: &mut App, reason: &str) {
    let event = ConnectionEvent::Disconnected {
        attempt: 4,
        reason: reason.to_owned(),
        retry_in: Duration::from_secs(10),
    };
    app.update(Input::Network(NetworkEvent::Connection(event)), noon());
}

#[test]
fn the_remedy_of_a_lost_connection_is_not_cut() {
    for size in [(60, 12), (60, 18), (80, 24), (200, 60)] {
        let mut never_connected = App::new(Settings::default(), "127.0.0.1:8001", size, noon());
        let mut with_rows = fixtures::live(ThemeName::Dark, size);
        for app in [&mut never_connected, &mut with_rows] {
            disconnect(app, REASON);
            assert!(words(app).contains(REASON), "{size:?}: {:#?}", lines(app));
        }
        let text = words(&never_connected);
        assert!(text.contains("ctrl-r tries again now.") && !text.contains("Is health-server running"));
        disconnect(&mut never_connected, "connection refused");
        let text = words(&never_connected);
        assert!(
            text.contains("Is health-server running, and does --feed name its feed?"),
            "{text}"
        );
    }
}

#[test]
fn the_error_of_a_query_about_a_user_is_not_cut() {
    for size in [(60, 12), (60, 18), (80, 24), (100, 50)] {
        let mut app = fixtures::live(ThemeName::Dark, size);
        let effects = press(&mut app, &["enter"]);
        let id = effects.iter().rev().find_map(|effect| match effect {
            Effect::SendQuery { id, .. } => Some(*id),
            _ => None,
        });
        let error = QueryError::Unreachable {
            server: "127.0.0.1:8000".to_owned(),
            reason: "connection refused".to_owned(),
        };
        let response = NetworkEvent::Response {
            id: id.unwrap(),
            result: Err(error.clone()),
        };
        app.update(Input::Network(response), noon());
        if size.1 > 12 {
            let text = words(&app);
            assert!(text.contains(&error.to_string()), "{size:?}: {:#?}", lines(&app));
            assert!(text.contains("(ctrl-r asks again)"), "{size:?}: {:#?}", lines(&app));
        } else {
            assert!(
                words(&app).contains("Cannot reach 127.0.0.1:8000"),
                "{:#?}",
                lines(&app)
            );
        }
    }
}

#[test]
fn the_footer_shows_the_way_back_on_a_narrow_screen() {
    for (app, back) in [
        (fixtures::user(ThemeName::Dark, (60, 18)), "esc table"),
        (fixtures::range(ThemeName::Dark, (60, 18)), "esc cancel"),
        (fixtures::range(ThemeName::Dark, (80, 24)), "esc cancel"),
    ] {
        let footer = lines(&app).pop().unwrap();
        assert!(footer.contains("help") && footer.contains(back), "{footer}");
        if back == "esc cancel" {
            assert!(footer.contains("enter ask"), "{footer}");
        }
    }
}

#[test]
fn the_help_begins_with_the_keys_of_the_pane_and_covers_what_is_below() {
    let live = fixtures::live(ThemeName::Dark, (100, 30));
    let user = fixtures::user(ThemeName::Dark, (100, 30));
    let range = fixtures::range(ThemeName::Dark, (100, 30));
    for (mut app, title) in [(live, "Live table"), (user, "One user"), (range, "Range stats")] {
        press(&mut app, &["f1"]);
        let lines = lines(&app);
        assert!(lines[1].trim_start().starts_with('╭'), "{lines:#?}");
        assert!(lines[2].contains(title), "{lines:#?}");
        assert_eq!(lines[29], "", "the footer has no keys that the help does not obey");
    }
}

#[test]
fn the_view_of_a_user_shows_the_newest_heart_rate_without_the_panel_at_the_right() {
    for size in [(60, 12), (80, 24), (100, 30)] {
        let mut app = fixtures::user(ThemeName::Dark, size);
        press(&mut app, &["end"]);
        let id = app.user.as_ref().unwrap().id;
        let bpm = app.users.get(id).unwrap().heart_rate.unwrap();
        let title = |app: &App| lines(app)[2].clone();
        assert!(
            title(&app).contains(&format!("{bpm:.0} bpm")),
            "{size:?}: {}",
            title(&app)
        );
        // Hours later the number stays, with its age and the symbol of a silent user.
        let later = app.now + TimeDelta::hours(5);
        app.update(Input::Tick, later);
        let expected = format!("○ {bpm:.0} bpm 5h ago");
        assert!(title(&app).contains(&expected), "{size:?}: {}", title(&app));
    }
}

#[test]
fn a_long_name_leaves_room_for_the_window() {
    for (size, window) in [
        ((60, 18), "15m  live  2026-03-02"),
        ((80, 24), "15m  live  2026-03-02 12:09:16"),
        ((120, 36), "15m  live  2026-03-02 12:09:16 – 12:24:16 Europe/Berlin"),
    ] {
        let mut app = fixtures::live(ThemeName::Dark, size);
        press(&mut app, &["enter"]);
        let id = app.user.as_ref().unwrap().id;
        let name = "Wolfeschlegelsteinhausenbergerdorff the Elder of Hamburg-Altona, Station 4 West";
        app.settings.names.insert(id, name.to_owned());
        let line = lines(&app)[1].clone();
        assert!(line.contains("Wolfeschlegels") && line.contains(window), "{line}");
    }
}

#[test]
fn users_without_room_in_the_table_are_named_at_the_chart() {
    let mut app = fixtures::range(ThemeName::Dark, (80, 40));
    let RangeQuery::Done { users, .. } = &mut app.form.query else {
        panic!("the fixture has an answer");
    };
    // Six users, of whom the table of this width has room for three.
    users.extend(users.clone());
    let last = users[5].stats.user_id.get();
    let lines = lines(&app);
    let title = lines.iter().find(|line| line.contains("heart rate, bpm, by")).unwrap();
    let label: String = app.label(last).chars().take(4).collect();
    assert!(title.contains(&label), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("3 of 6 users")), "{lines:#?}");
}

#[test]
fn an_answer_without_room_for_the_chart_names_the_key_that_scrolls_to_it() {
    let mut app = fixtures::range(ThemeName::Dark, (60, 12));
    assert!(
        words(&app).contains("pagedown scrolls to the chart"),
        "{:#?}",
        lines(&app)
    );
    press(&mut app, &["pagedown", "pagedown", "pagedown", "pagedown"]);
    let text = words(&app);
    assert!(
        text.contains("heart rate, bpm, by") && !text.contains("scrolls"),
        "{:#?}",
        lines(&app)
    );
}
