//! What must be readable on small screens: the way back, the remedy of an error, the newest heart rate.

use std::time::Duration;

use chrono::TimeDelta;
use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use crate::{
    app::{App, ConnectionEvent, Effect, FormField, Input, NetworkEvent, QueryError, RangeQuery},
    config::Settings,
    fixtures::{self, noon, press},
    theme::ThemeName,
    ui,
};

const REASON: &str = "a token is needed: set HEALTH_TOKEN or use --token-file";

/// The longest reason for which there is a remedy.
const LONG_REASON: &str = "the certificate of health.example cannot be used: it is of version 1 of X.509, which has no names of hosts. \
    Make it again with such a name: openssl x509 -req -extfile FILE, where FILE has a line such as \
    subjectAltName=DNS:localhost";

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
        let mut frozen = fixtures::live(ThemeName::Dark, size);
        press(&mut frozen, &["space"]);
        assert!(frozen.live.frozen.is_some());
        let mut typing = fixtures::live(ThemeName::Dark, size);
        press(&mut typing, &["/"]);
        assert!(typing.live.editing.is_some());
        let mut with_rows = fixtures::live(ThemeName::Dark, size);
        let mut user = fixtures::user(ThemeName::Dark, size);
        let mut range = fixtures::range(ThemeName::Dark, size);
        let mut form = fixtures::live(ThemeName::Dark, size);
        press(&mut form, &["2"]);
        for app in [
            &mut frozen,
            &mut typing,
            &mut with_rows,
            &mut user,
            &mut range,
            &mut form,
            &mut never_connected,
        ] {
            for reason in [LONG_REASON, REASON] {
                disconnect(app, reason);
                let words = words(app);
                assert!(words.contains(reason), "{size:?}, {:?}: {:#?}", app.pane, lines(app));
                assert!(words.contains("retry in 10 s"), "{words}");
            }
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

/// Returns the position of the cursor, and the symbols of its line left of it and right of it.
fn around_cursor(app: &App) -> (Position, String, String) {
    let mut buf = Buffer::empty(Rect::new(0, 0, app.size.0, app.size.1));
    let cursor = ui::draw(app, &mut buf).expect("a cursor");
    assert!(
        cursor.x < app.size.0 && cursor.y < app.size.1,
        "{cursor:?} on {:?}",
        app.size
    );
    let symbols = |from, to| (from..to).map(|x| buf[(x, cursor.y)].symbol()).collect();
    (cursor, symbols(0, cursor.x), symbols(cursor.x, app.size.0))
}

#[test]
fn a_text_that_is_longer_than_its_field_shows_the_part_around_the_cursor() {
    use FormField::{End, Start, Users, Zone};

    // Without a field of the form, the filter is meant.
    let fields = [None, Some(Users), Some(Start), Some(End), Some(Zone)];
    for (size, unicode) in [((60, 12), true), ((60, 12), false), ((80, 24), true), ((200, 60), true)] {
        for (field, text) in fields
            .iter()
            .flat_map(|field| [(field, "0123456789"), (field, "心拍数")])
        {
            let mut app = fixtures::live(ThemeName::Dark, size);
            app.settings.unicode = unicode;
            press(&mut app, &[if field.is_some() { "2" } else { "/" }]);
            app.form.focus = *field;
            app.update(Input::Paste(format!("{}end", text.repeat(40))), noon());
            let (_, left, _) = around_cursor(&app);
            assert!(left.trim_end().ends_with("end"), "{size:?} {field:?}: {left:?}");
            press(&mut app, &["left", "left", "left"]);
            let (_, _, right) = around_cursor(&app);
            assert!(right.starts_with("end"), "{size:?} {field:?}: {right:?}");
            press(&mut app, &["home"]);
            app.update(Input::Paste("begin".to_owned()), noon());
            let (_, left, _) = around_cursor(&app);
            assert!(left.ends_with("begin"), "{size:?} {field:?}: {left:?}");
            // Every position of the cursor is on the screen, and moves to the right or scrolls.
            let mut before = around_cursor(&app).0;
            for _ in 0..100 {
                press(&mut app, &["right"]);
                let (cursor, ..) = around_cursor(&app);
                assert!(cursor.x + 1 >= before.x, "{size:?} {field:?}: {before:?} to {cursor:?}");
                before = cursor;
            }
        }
    }
}

#[test]
fn a_long_filter_leaves_room_for_its_error_and_for_the_number_of_matches() {
    for size in [(60, 12), (80, 24)] {
        let mut app = fixtures::live(ThemeName::Dark, size);
        press(&mut app, &["/"]);
        app.update(Input::Paste("a".repeat(200)), noon());
        assert!(lines(&app)[1].contains("0 of "), "{:#?}", lines(&app));
        app.update(Input::Paste(" bpm>x".to_owned()), noon());
        let error = app.live.filter_error.clone().expect("a wrong filter");
        let start: String = error.chars().take(20).collect();
        assert!(lines(&app)[1].contains(&start), "{start}: {:#?}", lines(&app));
    }
}
