//! What was erased leaves the page: tiles, sparklines, charts and answers.

use chrono::{TimeDelta, Utc};
use health_core::{Health, Source, TimeRange, UserId};
use serde_json::json;
use test_support::TestDatabase;

use crate::{
    chromium::Browser,
    server::{Server, sample, steps_of_phone},
    tab::Tab,
};

/// The tile of user 7, and its sparkline.
const TILE: &str = "#tiles a[href=\"#/user/7\"]";
const SPARKLINE: &str = "document.querySelector('#tiles a[href=\"#/user/7\"] .sparkline .line').getAttribute('d')";

/// Erases the samples of the watch of user 7 in the last hour.
async fn erase_watch(health: &Health) {
    let range = TimeRange::new(Utc::now() - TimeDelta::hours(1), Utc::now() + TimeDelta::seconds(1)).unwrap();
    let watch = Some(Source::new("watch").unwrap());
    let erased = health.erase_range(UserId::new(7).unwrap(), range, watch).await.unwrap();
    assert!(erased > 0);
}

/// Stores half an hour of a watch, and steps of a phone that are older than the newest sample of the watch. One commit,
/// because the page asks for the minutes of a sparkline when it hears of a user, and then once a minute.
async fn store_watch_and_phone(server: &Server) {
    let of_watch = (0..30).map(|minute| sample(7, minute * 60, 141.0, 5));
    server.store(of_watch.chain([steps_of_phone(7, 20, 77)])).await;
}

async fn wait_for_tile_of_watch(tab: &Tab) {
    tab.wait_for_text(TILE, "141 bpm").await;
    tab.wait_for(&format!("{SPARKLINE}.length > 50")).await;
}

async fn wait_for_tile_of_phone(tab: &Tab) {
    tab.wait_for_text(TILE, "– bpm +77 steps phone").await;
    tab.wait_for(&format!("{SPARKLINE} === ''")).await;
}

#[tokio::test]
async fn what_was_erased_is_no_longer_shown() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store([sample(8, 1, 72.0, 12)]).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#connection", "Connected").await;
    store_watch_and_phone(&server).await;
    wait_for_tile_of_watch(&tab).await;
    // The tile keeps its place while the page asks what is left.
    tab.eval("window.removed = 0; new MutationObserver((changes) => { for (const { removedNodes } of changes) removed += removedNodes.length; }).observe(document.getElementById('tiles'), { childList: true })")
        .await;
    erase_watch(&server.health).await;
    wait_for_tile_of_phone(&tab).await;
    assert_eq!(tab.eval("removed").await, 0);
    let erased = server.health.erase(UserId::new(7).unwrap()).await.unwrap();
    assert!(erased > 0);
    tab.wait_for_text("#live-summary", "1 user ").await;
    tab.wait_for(&format!("!document.querySelector('{TILE}')")).await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn what_was_erased_leaves_charts_tables_and_answers() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    for (part, root) in [
        // Windows that follow the present and one of the past, with each sample and by bucket.
        ("/user/7", "#user-answer"),
        ("/user/7?span=604800000", "#user-answer"),
        ("/user/7?span=86400000&end=END", "#user-answer"),
        ("/range?user_id=007&preset=24h&bucket=15m&tz=UTC", "#range-answer"),
    ] {
        store_watch_and_phone(&server).await;
        let end = (Utc::now() + TimeDelta::seconds(1)).timestamp_millis();
        tab.open(&server.page(&part.replace("END", &end.to_string()))).await;
        tab.wait_for_text("#connection", "Connected").await;
        // Lines, and readings that stand alone.
        let drawn = format!(
            "[...document.querySelectorAll('{root} .plot .line')].map((path) => path.getAttribute('d')).join('')"
        );
        tab.wait_for(&format!("{drawn}.length > 5")).await;
        tab.click(&format!("{root} summary")).await;
        for text in ["141", "watch", "phone"] {
            tab.wait_for_text(root, text).await;
        }
        erase_watch(&server.health).await;
        let text = format!("document.querySelector('{root}').textContent");
        tab.wait_for(&format!(
            "{text}.includes('phone') && !{text}.includes('watch') && !{text}.includes('141')"
        ))
        .await;
        tab.wait_for(&format!("{drawn} === ''")).await;
        server.health.erase(UserId::new(7).unwrap()).await.unwrap();
        tab.wait_for_text(root, "No data found").await;
        assert_eq!(tab.eval(&format!("{text}.includes('phone')")).await, false, "{part}");
        assert_eq!(tab.text("#user-now").await, "", "{part}");
    }
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn what_was_erased_while_the_page_was_disconnected_is_no_longer_shown() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server.store([sample(8, 1, 72.0, 12)]).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#connection", "Connected").await;
    store_watch_and_phone(&server).await;
    wait_for_tile_of_watch(&tab).await;
    let stopped = server.stop().await;
    tab.wait_for_text("#connection", "Disconnected").await;
    let config = health_core::Config::from_url(stopped.database.url()).unwrap();
    let other = Health::open(config).await.unwrap();
    erase_watch(&other).await;
    other.erase(UserId::new(8).unwrap()).await.unwrap();
    other.close().await.unwrap();
    let server = stopped.start().await;
    tab.click("#connect-now").await;
    wait_for_tile_of_phone(&tab).await;
    tab.wait_for_text("#live-summary", "1 user ").await;
    assert!(tab.text("#banner").await.contains("No sample was missed"));
    // A cursor that the server does not know: whatever the page knows may have been erased.
    server.store([sample(7, 0, 142.0, 3)]).await;
    tab.wait_for_text(TILE, "142 bpm").await;
    let stopped = server.stop().await;
    tab.wait_for_text("#connection", "Disconnected").await;
    let server = stopped.start_with(TestDatabase::new().await).await;
    server.store([steps_of_phone(7, 20, 77)]).await;
    tab.click("#connect-now").await;
    tab.wait_for_text("#banner", "Samples may have been missed").await;
    wait_for_tile_of_phone(&tab).await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn an_answer_from_before_an_erasure_brings_nothing_back() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    // What is left of a user who had a heart rate of the watch at 18:05 and steps of the phone at 18:04.
    for (erasure, left) in [
        (
            json!({"start": "2025-03-02T18:05:00Z", "end": "2025-03-02T19:00:00Z"}),
            json!([null, 77, "phone"]),
        ),
        (
            json!({"start": "2025-03-02T18:00:00Z", "end": "2025-03-02T18:05:00Z", "source": "phone"}),
            json!([72, null, "watch"]),
        ),
        (
            json!({"start": "2025-03-02T18:00:00Z", "end": "2025-03-02T19:00:00Z", "source": ""}),
            json!([72, 77, "watch"]),
        ),
        (
            json!({"start": "2025-03-02T17:00:00Z", "end": "2025-03-02T18:00:00Z"}),
            json!([72, 77, "watch"]),
        ),
        (
            json!({"start": "2025-03-02T18:00:00Z", "end": "2025-03-02T19:00:00Z"}),
            json!([null, null, ""]),
        ),
        (json!({}), json!(null)),
    ] {
        let script = format!(
            "import('/page/users.js').then(({{ Users }}) => {{ const users = new Users(); \
             const watch = {{ user_id: '7', timestamp: '2025-03-02T18:05:00Z', source: 'watch', heart_rate: 72 }}; \
             users.add({{ user_id: '7', timestamp: '2025-03-02T18:04:00Z', source: 'phone', steps: 77 }}); users.add(watch); \
             const before = users.erasures; const shown = () => {{ const user = users.get('7'); return user ? [user.heart_rate, user.steps, user.source] : null; }}; \
             users.erase({{ user_id: '7', ...{erasure} }}, 0); const left = shown(); users.addAnswer(watch, before); const same = shown(); \
             users.addAnswer(watch, users.erasures); return [left, same, shown()[0]]; }})"
        );
        assert_eq!(tab.eval(&script).await, json!([left, left, 72]), "{erasure}");
    }
    browser.close().await;
}
