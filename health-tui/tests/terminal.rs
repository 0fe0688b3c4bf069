//! The binary in a pseudo-terminal, connected to a fake server.

mod support;

use support::{
    ENVIRONMENT,
    server::{FakeServer, Greeting, HttpBehaviour},
    stopped_terminal::StoppedTerminal,
    terminal::Terminal,
    tui,
};
use test_support::Signal;

fn dashboard(server: &FakeServer) -> Terminal {
    let (url, feed) = (server.url(), server.feed.to_string());
    let terminal = Terminal::open(tui(&["--server", &url, "--feed", &feed]), 80, 24);
    terminal.wait_for("connected");
    terminal
}

#[test]
fn filter_user_view_statistics_and_resizing_work_together() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    server.wait_for_command("SUBSCRIBE");
    // User 909 is known from the start; 101 and 202 arrive over the feed.
    terminal.wait_for("909");
    server.send_sample("c1", 101, 72);
    server.send_sample("c2", 202, 158);
    terminal.wait_for("158");
    terminal.wait_for("1 alert");

    terminal.send("/hr>100\r");
    terminal.wait_until("one row is left", |s| {
        s.contents().contains("(1)") && !s.contents().contains("909")
    });
    terminal.send("\x1b");
    terminal.wait_for("909");

    terminal.send("\r");
    terminal.wait_for("heart rate, bpm");
    server.wait_for_request("/samples?user_id=");
    terminal.wait_for("This window");
    // In one read, as over a slow connection.
    terminal.send("\x1b2");
    terminal.wait_for("Which user");
    terminal.send("\r");
    terminal.wait_for("average bpm");
    terminal.wait_for("72, 121, 140");
    server.wait_for_request("/metrics/series?");

    terminal.resize(60, 12);
    terminal.wait_until("only the answer", |s| {
        s.contents().contains("average bpm") && !s.contents().contains("Buckets")
    });
    terminal.send("\t");
    terminal.wait_until("only the form", |s| {
        !s.contents().contains("average bpm") && s.contents().contains("Buckets")
    });
    terminal.send("\x1b");
    terminal.wait_until("the answer again", |s| s.contents().contains("average bpm"));
    terminal.resize(40, 8);
    terminal.wait_for("needs 60x12");
    terminal.resize(100, 30);
    terminal.wait_for("average bpm");
    terminal.send("1");
    terminal.wait_for("details");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn help_lists_the_keys_and_q_closes_only_help() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.send("?");
    terminal.wait_for("Go to the first row");
    terminal.send("q");
    terminal.wait_until("help is closed", |s| !s.contents().contains("Go to the first row"));
    terminal.send("\x03");
    assert_eq!(terminal.ended().0, 0);
}

/// A key press must wake the loop without a sample or a tick.
#[test]
fn a_key_press_is_drawn_if_nothing_else_happens() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.wait_for("909");
    // The heartbeats of the server do not reach the loop, and the age of the old sample changes once a day.
    for _ in 0..3 {
        terminal.send("?");
        terminal.wait_for("Go to the first row");
        terminal.send("q");
        terminal.wait_until("help is closed", |s| !s.contents().contains("Go to the first row"));
    }
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn the_feed_resumes_after_the_server_was_killed() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    server.send_sample("c41", 101, 72);
    terminal.wait_for("101");
    let ports = server.kill();
    terminal.wait_for("retry in");
    // Without a connection, the users stay on the screen and typing works.
    terminal.send("/10");
    terminal.wait_for("1 of 2");
    terminal.send("\x1b");
    terminal.wait_for("2 users");
    let server = FakeServer::start_on(ports);
    terminal.send("\x12");
    terminal.wait_for("connected");
    // The feed resumes after the last sample, so none is lost.
    assert_eq!(server.wait_for_command("SUBSCRIBE"), "SUBSCRIBE after=c41");
    server.send_sample("c42", 303, 64);
    terminal.wait_for("303");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn a_wrong_answer_on_the_feed_port_is_shown_and_retried() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    server.send_sample("c7", 101, 72);
    terminal.wait_for("101");
    for (greeting, words) in [
        (Greeting::Garbage, "not the feed"),
        (Greeting::Endless, "a line of more than"),
        (Greeting::Closed, "the server closed"),
        // Unknown events are ignored; a line that is not an event is an error.
        (Greeting::Nonsense, "not the feed"),
    ] {
        server.set_greeting(greeting);
        server.close_feeds();
        terminal.wait_for(words);
        // The users stay on the screen.
        terminal.wait_for("101");
    }
    server.set_greeting(Greeting::Hello);
    terminal.send("\x12");
    // Only now: the last wrong server said `subscribed`, too.
    server.wait_for_feeds(1);
    terminal.wait_for("connected");
    server.send_sample("c8", 303, 64);
    terminal.wait_for("303");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn http_errors_are_shown_and_a_query_can_be_cancelled() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.wait_for("909");
    terminal.send("2");
    terminal.wait_for("Which user");
    for (manner, words) in [
        (HttpBehaviour::Broken, "status 500"),
        (HttpBehaviour::Closed, "Cannot reach"),
        (HttpBehaviour::Garbage, "Cannot reach"),
        (HttpBehaviour::Unreadable, "Cannot read"),
    ] {
        server.set_http_behaviour(manner);
        terminal.send("\r");
        terminal.wait_for(words);
    }
    server.set_http_behaviour(HttpBehaviour::Silent);
    terminal.send("\r");
    terminal.wait_for("Asking");
    // Typing works while the query runs.
    terminal.send("\x1b[Z\x15");
    terminal.send("909, 4711");
    terminal.wait_for("909, 4711");
    terminal.send("\x1b");
    terminal.wait_for("Cancelled");
    server.set_http_behaviour(HttpBehaviour::Normal);
    terminal.send("\r");
    terminal.wait_for("average bpm");
    terminal.send("\x03");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn a_row_has_a_sparkline_from_the_start() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    // The server has eight samples of user 909, and /users returns only the latest.
    server.wait_for_request("/samples?user_id=909");
    terminal.wait_until("a sparkline", |s| {
        let row = s
            .contents()
            .lines()
            .find(|l| l.contains("909"))
            .unwrap_or("")
            .to_owned();
        row.chars().filter(|c| ('\u{2581}'..='\u{2588}').contains(c)).count() >= 8
    });
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn the_tstp_signal_suspends_and_cont_resumes() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.signal(Signal::TSTP);
    terminal.wait_until("the ordinary screen", |s| !s.alternate_screen() && !s.hide_cursor());
    terminal.wait_until_stopped();
    terminal.signal(Signal::CONT);
    terminal.wait_until("the dashboard again", |s| {
        s.alternate_screen() && s.contents().contains("connected")
    });
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn ctrl_z_suspends_and_cont_resumes() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.send("\x1a");
    terminal.wait_until("the ordinary screen", |s| !s.alternate_screen() && !s.hide_cursor());
    terminal.wait_until_stopped();
    terminal.signal(Signal::CONT);
    terminal.wait_until("the dashboard again", |s| {
        s.alternate_screen() && s.contents().contains("connected")
    });
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn term_hup_and_int_end_the_dashboard_with_status_0() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let server = FakeServer::start();
        let terminal = dashboard(&server);
        terminal.signal(signal);
        assert_eq!(terminal.ended().0, 0, "{signal:?}");
    }
}

/// The user has stopped the terminal, or its program hangs. A write to it does not return.
#[tokio::test]
async fn a_terminal_that_does_not_read_delays_neither_signals_nor_keys_and_is_restored() {
    for signal in [Some(Signal::TERM), Some(Signal::HUP), None] {
        let server = FakeServer::start();
        let (url, feed) = (server.url(), server.feed.to_string());
        let mut terminal = StoppedTerminal::open(&["--server", &url, "--feed", &feed]);
        server.wait_for_command("SUBSCRIBE");
        terminal.fill();
        assert!(!terminal.is_in_line_mode());
        match signal {
            Some(signal) => terminal.process.signal(signal),
            None => terminal.write("q"),
        }
        assert!(terminal.process.wait().await.success(), "{signal:?}");
        assert!(terminal.is_in_line_mode());
        // When the terminal reads again, it leaves the alternate screen and shows the cursor.
        let left = terminal.left_until("\x1b[?25h");
        assert!(left.contains("\x1b[?1049l"), "{left:?}");
    }
}

#[test]
fn a_dumb_terminal_gets_a_hint_and_no_escape_sequences() {
    let mut command = tui(&[]);
    command.env("TERM", "dumb");
    let (status, text) = Terminal::open(command, 120, 24).ended_with_text();
    assert_eq!(status, 1);
    assert!(
        text.contains("TERM is `dumb`. Use --plain for one line per sample"),
        "{text}"
    );
}

#[test]
fn shift_q_leaves_the_last_frame_on_the_screen() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    server.send_sample("c1", 4711, 72);
    terminal.wait_for("4711");
    terminal.send("Q");
    let (status, text) = terminal.ended();
    assert_eq!(status, 0);
    assert!(text.contains("4711") && text.contains("filter"), "{text}");
}

#[test]
fn without_a_server_the_dashboard_shows_the_reason() {
    let server = FakeServer::start();
    let (http, feed) = (server.url(), server.feed.to_string());
    let _ports = server.kill();
    let mut terminal = Terminal::open(tui(&["--server", &http, "--feed", &feed]), 80, 24);
    terminal.wait_for("connection refused");
    terminal.wait_for("Is health-server running, and does --feed name its feed?");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn no_color_removes_all_colours_and_the_selection_stays_visible() {
    let server = FakeServer::start();
    let (url, feed) = (server.url(), server.feed.to_string());
    let mut command = tui(&["--server", &url, "--feed", &feed]);
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::open(command, 80, 24);
    terminal.wait_for("connected");
    server.send_sample("c1", 101, 72);
    terminal.wait_for("72");
    terminal.wait_until("no colours, and a reversed tab", |s| {
        let cells = (0..24)
            .flat_map(|y| (0..80).map(move |x| (y, x)))
            .filter_map(|(y, x)| s.cell(y, x));
        let plain = cells
            .clone()
            .all(|c| c.fgcolor() == vt100::Color::Default && c.bgcolor() == vt100::Color::Default);
        plain && cells.clone().any(vt100::Cell::inverse) && s.contents().contains('▌')
    });
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

/// The process that `a_panic_restores_the_terminal_and_its_message_is_readable` runs in a terminal. On its own it does
/// nothing.
#[tokio::test]
async fn process_that_panics() {
    let Ok(feed) = std::env::var("HEALTH_TUI_TEST_PANIC") else {
        return;
    };
    let address = feed.clone();
    tokio::spawn(async move {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
        let mut stream = BufReader::new(tokio::net::TcpStream::connect(address).await.unwrap());
        stream.write_all(b"SUBSCRIBE\n").await.unwrap();
        let mut lines = stream.lines();
        while !lines.next_line().await.unwrap().unwrap().contains("sample") {}
        panic!("on purpose");
    });
    let options = health_tui::Options {
        feed: Some(feed.parse().unwrap()),
        ..health_tui::Options::default()
    };
    let ended = health_tui::run(options).await;
    assert!(matches!(ended, Err(health_tui::Error::Panicked)), "{ended:?}");
}

#[test]
fn a_panic_restores_the_terminal_and_its_message_is_readable() {
    let server = FakeServer::start();
    let mut command = portable_pty::CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process_that_panics", "--nocapture"]);
    command.env_clear();
    for (name, value) in ENVIRONMENT {
        command.env(name, value);
    }
    command.env("HEALTH_TUI_TEST_PANIC", server.feed.to_string());
    command.env("RUST_BACKTRACE", "0");
    let terminal = Terminal::open(command, 80, 24);
    terminal.wait_for("connected");
    server.wait_for_feeds(2);
    server.send_sample("c1", 101, 72);
    let (status, text) = terminal.ended();
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("on purpose"), "{text}");
    assert_eq!(
        text.matches("on purpose").count(),
        1,
        "the message appears once: {text}"
    );
}
