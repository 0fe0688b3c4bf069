//! The real binary in a real terminal, with a made-up server.

mod support;

use support::{
    server::{FakeServer, Greeting, Manner},
    terminal::Terminal,
    tui,
};

fn dashboard(server: &FakeServer) -> Terminal {
    let (url, feed) = (server.url(), server.feed.to_string());
    let terminal = Terminal::open(tui(&["--server", &url, "--feed", &feed]), 80, 24);
    terminal.wait_for("connected");
    terminal
}

#[test]
fn a_day_with_the_dashboard() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    server.wait_for_command("SUBSCRIBE");
    // Somebody the server knew already, and two who arrive.
    terminal.wait_for("909");
    server.sample("c1", 101, 72);
    server.sample("c2", 202, 158);
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
    // An escape right before a letter is Alt: it has to be seen to be alone.
    terminal.send("\x1b");
    terminal.wait_for("3 users");

    terminal.send("2");
    terminal.wait_for("Which user");
    terminal.send("\r");
    terminal.wait_for("average bpm");
    terminal.wait_for("72, 121, 140");
    server.wait_for_request("/metrics/series?");

    terminal.resize(60, 12);
    terminal.wait_until("the answer alone", |s| {
        s.contents().contains("average bpm") && !s.contents().contains("Buckets")
    });
    terminal.send("\t");
    terminal.wait_until("the form alone", |s| {
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
fn help_lists_the_keys_and_q_closes_it_first() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.send("?");
    terminal.wait_for("Everywhere");
    terminal.send("q");
    terminal.wait_until("help is closed", |s| !s.contents().contains("Everywhere"));
    terminal.send("\x03");
    assert_eq!(terminal.ended().0, 0);
}

/// Nothing else must be needed to wake the loop: no reading, no tick.
#[test]
fn a_key_is_drawn_although_nothing_else_happens() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.wait_for("909");
    for _ in 0..3 {
        let began = std::time::Instant::now();
        terminal.send("?");
        terminal.wait_for("Everywhere");
        terminal.send("q");
        terminal.wait_until("help is closed", |s| !s.contents().contains("Everywhere"));
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(5), "{took:?}");
    }
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn the_server_is_killed_and_comes_back() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    server.sample("c41", 101, 72);
    terminal.wait_for("101");
    let (http, feed) = server.kill();
    terminal.wait_for("retry in");
    // What is known stays on the screen, and typing waits for nothing.
    terminal.send("/10");
    terminal.wait_for("1 of 2");
    terminal.send("\x1b");
    terminal.wait_for("2 users");
    let server = FakeServer::start_on(http, feed);
    terminal.send("\x12");
    terminal.wait_for("connected");
    // Behind the last reading that was seen: none is lost.
    assert_eq!(server.wait_for_command("SUBSCRIBE"), "SUBSCRIBE after=c41");
    server.sample("c42", 303, 64);
    terminal.wait_for("303");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn whatever_answers_on_the_port_of_the_feed_is_told_and_tried_again() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    server.sample("c7", 101, 72);
    terminal.wait_for("101");
    for (greeting, words) in [
        (Greeting::Garbage, "not the feed"),
        (Greeting::Endless, "a line of more than"),
        (Greeting::Closed, "the server closed"),
        // Events that are not known are passed over; what is no event at all is not.
        (Greeting::Nonsense, "not the feed"),
    ] {
        server.greet_with(greeting);
        server.hang_up();
        terminal.wait_for(words);
        // What is known stays on the screen.
        terminal.wait_for("101");
    }
    server.greet_with(Greeting::Hello);
    terminal.send("\x12");
    terminal.wait_for("connected");
    server.sample("c8", 303, 64);
    terminal.wait_for("303");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn whatever_http_answers_is_told_and_a_question_can_be_cancelled() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.wait_for("909");
    terminal.send("2");
    terminal.wait_for("Which user");
    for (manner, words) in [
        (Manner::Broken, "the server answers 500"),
        (Manner::Closed, "cannot reach"),
        (Manner::Garbage, "cannot reach"),
        (Manner::Unreadable, "cannot be read"),
    ] {
        server.answer_in(manner);
        terminal.send("\r");
        terminal.wait_for(words);
    }
    server.answer_in(Manner::Silent);
    terminal.send("\r");
    terminal.wait_for("Asking");
    // Typing waits for nothing.
    terminal.send("\x1b[Z\x15");
    terminal.send("909, 4711");
    terminal.wait_for("909, 4711");
    terminal.send("\x1b");
    terminal.wait_for("Cancelled");
    server.answer_in(Manner::Well);
    terminal.send("\r");
    terminal.wait_for("average bpm");
    terminal.send("\x03");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn a_row_has_a_past_from_the_start() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    // Eight readings, of which only the last was told by /users.
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
fn it_can_be_suspended_from_outside() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.signal("-TSTP");
    terminal.wait_until("the ordinary screen", |s| !s.alternate_screen() && !s.hide_cursor());
    terminal.wait_until_stopped();
    terminal.signal("-CONT");
    terminal.wait_until("the dashboard again", |s| {
        s.alternate_screen() && s.contents().contains("connected")
    });
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn it_can_be_suspended_and_comes_back() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    terminal.send("\x1a");
    terminal.wait_until("the ordinary screen", |s| !s.alternate_screen() && !s.hide_cursor());
    terminal.wait_until_stopped();
    terminal.signal("-CONT");
    terminal.wait_until("the dashboard again", |s| {
        s.alternate_screen() && s.contents().contains("connected")
    });
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn signals_end_it_in_order() {
    for signal in ["-TERM", "-HUP", "-INT"] {
        let server = FakeServer::start();
        let terminal = dashboard(&server);
        terminal.signal(signal);
        assert_eq!(terminal.ended().0, 0, "{signal}");
    }
}

#[test]
fn the_last_frame_can_be_left_behind() {
    let server = FakeServer::start();
    let mut terminal = dashboard(&server);
    server.sample("c1", 4711, 72);
    terminal.wait_for("4711");
    terminal.send("Q");
    let (status, text) = terminal.ended();
    assert_eq!(status, 0);
    assert!(text.contains("4711") && text.contains("filter"), "{text}");
}

#[test]
fn without_a_server_it_says_so_and_goes_on() {
    let server = FakeServer::start();
    let (http, feed) = (server.url(), server.feed.to_string());
    server.kill();
    let mut terminal = Terminal::open(tui(&["--server", &http, "--feed", &feed]), 80, 24);
    terminal.wait_for("connection refused");
    terminal.wait_for("Is health-server running?");
    terminal.send("q");
    assert_eq!(terminal.ended().0, 0);
}

#[test]
fn no_color_is_obeyed_and_the_selection_is_still_seen() {
    let server = FakeServer::start();
    let (url, feed) = (server.url(), server.feed.to_string());
    let mut command = tui(&["--server", &url, "--feed", &feed]);
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::open(command, 80, 24);
    terminal.wait_for("connected");
    server.sample("c1", 101, 72);
    terminal.wait_for("72");
    terminal.wait_until("no colour, but the tab in reverse", |s| {
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

/// Not a test of its own: the process that `a_panic_anywhere…` runs in a terminal.
#[tokio::test]
async fn a_process_that_panics() {
    let Ok(feed) = std::env::var("HEALTH_TUI_TEST_PANIC") else {
        return;
    };
    let feeding = feed.clone();
    tokio::spawn(async move {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
        let mut stream = BufReader::new(tokio::net::TcpStream::connect(feeding).await.unwrap());
        stream.write_all(b"SUBSCRIBE\n").await.unwrap();
        let mut lines = stream.lines();
        while !lines.next_line().await.unwrap().unwrap().contains("sample") {}
        panic!("on purpose");
    });
    let options = health_tui::Options {
        feed,
        ..health_tui::Options::default()
    };
    let ended = health_tui::run(options).await;
    assert!(matches!(ended, Err(health_tui::Error::Panicked)), "{ended:?}");
}

#[test]
fn a_panic_anywhere_gives_the_terminal_back_and_can_be_read() {
    let server = FakeServer::start();
    let mut command = portable_pty::CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_that_panics", "--nocapture"]);
    command.env("HEALTH_TUI_TEST_PANIC", server.feed.to_string());
    command.env("RUST_BACKTRACE", "0");
    command.env("TERM", "xterm-256color");
    let terminal = Terminal::open(command, 80, 24);
    terminal.wait_for("connected");
    server.wait_for_commands(2);
    server.sample("c1", 101, 72);
    let (status, text) = terminal.ended();
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("on purpose"), "{text}");
    assert_eq!(text.matches("on purpose").count(), 1, "told once: {text}");
}
