//! The page of a server that needs a token.

use health_core::{
    Config,
    access::TokenAdmin,
    token::{NewToken, TokenSecret},
};
use test_support::TestDatabase;

use crate::{
    chromium::Browser,
    server::{Server, sample},
    tab::Tab,
};

async fn create(admin: &mut TokenAdmin, name: &str, scopes: &str) -> TokenSecret {
    let token = NewToken {
        name: name.parse().unwrap(),
        scopes: scopes.parse().unwrap(),
        users: None,
        valid_for: None,
    };
    admin.create(&token).await.unwrap()
}

async fn enter(tab: &Tab, token: &str) {
    tab.wait_for("document.activeElement.id === 'token-input'").await;
    tab.eval("document.getElementById('token-input').value = ''").await;
    tab.type_text(token).await;
    tab.press("Enter").await;
}

#[tokio::test]
async fn the_page_asks_for_a_token_and_keeps_it_for_the_tab() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let database = TestDatabase::new().await;
    let mut admin = TokenAdmin::connect(&Config::from_url(database.url()).unwrap())
        .await
        .unwrap();
    let reader = create(&mut admin, "reader", "read").await;
    let writer = create(&mut admin, "writer", "ingest").await;
    let server = Server::with_database(database).await;
    server.store([sample(7, 1, 72.0, 12)]).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    tab.wait_for_text("#token", "A token is needed").await;
    assert!(!tab.text("main").await.contains("User 7"));
    enter(&tab, "health_wrong").await;
    tab.wait_for_text("#token-error", "unknown or was revoked").await;
    enter(&tab, writer.as_str()).await;
    tab.wait_for_text("#token-error", "not allowed").await;
    enter(&tab, reader.as_str()).await;
    tab.wait_for_text("#tiles", "72 bpm").await;
    tab.wait_for_text("#connection", "Connected").await;
    server.store([sample(7, 0, 90.0, 1)]).await;
    tab.wait_for_text("#tiles", "90 bpm").await;
    // A reload keeps the token, another tab does not have it, and no address or storage of the browser contains it.
    tab.reload().await;
    tab.wait_for_text("#tiles", "90 bpm").await;
    assert_eq!(tab.eval("localStorage.length + document.cookie.length").await, 0);
    let other = browser.tab().await;
    other.open(&server.page("/")).await;
    other.wait_for_text("#token", "A token is needed").await;
    tab.show().await;
    // A revoked token ends the stream, and the page asks for another one.
    admin.revoke("reader").await.unwrap();
    tab.wait_for_text("#token-error", "unknown or was revoked").await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}
