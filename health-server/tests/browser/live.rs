//! The live tiles: they appear, change, are found and sorted, and survive a restart of the server.

use test_support::is_on_citus;

use crate::{
    chromium::Browser,
    server::{Server, sample, steps_of_phone},
};

/// A part of the script in a test: the tile of a user.
fn tile(user: i64) -> String {
    format!("#tiles a[href=\"#/user/{user}\"]")
}

/// The users of all tiles, from the first.
const SHOWN: &str = "[...document.querySelectorAll('#tiles .name b')].map((name) => name.textContent).join()";

#[tokio::test]
async fn tiles_appear_and_change() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#live-message", "No samples yet").await;
    tab.wait_for_text("#connection", "Connected").await;
    server.store([sample(7, 0, 72.0, 12)]).await;
    tab.wait_for_text(&tile(7), "72 bpm").await;
    let text = tab.text(&tile(7)).await;
    for part in ["User 7", "+12 steps", "+0.5 kcal", "watch", "s ago"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A user of 63 bits keeps every digit.
    server
        .store([sample(i64::MAX, 0, 60.0, 1), sample(7, -1, 151.0, 3)])
        .await;
    tab.wait_for_text(&tile(i64::MAX), "60 bpm").await;
    tab.wait_for_text(&tile(7), "151 bpm").await;
    assert!(tab.text(&tile(7)).await.contains("high"));
    tab.wait_for_text("#live-summary", "2 users · 1 alert · 0 silent").await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

/// A watch that is not worn goes on counting steps for hours.
#[tokio::test]
async fn a_heart_rate_that_is_older_than_the_steps_is_not_shown_as_live() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#connection", "Connected").await;
    // One after the other: of several samples, the page hears the newest.
    server.store([sample(7, 2 * 3600, 170.0, 5)]).await;
    tab.wait_for_text(&tile(7), "170 bpm").await;
    server.store([steps_of_phone(7, 0, 8)]).await;
    tab.wait_for_text(&tile(7), "+8 steps").await;
    let text = tab.text(&tile(7)).await;
    assert!(text.contains("170 bpm 2 h ago"), "{text}");
    tab.wait_for_text("#live-summary", "1 user · 0 alerts · 0 silent").await;
    tab.wait_for("document.querySelector('#tiles li').dataset.state === 'old-rate'")
        .await;
    tab.click(&tile(7)).await;
    tab.wait_for_text("#user-now", "170 bpm 2 h ago").await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn users_are_found_filtered_and_sorted() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server
        .store([sample(9, 3, 90.0, 5), sample(10, 2, 160.0, 7), sample(101, 1, 35.0, 6)])
        .await;
    server.store([sample(300, 4000, 170.0, 50)]).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    for (sort, order) in [
        ("id", "9,10,101,300"),
        ("heart_rate", "300,10,9,101"),
        ("heart_rate_low", "101,9,10,300"),
        ("steps", "300,10,101,9"),
        ("newest", "101,10,9,300"),
        ("oldest", "300,9,10,101"),
    ] {
        tab.eval(&format!("document.getElementById('sort').value = '{sort}'; document.getElementById('sort').dispatchEvent(new Event('change'))"))
            .await;
        tab.wait_for(&format!("{SHOWN} === '{order}'")).await;
    }
    for (show, shown) in [("alert", "10,101"), ("stale", "300"), ("all", "300,9,10,101")] {
        tab.eval(&format!("document.getElementById('show').value = '{show}'; document.getElementById('show').dispatchEvent(new Event('change'))"))
            .await;
        tab.wait_for(&format!("{SHOWN} === '{shown}'")).await;
    }
    tab.focus("#find").await;
    tab.type_text("10").await;
    tab.wait_for(&format!("{SHOWN} === '10,101'")).await;
    tab.type_text("999").await;
    tab.wait_for_text("#live-message", "No user matches").await;
    tab.press("Escape").await;
    tab.wait_for(&format!("{SHOWN} === '300,9,10,101'")).await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn only_the_tiles_on_the_screen_exist() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    // A cluster lists users slowly.
    let (users, summary) = if is_on_citus() {
        (500, "500 users")
    } else {
        (5000, "5,000 users")
    };
    server.store((1..=users).map(|user| sample(user, 1, 70.0, 1))).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#live-summary", summary).await;
    tab.wait_for("document.querySelectorAll('#tiles .tile').length > 20")
        .await;
    let tiles = tab.eval("document.querySelectorAll('#tiles .tile').length").await;
    assert!(tiles.as_u64().unwrap() < 60, "{tiles}");
    tab.eval("scrollTo(0, document.documentElement.scrollHeight)").await;
    tab.wait_for_text(&tile(users), "70 bpm").await;
    let place = tab.eval("(({ ariaPosInSet, ariaSetSize }) => ariaPosInSet + ' of ' + ariaSetSize)(document.querySelector('#tiles .tile:last-child'))").await;
    assert_eq!(place, format!("{users} of {users}"));
    let tiles = tab.eval("document.querySelectorAll('#tiles .tile').length").await;
    assert!(tiles.as_u64().unwrap() < 60, "{tiles}");
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn the_page_resumes_after_a_restart_of_the_server() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store([sample(7, 9, 72.0, 12)]).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text(&tile(7), "72 bpm").await;
    tab.wait_for_text("#connection", "Connected").await;
    let stopped = server.stop().await;
    tab.wait_for_text("#connection", "Disconnected").await;
    tab.wait_for("document.getElementById('banner').innerText.match(/Next attempt in \\d+ s/)")
        .await;
    // What another server stores meanwhile arrives too.
    let config = health_core::Config::from_url(stopped.database.url()).unwrap();
    let other = health_core::Health::open(config).await.unwrap();
    other
        .ingest([sample(7, 1, 88.0, 2), sample(8, 1, 61.0, 2)])
        .await
        .unwrap();
    other.close().await.unwrap();
    let server = stopped.start().await;
    tab.click("#connect-now").await;
    tab.wait_for_text("#banner", "Connected again. No sample was missed.")
        .await;
    tab.wait_for_text(&tile(7), "88 bpm").await;
    tab.wait_for_text(&tile(8), "61 bpm").await;
    server.store([sample(7, -1, 99.0, 1)]).await;
    tab.wait_for_text(&tile(7), "99 bpm").await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn a_page_that_was_left_continues_when_the_person_comes_back() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    // More often than a browser has connections for one server.
    for round in 1..=8 {
        tab.wait_for_text("#connection", "Connected").await;
        server.store([sample(7, 0, 60.0 + f64::from(round), 1)]).await;
        tab.wait_for_text(&tile(7), &format!("{} bpm", 60 + round)).await;
        tab.leave().await;
        tab.back().await;
    }
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}
