//! Features that only the real binary has: the mouse, files, the clipboard, settings and colours.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

mod support;

use std::fs;

use support::{server::FakeServer, terminal::Terminal, tui};
use test_support::{TempDir, test_directory};

/// Writes a file and returns its path.
fn write(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Returns the content of the only file with this extension.
fn read_by_extension(directory: &TempDir, extension: &str) -> String {
    let mut files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let path = files.find(|path| path.extension().is_some_and(|e| e == extension));
    fs::read_to_string(path.unwrap()).unwrap()
}

/// Opens a dashboard with three users. The server knows user 909 before the dashboard starts.
fn dashboard(server: &FakeServer, args: &[&str], change: impl FnOnce(&mut portable_pty::CommandBuilder)) -> Terminal {
    let (url, feed) = (server.url(), server.feed.to_string());
    let mut command = tui(&[args, &["--server", &url, "--feed", &feed]].concat());
    change(&mut command);
    let terminal = Terminal::open(command, 100, 30);
    terminal.wait_for("connected");
    server.wait_for_command("SUBSCRIBE");
    server.send_sample("c1", 101, 72);
    server.send_sample("c2", 202, 158);
    terminal.wait_for("3 users");
    terminal.wait_for("158");
    terminal
}

/// Returns the text of a line of the screen.
fn line(screen: &vt100::Screen, row: u16) -> String {
    screen.rows(0, 100).nth(row.into()).unwrap()
}

/// Returns the line with the cursor of the table.
fn cursor_line(screen: &vt100::Screen) -> String {
    screen.rows(0, 100).find(|l| l.starts_with('▌')).unwrap_or_default()
}

#[test]
fn the_mouse_selects_sorts_opens_and_can_be_switched_off() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server, &[], |_| {});
    assert_ne!(
        terminal.look(vt100::Screen::mouse_protocol_mode),
        vt100::MouseProtocolMode::None
    );
    // Sorted by heart rate: the first click puts the highest first, the second click the lowest.
    let head = terminal.look(|s| line(s, 2));
    let bpm = u16::try_from(head.chars().position(|c| c == 'b').unwrap()).unwrap();
    terminal.click(bpm, 2);
    terminal.wait_until("202 first", |s| line(s, 3).contains("202"));
    terminal.click(bpm, 2);
    terminal.wait_until("909 first", |s| line(s, 3).contains("909"));
    terminal.click(5, 4);
    terminal.wait_until("the second row", |s| cursor_line(s).contains("101"));
    terminal.click(5, 4);
    terminal.wait_for("heart rate, bpm");
    // A click on each tab opens it.
    terminal.click(25, 0);
    terminal.wait_for("Which user");
    terminal.click(14, 0);
    terminal.wait_for("3 users");
    terminal.send("M");
    terminal.wait_until("no mouse", |s| {
        s.mouse_protocol_mode() == vt100::MouseProtocolMode::None
    });
    terminal.wait_for("The mouse is off");
    terminal.send("M");
    terminal.wait_until("the mouse again", |s| {
        s.mouse_protocol_mode() != vt100::MouseProtocolMode::None
    });
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn the_visible_rows_are_saved_and_copied_and_stay_masked() {
    let directory = test_directory();
    let names = write(
        &directory,
        "names.txt",
        "# who is who\n101 Ada Lovelace\n202\tGrace Hopper\n",
    );
    let server = FakeServer::start();
    let mut terminal = dashboard(&server, &["--names", &names], |c| c.cwd(directory.path()));
    terminal.wait_for("Grace Hopper");
    terminal.send("/grace\r");
    terminal.wait_for("filter grace (1)");
    terminal.send("e");
    // The message appears after the file was written.
    terminal.wait_until("saved", |s| {
        s.contents().contains("Saved as health-live-") && s.contents().contains(".csv")
    });
    let saved = read_by_extension(&directory, "csv");
    let lines: Vec<&str> = saved.lines().collect();
    assert_eq!(lines[0], "user_id,name,newest,heart_rate,steps,calories");
    assert!(lines[1].starts_with("202,Grace Hopper,"), "{saved}");
    assert_eq!(lines.len(), 2, "only the visible rows: {saved}");
    terminal.send("\x1b");
    terminal.wait_until("everyone", |s| !s.contents().contains("filter grace"));
    terminal.send("p");
    terminal.wait_until("no names and no ids", |s| {
        s.contents().contains("masked") && !s.contents().contains("Grace") && !s.contents().contains("909")
    });
    terminal.send("E");
    terminal.wait_until("saved", |s| {
        s.contents().contains("Saved as health-live-") && s.contents().contains(".json")
    });
    let saved = read_by_extension(&directory, "json");
    let rows: serde_json::Value = serde_json::from_str(&saved).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    let who = |row: &serde_json::Value| row["user_id"].as_str().unwrap().starts_with("person ");
    assert!(
        rows.as_array().unwrap().iter().all(who) && !saved.contains("Grace"),
        "{saved}"
    );
    terminal.send("y");
    let copied = terminal.wait_for_copy();
    // "user_id\tname" in base64, as OSC 52 requires.
    assert!(copied.starts_with("dXNlcl9pZAluYW1l"), "{copied}");
    terminal.wait_for("Copied");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn keys_columns_and_theme_come_from_the_settings_file() {
    let directory = test_directory();
    let config = write(
        &directory,
        "tui.toml",
        "theme = \"light\"\ncolumns = [\"user\", \"age\", \"heart-rate\"]\n[keys]\nquit = [\"x\"]\nfreeze = [\"f2\"]\n[alerts]\nhigh = 70.0\n",
    );
    let server = FakeServer::start();
    let mut terminal = dashboard(&server, &["--config", &config], |_| {});
    terminal.wait_for("x quit");
    terminal.wait_for("2 alerts");
    assert!(!terminal.look(|s| line(s, 2)).contains("steps"));
    // The escape sequence that xterm sends for F2.
    terminal.send("\x1bOQ");
    terminal.wait_for("FROZEN");
    server.send_sample("c9", 4711, 66);
    terminal.wait_for("1 new, f2 resumes");
    terminal.send("q");
    terminal.send("\x1bOQ");
    terminal.wait_for("4711");
    terminal.send("x");
    assert_eq!(terminal.ended().0, 0);

    for (text, message) in [
        ("theme = \"dark\"\ncolour = 3\n", "line 2: unknown field `colour`"),
        ("\n\n[keys]\nflee = [\"f\"]\n", "line 4: `flee` is not an action"),
        (
            "[keys]\nquit = [\"/\"]\n",
            "line 2: `quit` and `filter` have the same key `/`",
        ),
        ("names = \"nobody.txt\"\n", "Cannot read"),
    ] {
        let config = write(&directory, "wrong.toml", text);
        let (status, text) = Terminal::open(tui(&["--config", &config]), 200, 24).ended_with_text();
        assert_eq!(status, 1);
        assert!(text.contains(message), "{text}");
    }
}

/// The dashboard uses as many colours as the terminal reports, and no more.
#[test]
fn colours_match_the_terminal() {
    let used = |change: &dyn Fn(&mut portable_pty::CommandBuilder)| {
        let server = FakeServer::start();
        let mut terminal = dashboard(&server, &[], change);
        let (mut indexed, mut rgb) = (0, false);
        terminal.look(|s| {
            let cells = (0..30).flat_map(|y| (0..100).map(move |x| (y, x)));
            for cell in cells.filter_map(|(y, x)| s.cell(y, x)) {
                for colour in [cell.fgcolor(), cell.bgcolor()] {
                    match colour {
                        vt100::Color::Default => {}
                        vt100::Color::Idx(i) => indexed = indexed.max(i),
                        vt100::Color::Rgb(..) => rgb = true,
                    }
                }
            }
        });
        terminal.send("q");
        assert_eq!(terminal.ended().0, 0);
        (indexed, rgb)
    };
    let term = |name: &'static str| move |c: &mut portable_pty::CommandBuilder| c.env("TERM", name);
    let (indexed, rgb) = used(&term("xterm"));
    assert!((1..16).contains(&indexed) && !rgb, "{indexed} {rgb}");
    let (indexed, rgb) = used(&term("screen-256color"));
    assert!(indexed >= 16 && !rgb, "{indexed} {rgb}");
    let (indexed, rgb) = used(&|c| c.env("COLORTERM", "truecolor"));
    assert!(indexed == 0 && rgb, "{indexed} {rgb}");
}

#[test]
fn only_ascii_is_drawn_if_the_user_or_the_terminal_asks_for_it() {
    for (args, variable) in [
        (vec!["--ascii"], None),
        (vec![], Some(("LC_ALL", "de_DE.ISO-8859-1"))),
        (vec![], Some(("TERM", "linux"))),
    ] {
        let server = FakeServer::start();
        let mut terminal = dashboard(&server, &args, |c| {
            if let Some((name, value)) = variable {
                c.env(name, value);
            }
        });
        terminal.send("\r");
        terminal.wait_for("heart rate, bpm");
        let not_ascii = terminal.look(|s| s.contents().chars().find(|c| !c.is_ascii()));
        assert_eq!(not_ascii, None, "{args:?} {variable:?}");
        terminal.send("q");
        assert_eq!(terminal.ended().0, 0);
    }
}
