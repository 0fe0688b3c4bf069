//! The page without a pointer.

use crate::{
    chromium::Browser,
    server::{Server, sample},
};

/// The user of the focused tile.
const FOCUSED: &str = "document.activeElement.getAttribute('href')";

#[tokio::test]
async fn every_view_is_reached_and_left_by_keys() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store((1..=400).map(|user| sample(user, 1, 70.0, 1))).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#live-summary", "400 users").await;
    tab.press("/").await;
    assert_eq!(tab.eval("document.activeElement.id").await, "find");
    // Behind the three fields, the Tab key enters the tiles once.
    for _ in 0..3 {
        tab.press("Tab").await;
    }
    assert_eq!(tab.eval(FOCUSED).await, "#/user/1");
    let outline = tab.eval("getComputedStyle(document.activeElement).outlineStyle").await;
    assert_eq!(outline, "solid", "the focus can be seen");
    let columns = tab.eval("[...document.querySelectorAll('.tile')].findIndex((tile) => tile.getBoundingClientRect().y > document.querySelector('.tile').getBoundingClientRect().y)").await;
    let columns = columns.as_u64().unwrap();
    tab.press("ArrowRight").await;
    assert_eq!(tab.eval(FOCUSED).await, "#/user/2");
    for _ in 0..10 {
        tab.press("ArrowDown").await;
    }
    let expected = format!("#/user/{}", 2 + 10 * columns);
    assert_eq!(tab.eval(FOCUSED).await, expected);
    let is_visible =
        "(({ top, bottom }) => top >= 0 && bottom <= innerHeight)(document.activeElement.getBoundingClientRect())";
    assert_eq!(tab.eval(is_visible).await, true);
    // A tile that is scrolled away keeps the focus.
    tab.eval("scrollTo(0, 0)").await;
    tab.wait_for("document.querySelector('#tiles a[href=\"#/user/1\"]')")
        .await;
    assert_eq!(tab.eval(FOCUSED).await, expected);
    tab.press("Enter").await;
    tab.wait_for(&format!(
        "location.hash === '{expected}' && !document.getElementById('user').hidden"
    ))
    .await;
    // A screen reader goes on at the heading of the view, and afterwards at the tile, which can be seen.
    assert_eq!(tab.eval("document.activeElement.id").await, "user-title");
    tab.press("Escape").await;
    tab.wait_for(&format!("{FOCUSED} === '{expected}'")).await;
    assert_eq!(tab.eval(is_visible).await, true);
    tab.press("Enter").await;
    tab.wait_for("!document.getElementById('user').hidden").await;
    tab.press("/").await;
    tab.wait_for("document.activeElement.id === 'find' && location.hash === '#/'")
        .await;
    tab.type_text("399").await;
    tab.press("Escape").await;
    assert_eq!(tab.eval("document.getElementById('find').value").await, "");
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn keys_with_one_character_can_be_turned_off() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for("document.getElementById('zone').textContent").await;
    // Not by the mouse: the footer moves when the first answer comes.
    let click = "document.getElementById('character-keys').click()";
    tab.eval(click).await;
    for _ in 0..2 {
        tab.press("/").await;
        assert_ne!(tab.eval("document.activeElement.id").await, "find");
        // The browser remembers it.
        tab.reload().await;
        tab.wait_for("document.getElementById('zone').textContent").await;
    }
    tab.eval(click).await;
    tab.press("/").await;
    assert_eq!(tab.eval("document.activeElement.id").await, "find");
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn a_screen_reader_hears_what_a_choice_shows_and_that_an_answer_has_come() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store((1..=20).map(|user| sample(user, 1, 70.0, 1))).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#live-summary", "20 users").await;
    assert_eq!(tab.text("#found").await, "");
    tab.focus("#find").await;
    tab.type_text("20").await;
    tab.wait_for_text("#found[role=status]", "1 of 20 users shown").await;
    tab.open(&server.page("/range?user_id=20&preset=1h&bucket=1m&tz=UTC"))
        .await;
    tab.wait_for_text("#range-answer [role=status]", "User 20, ").await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}
