//! What a person must see at a glance: a lost connection, who has an alert, and both without our colours and on any
//! screen.

use serde_json::json;

use crate::{
    chromium::Browser,
    server::{Server, sample},
    tab::Tab,
};

/// Lets the browser's clock jump, as if the person had waited.
async fn wait_seconds(tab: &Tab, seconds: u32) {
    tab.eval(&format!(
        "{{ const clock = Date.now; Date.now = () => clock() + {seconds} * 1000; }}"
    ))
    .await;
}

#[tokio::test]
async fn a_lost_connection_says_since_when_what_the_page_does_and_what_helps() {
    let Some(browser) = Browser::start("Europe/Berlin") else {
        return;
    };
    let server = Server::start().await;
    server.store([sample(7, 1, 160.0, 12), sample(8, 1, 72.0, 12)]).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#connection", "Connected").await;
    tab.wait_for_text("#live-summary", "2 users · 1 alert · 0 silent").await;
    let _stopped = server.stop().await;
    tab.wait_for_text("#connection", "Disconnected").await;
    let title = tab.text("#banner-title").await;
    assert!(title.starts_with("Disconnected since "), "{title}");
    // Perhaps midnight has passed since.
    let is_now = "(([h, m, s]) => { const at = new Date(); at.setHours(h, m, s, 0); const gap = Math.abs(Date.now() - at); \
         return Math.min(gap, 86_400_000 - gap) < 300_000; })(\
         document.getElementById('banner-title').textContent.match(/(\\d+):(\\d+):(\\d+)$/).slice(1))";
    assert_eq!(tab.eval(is_now).await, true, "{title}");
    let text = tab.text("#banner").await;
    for part in ["values of that time", "catches up by itself", "Try now"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("If this lasts"), "{text}");
    // After a while, the page tells what else the person can do. What it says of the users is still of the time of the
    // loss: nobody is silent because the page is deaf.
    wait_seconds(&tab, 600).await;
    tab.wait_for_text("#banner-help", "tell the person who runs the server")
        .await;
    tab.wait_for("/1\\d min ago/.test(document.querySelector('#tiles a[href=\"#/user/7\"]').innerText)")
        .await;
    assert_eq!(tab.text("#live-summary").await, "2 users · 1 alert · 0 silent");
    assert!(tab.text("#tiles a[href=\"#/user/7\"]").await.contains("high"));
    assert_eq!(tab.text("#banner-title").await, title);
    tab.click("#tiles a[href=\"#/user/7\"]").await;
    tab.wait_for_text("#user-now", "high").await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn a_page_that_never_connected_does_not_claim_to_be_disconnected() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    // The page is asked to show a feed of its own that has not begun.
    let script = "Promise.all([import('/page/connection.js'), import('/page/feed.js')]).then(([{ ConnectionView }, { Feed }]) => { \
         const feed = new Feed({}); feed.state = { name: 'waiting', detail: 'The server does not answer.', retryAt: Date.now() }; \
         const view = new ConnectionView(); view.watch(feed); view.show(); return document.getElementById('banner').innerText; })";
    let text = tab.eval(script).await;
    let text = text.as_str().unwrap();
    assert!(text.starts_with("Not connected since "), "{text}");
    assert!(
        text.contains("No live values have come since the page was opened"),
        "{text}"
    );
    browser.close().await;
}

#[tokio::test]
async fn who_has_an_alert_stands_above_the_tiles_and_their_number_in_every_view() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server
        .store((1..=60).map(|user| sample(user, 1, 72.0, 1)).chain([
            sample(101, 1, 171.0, 0),
            sample(102, 1, 33.0, 0),
            sample(103, 600, 190.0, 0),
        ]))
        .await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    // The tiles of these users are far below. One who is silent has no alert.
    tab.wait_for_text("#live-summary", "63 users · 2 alerts · 1 silent")
        .await;
    let alarms =
        "[...document.querySelectorAll('#alarms a')].map((link) => link.getAttribute('href') + link.textContent)";
    let expected = json!([
        "#/user/101User 101, high, ▲101171 bpm",
        "#/user/102User 102, low, ▼10233 bpm"
    ]);
    assert_eq!(tab.eval(alarms).await, expected);
    assert_eq!(tab.text("nav [data-view=live]").await.replace(' ', ""), "Live2,2alerts");
    let news = "document.getElementById('alarm-news').textContent";
    assert_eq!(tab.eval(news).await, "2 alerts");
    tab.click("nav [data-view=range]").await;
    server.store([sample(55, 0, 39.0, 1)]).await;
    tab.wait_for("document.getElementById('alarm-count').innerText === '3'")
        .await;
    tab.click("nav [data-view=live]").await;
    tab.wait_for("document.querySelector('#alarms a').getAttribute('href') === '#/user/55'")
        .await;
    // A screen reader hears of it in the words of the row, and not at once after the last news.
    tab.wait_for(&format!("{news} === '3 alerts: user 55, low, 39 bpm'"))
        .await;
    // More than there is room for: the rest is one click away.
    server.store((1..=50).map(|user| sample(user, 0, 180.0, 1))).await;
    tab.wait_for_text("#live-summary", "53 alerts").await;
    let sum = "document.querySelectorAll('#alarms a').length + Number(document.querySelector('#alarms button').innerText.match(/\\d+/)[0])";
    tab.wait_for(&format!("{sum} === 53")).await;
    assert_eq!(
        tab.eval(
            "new Set([...document.querySelectorAll('#alarms li')].map((item) => item.getBoundingClientRect().top)).size"
        )
        .await,
        1
    );
    tab.click("#alarms button").await;
    tab.wait_for_text("#live-summary", "53 shown of 63 users").await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn the_row_of_alerts_says_that_there_are_none() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store([sample(7, 1, 72.0, 0)]).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#alarms", "No alerts").await;
    assert_eq!(tab.text("nav [data-view=live]").await, "Live");
    // No steps say nothing about the person.
    assert!(!tab.text("#tiles").await.contains("steps"));
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn states_can_be_told_apart_when_the_system_forces_its_colours() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let users = [
        sample(1, 1, 72.0, 1),
        sample(2, 1, 160.0, 1),
        sample(3, 600, 72.0, 1),
        sample(4, 1, 30.0, 1),
    ];
    server.store(users).await;
    let tab = browser.tab().await;
    tab.emulate("forced-colors", "active").await;
    let style = |selector: &str| {
        format!(
            "(({{ borderTopStyle, borderTopWidth, backgroundColor }}) => [borderTopStyle, borderTopWidth, backgroundColor].join())(getComputedStyle(document.querySelector('{selector}')))"
        )
    };
    let tile = |user: u32| style(&format!("#tiles a[href=\"#/user/{user}\"]"));
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#live-summary", "4 users · 2 alerts · 1 silent")
        .await;
    tab.wait_for_text("#connection", "Connected").await;
    let all_differ = format!("new Set([{}, {}, {}]).size === 3", tile(1), tile(2), tile(3));
    assert_eq!(tab.eval(&all_differ).await, true, "live, alert, silent");
    // The two alerts differ by their words and signs.
    for (user, words) in [(2, "▲ high"), (4, "▼ low")] {
        tab.wait_for_text(&format!("#tiles a[href=\"#/user/{user}\"]"), words)
            .await;
    }
    for (one, other) in [
        ("nav [aria-current]", "nav a:not([aria-current])"),
        ("#alarms a", "body"),
        ("#tiles [data-state=high] .alert", "#tiles [data-state=high] a"),
    ] {
        let is_same = format!("{} === {}", style(one), style(other));
        assert_eq!(tab.eval(&is_same).await, false, "{one}");
    }
    let live = tab.eval(&tile(1)).await;
    let connected = tab.eval(&style("#connection")).await;
    let stopped = server.stop().await;
    tab.wait_for_text("#connection", "Disconnected").await;
    assert_ne!(tab.eval(&tile(1)).await, live);
    assert_ne!(tab.eval(&style("#connection")).await, connected);
    let banner = tab
        .eval("getComputedStyle(document.getElementById('banner')).borderTopStyle")
        .await;
    assert_eq!(banner, "solid");
    let server = stopped.start().await;
    tab.open(&server.page("/user/1")).await;
    tab.wait_for("document.querySelector('#user-answer .plot .points')")
        .await;
    for (one, other) in [
        ("#user-window [aria-pressed=true]", "#user-window [aria-pressed=false]"),
        ("#range-presets input:checked + span", "#range-presets input + span"),
    ] {
        let is_same = format!("{} === {}", style(one), style(other));
        assert_eq!(tab.eval(&is_same).await, false, "{one}");
    }
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn a_narrow_window_has_one_line_in_the_header_and_rows_of_equal_width() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store((1..=20).map(|user| sample(user, 1, 160.0, 1))).await;
    let tab = browser.tab().await;
    tab.resize(320, 700).await;
    let header = "new Set([...document.querySelectorAll('header > :is(nav, .connection)')].map((part) => Math.round(part.getBoundingClientRect().top + part.getBoundingClientRect().height / 2))).size";
    // The right ends of the last elements of all rows.
    let ends = |selector: &str| {
        format!(
            "(() => {{ const rows = new Map(); for (const node of document.querySelectorAll('{selector}')) {{ const {{ top, right }} = node.getBoundingClientRect(); \
             if (right) rows.set(Math.round(top), Math.max(rows.get(Math.round(top)) ?? 0, Math.round(right))); }} return [...new Set(rows.values())].length; }})()"
        )
    };
    tab.open(&server.page("/user/1")).await;
    tab.wait_for_text("#user-now", "160 bpm").await;
    assert_eq!(tab.eval(&ends("#user-window button")).await, 1);
    tab.open(&server.page("/range?user_id=1&preset=1h&bucket=1m&tz=UTC"))
        .await;
    tab.wait_for_text("#range-answer", "Average heart rate").await;
    let fields = "#range-form :is(input:not([type=radio]), select, button)";
    assert_eq!(tab.eval(&ends(fields)).await, 1);
    assert_eq!(tab.eval(&ends("#range-presets label")).await, 1);
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#live-summary", "20 alerts").await;
    tab.wait_for_text("#connection", "Connected").await;
    assert_eq!(tab.eval(header).await, 1);
    assert_eq!(tab.eval(&ends("#live .fields :is(input, select), #alarms li")).await, 1);
    let _stopped = server.stop().await;
    tab.wait_for_text("#connection", "Disconnected").await;
    assert_eq!(tab.eval(header).await, 1);
    assert_eq!(tab.eval("document.documentElement.scrollWidth").await, 320);
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn a_very_wide_window_has_larger_text_and_short_lines() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store([sample(7, 1, 72.0, 12)]).await;
    let tab = browser.tab().await;
    tab.resize(3840, 2160).await;
    for (part, wait) in [
        ("/", "#tiles"),
        ("/user/7", "#user-now"),
        ("/range?user_id=7&preset=1h&bucket=1m&tz=UTC", "#range-answer .numbers"),
    ] {
        tab.open(&server.page(part)).await;
        tab.wait_for_text(wait, "72").await;
        let rem = "parseFloat(getComputedStyle(document.documentElement).fontSize)";
        assert_eq!(tab.eval(&format!("{rem} >= 24")).await, true);
        // A box may be wide, but not the text in it.
        let widest = format!(
            "Math.max(...[...document.querySelectorAll('main p, main td, main dd, .tile span, footer p > *')].map((node) => {{ const range = new Range(); range.selectNodeContents(node); return range.getBoundingClientRect().width; }})) / {rem}"
        );
        let widest = tab.eval(&widest).await.as_f64().unwrap();
        assert!(widest > 5.0 && widest < 50.0, "{part}: {widest}");
        for view in ["user", "range"] {
            let width = tab
                .eval(&format!(
                    "document.getElementById('{view}').getBoundingClientRect().width / {rem}"
                ))
                .await;
            assert!(width.as_f64().unwrap() <= 90.0, "{part}: {width}");
        }
    }
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn every_view_names_the_zone_of_its_times_once() {
    let Some(browser) = Browser::start("America/Lima") else {
        return;
    };
    let server = Server::start().await;
    server.store((1..=9).map(|n| sample(7, n * 60, 72.0, 12))).await;
    let tab = browser.tab().await;
    for (part, wait, zone) in [
        ("/", "#tiles", "America/Lima (UTC\u{2212}5)"),
        ("/user/7", "#user-answer .numbers", "America/Lima"),
        (
            "/range?user_id=7&preset=1h&bucket=1m&tz=Asia/Tokyo",
            "#range-answer .numbers",
            "Asia/Tokyo",
        ),
    ] {
        tab.open(&server.page(part)).await;
        tab.wait_for_text(wait, "72").await;
        tab.eval("document.querySelectorAll('main details').forEach((details) => (details.open = true))")
            .await;
        let text = format!("{} {}", tab.text("main").await, tab.text("footer").await);
        assert_eq!(text.matches(zone).count(), 1, "{part}: {text}");
        // No other zone is named beside it.
        let others = ["UTC", "Lima", "Tokyo"].map(|other| text.matches(other).count());
        let expected = ["UTC", "Lima", "Tokyo"].map(|other| zone.matches(other).count());
        assert_eq!(others, expected, "{part}: {text}");
    }
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}
