//! The chart of one user, and the range form: both show what the server answers.

use chrono::{DateTime, TimeDelta, Utc};
use health_core::{Bucket, TimeRange, UserId};

use crate::{
    chromium::Browser,
    server::{Server, sample, sample_at},
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_range_form_shows_the_numbers_of_metrics_and_a_chart_by_bucket() {
    let Some(browser) = Browser::start("Europe/Berlin") else {
        return;
    };
    let server = Server::start().await;
    // The day on which the clocks of Berlin are set forward has 23 hours.
    let start = at("2025-03-29T23:00:00Z");
    let samples = (0..690).map(|n| {
        let bpm = if n % 30 == 0 { 100.0 } else { 60.0 };
        sample_at(
            101,
            start + TimeDelta::seconds(n * 120),
            bpm,
            n % 50,
            if n % 2 == 0 { "watch" } else { "phone" },
        )
    });
    server.store(samples).await;
    let tab = browser.tab().await;
    tab.open(&server.page("/range")).await;
    assert_eq!(
        tab.eval("document.getElementById('range-zone').value").await,
        "Europe/Berlin"
    );
    tab.wait_for("document.activeElement.id === 'range-user'").await;
    tab.type_text("101").await;
    tab.eval("{ const form = document.getElementById('range-form'); form.start.value = '2025-03-30T00:00'; form.end.value = '2025-03-31T00:00'; form.bucket.value = '1h'; for (const field of [form.start, form.end]) field.dispatchEvent(new Event('change', { bubbles: true })); }").await;
    tab.press("Enter").await;
    tab.wait_for_text("#range-answer", "Average heart rate").await;
    let user = UserId::new(101).unwrap();
    let range = TimeRange::new(start, start + TimeDelta::hours(23)).unwrap();
    let stats = server.health.stats(user, range).await.unwrap();
    let text = tab.text("#range-answer").await;
    let overall = &stats.overall;
    for part in [
        format!("{:.1} bpm", overall.average_heart_rate.unwrap()),
        format!("{:.1} bpm", overall.time_weighted_heart_rate.unwrap()),
        format!("cover {:.1} %", overall.heart_rate_coverage * 100.0),
        "30 Mar 2025, 00:00:00 to 31 Mar 2025, 00:00:00, Europe/Berlin".to_owned(),
        "100.0 bpm".to_owned(),
        "60.0 bpm".to_owned(),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    let digits = text.replace(',', "");
    for part in [
        format!("{} steps", overall.total_steps),
        format!("Samples {}", overall.samples),
    ] {
        assert!(digits.contains(&part), "{part}: {text}");
    }
    // The table has a row for each bucket, with the bucket's numbers.
    tab.click("#range-answer summary").await;
    tab.wait_for("document.querySelectorAll('#range-answer details tbody tr').length === 23")
        .await;
    let series = server
        .health
        .series(user, range, Bucket::Hour, chrono_tz::Europe::Berlin)
        .await
        .unwrap();
    let steps = tab.eval("[...document.querySelectorAll('#range-answer details tbody tr')].map((row) => Number(row.cells[4].textContent.replace(',', '')))").await;
    let expected: Vec<_> = series.iter().map(|bucket| bucket.stats.total_steps).collect();
    assert_eq!(steps, serde_json::json!(expected));
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn the_range_form_says_what_is_wrong_beside_the_field() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    let tab = browser.tab().await;
    tab.open(&server.page("/range")).await;
    tab.click("#range form button[type=submit]").await;
    tab.wait_for_text("#range-error", "enter the number of a user").await;
    tab.open(&server.page("/range?user_id=x&preset=1h&bucket=1m&tz=UTC"))
        .await;
    tab.wait_for_text("#range-error", "User \"x\" is not an integer").await;
    assert_eq!(
        tab.eval("document.querySelector('[aria-invalid]').id").await,
        "range-user"
    );
    tab.open(&server.page("/range?user_id=5&start=2020-01-01T00:00&end=2021-01-01T00:00&bucket=1m&tz=UTC"))
        .await;
    // The labels of the form are for people who do not know the parameters of the server.
    tab.wait_for_text(
        "#range-error",
        "One value for each: the range has 527040 values of 1 minute each",
    )
    .await;
    let words = "[...document.querySelectorAll('#range :is(label, legend, .hint, .error)')].map((node) => node.innerText).join('\\n')";
    let words = tab.eval(words).await;
    for parameter in ["user_id", "bucket", "tz", "exclusive"] {
        assert!(!words.as_str().unwrap().contains(parameter), "{words}");
    }
    assert_eq!(
        tab.eval("document.querySelector('[aria-invalid]').id").await,
        "range-bucket"
    );
    tab.open(&server.page("/range?user_id=5&preset=1h&bucket=1m&tz=Nowhere/Land"))
        .await;
    tab.wait_for_text("#range-error", "Nowhere/Land is not the name of a time zone")
        .await;
    tab.open(&server.page("/range?user_id=5&preset=1h&bucket=1m&tz=UTC"))
        .await;
    tab.wait_for_text("#range-answer", "No data found").await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}

#[tokio::test]
async fn the_chart_of_a_user_follows_the_present_zooms_and_goes_back() {
    let Some(browser) = Browser::start("UTC") else {
        return;
    };
    let server = Server::start().await;
    server
        .store((1..=120).map(|n| sample(7, n * 60, 60.0 + f64::from(i32::try_from(n % 20).unwrap()), 10)))
        .await;
    let tab = browser.tab().await;
    tab.open(&server.page("/user/7")).await;
    tab.wait_for("document.querySelector('#user-answer .plot .line')?.getAttribute('d').length > 50")
        .await;
    // Away from the chart, this key is the page's own.
    tab.press("PageUp").await;
    tab.wait_for_text("#user-window", "1 h, up to now").await;
    // An hour shows each sample, with its source.
    tab.focus("#user-answer .plot").await;
    tab.press("ArrowLeft").await;
    tab.wait_for_text("#user-answer .readout", "bpm, 10 steps, 0.5 kcal, watch")
        .await;
    let read = tab
        .eval("document.querySelector('#user-answer .plot').getAttribute('aria-valuetext')")
        .await;
    assert_eq!(tab.text("#user-answer .readout").await, read.as_str().unwrap());
    tab.press("-").await;
    tab.wait_for_text("#user-window", "2 h, up to now").await;
    tab.wait_for("location.hash.includes('span=7200000') && !document.querySelector('#user-answer[aria-busy]')")
        .await;
    tab.press("PageUp").await;
    tab.wait_for("/end=\\d+/.test(location.hash) && !document.querySelector('#user-answer[aria-busy]')")
        .await;
    assert_eq!(
        tab.eval("document.querySelector('#user-window [aria-pressed]:last-child').getAttribute('aria-pressed')")
            .await,
        "false"
    );
    tab.press("End").await;
    tab.wait_for_text("#user-window", "2 h, up to now").await;
    // A new sample comes into a chart that follows the present.
    server.store([sample(7, 0, 111.0, 1)]).await;
    tab.wait_for_text("#user-now", "111 bpm").await;
    tab.wait_for_text("#user-answer .numbers", "111.0 bpm").await;
    // What the person reads at the pointer stays when the chart is drawn again.
    tab.eval("document.activeElement.blur()").await;
    tab.hover("#user-answer .plot").await;
    tab.wait_for_text("#user-answer .readout", "steps").await;
    server.store([sample(7, 0, 112.0, 1)]).await;
    tab.wait_for_text("#user-answer .numbers", "112.0 bpm").await;
    assert!(tab.text("#user-answer .readout").await.contains("steps"));
    tab.press("Escape").await;
    tab.wait_for("location.hash === '#/' && !document.getElementById('live').hidden")
        .await;
    assert_eq!(tab.problems(), [""; 0]);
    browser.close().await;
}
