//! What a device, a server and a narrow window may do to the page.

use crate::{
    chromium::Browser,
    server::{Server, sample, sample_at},
};

/// A source as an attacker would name it.
const HOSTILE: &str = "<img src=x onerror=alert(1)><script>alert(2)</script>";

#[tokio::test]
async fn a_hostile_source_is_text() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let now = chrono::Utc::now();
    server.store([sample_at(7, now, 72.0, 12, HOSTILE)]).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#tiles .source", HOSTILE).await;
    tab.open(&server.page("/user/7")).await;
    tab.wait_for_text("#user-answer", HOSTILE).await;
    tab.click("#user-answer summary").await;
    tab.wait_for_text("#user-answer details", HOSTILE).await;
    tab.open(&server.page("/range?user_id=7&preset=1h&bucket=1m&tz=UTC"))
        .await;
    tab.wait_for_text("#range-answer", HOSTILE).await;
    assert_eq!(
        tab.eval("document.querySelectorAll('main img, main script').length")
            .await,
        0
    );
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn the_policy_forbids_scripts_in_the_page_and_other_hosts() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    let refused = tab
        .eval("(() => { try { document.body.innerHTML = '<b>x</b>'; return 'allowed'; } catch (error) { return error.name; } })()")
        .await;
    assert_eq!(refused, "TypeError");
    let refused = tab
        .eval("new Promise((resolve) => { addEventListener('securitypolicyviolation', (event) => resolve(event.effectiveDirective)); fetch('http://127.0.0.1:9/').catch(() => {}); })")
        .await;
    assert_eq!(refused, "connect-src");
    browser.close().await;
}

#[tokio::test]
async fn no_view_is_wider_than_a_narrow_window() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let id = i64::MAX;
    server.store((0..100).map(|n| sample(id, n * 10, 72.0, 12_345))).await;
    let tab = browser.tab().await;
    for width in [320, 768] {
        tab.resize(width, 700).await;
        for (part, selector) in [
            ("/".to_owned(), "#tiles .tile"),
            (format!("/user/{id}"), "#user-answer .plot .line"),
            (
                format!("/range?user_id={id}&preset=1h&bucket=1m&tz=America/Argentina/ComodRivadavia"),
                "#range-answer .plot .line",
            ),
        ] {
            tab.open(&server.page(&part)).await;
            tab.wait_for(&format!("document.querySelector('{selector}')")).await;
            tab.eval("document.querySelectorAll('details').forEach((details) => (details.open = true))")
                .await;
            assert_eq!(tab.eval("document.documentElement.scrollWidth").await, width, "{part}");
        }
    }
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn nothing_moves_while_values_change() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store((1..=50).map(|user| sample(user, 30, 70.0, 1))).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#live-summary", "50 users").await;
    tab.wait_for_text("#connection", "Connected").await;
    tab.eval("window.shifts = 0; new PerformanceObserver((list) => { for (const entry of list.getEntries()) shifts += entry.value; }).observe({ type: 'layout-shift' })")
        .await;
    server.store((1..=50).map(|user| sample(user, 0, 151.0, 99_999))).await;
    tab.wait_for_text("#live-summary", "50 alerts").await;
    tab.wait_for_text("#tiles", "+99,999 steps").await;
    assert_eq!(
        tab.eval("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(shifts))))")
            .await,
        0
    );
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn no_address_breaks_the_page() {
    // A system without a zone: the browser has a name for it that it does not accept itself.
    let Some(browser) = Browser::start("Etc/Unknown") else {
        return;
    };
    let server = Server::start().await;
    server.store([sample(7, 1, 72.0, 12)]).await;
    let tab = browser.tab().await;
    for (part, selector, text) in [
        ("/", "#zone", "UTC"),
        ("/user/007", "#user-now", "72 bpm"),
        ("/user/0", "#user-answer", "user_id \"0\" is not an integer"),
        ("/user/7?span=NaN&end=1e400", "#user-window", "1 h, up to now"),
        (
            "/user/7?span=60000&end=8640000000000001",
            "#user-window",
            "1 min, up to now",
        ),
        ("/user/7?span=60000&end=1", "#user-answer", "No data found"),
        ("/user/__proto__", "#tiles", "72 bpm"),
        ("%", "#tiles", "72 bpm"),
        (
            "/range?user_id=7&start=x&end=y&bucket=zz&tz=UTC",
            "#range-error",
            "From: enter a date",
        ),
        (
            "/range?user_id=7&start=99999-01-01T00:00&end=2025-01-01T00:00&bucket=1m&tz=UTC",
            "#range-error",
            "up to the year 9999",
        ),
        ("/range?tz=%00", "#range-error", "not the name of a time zone"),
    ] {
        tab.open(&server.page(part)).await;
        tab.wait_for_text(selector, text).await;
    }
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn long_ids_and_large_numbers_are_shown_to_their_end() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store([sample(i64::MAX, 1, 72.0, 100_000)]).await;
    let tab = browser.tab().await;
    let cut = "[...document.querySelectorAll('.tile .name, .tile .count')].filter((part) => part.scrollWidth > part.clientWidth).length";
    for width in [320, 1280, 3840] {
        tab.resize(width, 800).await;
        tab.open(&server.page("/")).await;
        tab.wait_for_text("#tiles", "+100,000 steps").await;
        assert_eq!(tab.eval(cut).await, 0, "{width}");
    }
    tab.open(&server.page(&format!("/user/{}", i64::MAX))).await;
    tab.wait_for("document.querySelector('.plot .points')?.getAttribute('d')")
        .await;
    let cut = "[...document.querySelectorAll('.plot text')].filter((text) => text.getBoundingClientRect().left < document.querySelector('.plot').getBoundingClientRect().left - 1).length";
    assert_eq!(tab.eval(cut).await, 0);
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}
