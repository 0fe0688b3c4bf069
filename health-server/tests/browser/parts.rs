//! The modules of the page that compute something, called by themselves.

use health_core::{Alert, AlertThresholds};
use serde_json::json;

use crate::{chromium::Browser, server::Server};

#[tokio::test]
async fn events_are_parsed_by_the_rules_of_the_standard_however_they_are_cut() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    for (stream, events, last_id) in [
        ("data: a\n\n", json!([["message", "a"]]), ""),
        (
            "event: sample\ndata: {\"a\":1}\nid: 5.c\n\n",
            json!([["sample", "{\"a\":1}"]]),
            "5.c",
        ),
        ("data:a\r\ndata: b\r\n\r\n", json!([["message", "a\nb"]]), ""),
        ("data: a\rdata\rdata:  b\r\r", json!([["message", "a\n\n b"]]), ""),
        (": comment\n\ndata: a\n\n", json!([["message", "a"]]), ""),
        ("id: 1\n\ndata: a\n\n", json!([["message", "a"]]), "1"),
        (
            "id: 1\ndata: a\n\nid\ndata: b\n\n",
            json!([["message", "a"], ["message", "b"]]),
            "",
        ),
        ("id: 1\n\nid: 2\0\n\n", json!([]), "1"),
        ("event: x\n\ndata: a\n\n", json!([["message", "a"]]), ""),
        (
            "retry: 2000\n\nretry: 1x\n\nunknown: a\ndata\n\n",
            json!([["message", ""]]),
            "",
        ),
        ("data: a\n\ndata: unfinished\nid: 9\n", json!([["message", "a"]]), ""),
    ] {
        let script = format!(
            "import('/page/events.js').then(({{ EventParser }}) => {{ const stream = {}; const results = []; \
             for (let size = 1; size <= stream.length; size++) {{ const parser = new EventParser(); const events = []; \
             for (let at = 0; at < stream.length; at += size) events.push(...parser.push(stream.slice(at, at + size))); \
             results.push([events.map(({{ type, data }}) => [type, data]), parser.lastId]); }} return results; }})",
            json!(stream)
        );
        let results = tab.eval(&script).await;
        for result in results.as_array().unwrap() {
            assert_eq!(*result, json!([events, last_id]), "{stream:?}");
        }
    }
    browser.close().await;
}

#[tokio::test]
async fn local_times_become_instants_of_their_zone() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    for (local, zone, instant) in [
        ("2025-03-02T18:00:00", "UTC", "2025-03-02T18:00:00.000Z"),
        ("2025-03-02T18:00", "Europe/Berlin", "2025-03-02T17:00:00.000Z"),
        ("2025-03-30T03:00", "Europe/Berlin", "2025-03-30T01:00:00.000Z"),
        ("2025-03-30T01:59:59", "Europe/Berlin", "2025-03-30T00:59:59.000Z"),
        ("2025-10-26T03:00", "Europe/Berlin", "2025-10-26T02:00:00.000Z"),
        ("2025-10-26T01:59", "Europe/Berlin", "2025-10-25T23:59:00.000Z"),
        ("2025-03-02T18:00", "Asia/Kathmandu", "2025-03-02T12:15:00.000Z"),
        ("2025-03-02T00:00", "America/St_Johns", "2025-03-02T03:30:00.000Z"),
    ] {
        let script = format!(
            "import('/page/text.js').then(({{ fromField, toField, rfc3339 }}) => {{ const at = fromField('{local}', '{zone}'); return [rfc3339(at), toField(at, '{zone}').startsWith('{local}')]; }})"
        );
        assert_eq!(tab.eval(&script).await, json!([instant, true]), "{local} {zone}");
    }
    browser.close().await;
}

#[tokio::test]
async fn a_zone_is_named_with_what_its_clocks_show() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    for (zone, at, name) in [
        ("UTC", "2025-03-02T18:00:00Z", "UTC"),
        ("Europe/London", "2025-03-02T18:00:00Z", "Europe/London (UTC)"),
        ("Europe/Berlin", "2025-03-02T18:00:00Z", "Europe/Berlin (UTC+1)"),
        ("Europe/Berlin", "2025-07-02T18:00:00Z", "Europe/Berlin (UTC+2)"),
        ("Asia/Kathmandu", "2025-03-02T18:00:00Z", "Asia/Kathmandu (UTC+5:45)"),
        (
            "America/St_Johns",
            "2025-03-02T18:00:00Z",
            "America/St_Johns (UTC\u{2212}3:30)",
        ),
    ] {
        let script =
            format!("import('/page/text.js').then(({{ zoneName }}) => zoneName('{zone}', Date.parse('{at}')))");
        assert_eq!(tab.eval(&script).await, name);
    }
    browser.close().await;
}

#[tokio::test]
async fn alerts_follow_the_rule_of_the_dashboard() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/")).await;
    let thresholds = AlertThresholds::default();
    let rates = [20.0, 39.9, 40.0, 72.0, 149.9, 150.0, 250.0];
    let expected = rates.map(|bpm| match thresholds.alert(bpm) {
        Some(Alert::High) => Some("high"),
        Some(Alert::Low) => Some("low"),
        None => None,
    });
    let script = format!(
        "import('/page/users.js').then(({{ User }}) => {}.map((heart_rate) => {{ const user = new User('1'); \
         user.add({{ timestamp: '2025-03-02T18:00:00Z', source: '', heart_rate }}); \
         return user.alert(Date.parse('2025-03-02T18:00:00Z')); }}))",
        json!(rates)
    );
    assert_eq!(tab.eval(&script).await, json!(expected));
    // A user is stale after the threshold, not at it, and has no alert then.
    let seconds = thresholds.stale_s;
    let script = format!(
        "import('/page/users.js').then(({{ User }}) => [{seconds}, {seconds} + 0.001].map((age) => {{ const user = new User('1'); \
         user.add({{ timestamp: '2025-03-02T18:00:00Z', source: '', heart_rate: 200 }}); \
         const now = user.newest + age * 1000; return [user.isStale(now), user.alert(now)]; }}))"
    );
    assert_eq!(tab.eval(&script).await, json!([[false, "high"], [true, null]]));
    browser.close().await;
}
