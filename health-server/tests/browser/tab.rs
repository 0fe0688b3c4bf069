//! A tab of the browser, as a person uses it: opens addresses, presses keys, types, reads.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use crate::chromium::{Link, TIMEOUT};

/// A tab.
pub(crate) struct Tab {
    link: Arc<Link>,
    session: String,
    problems: Arc<Mutex<Vec<String>>>,
}

impl Tab {
    pub(crate) async fn new(link: Arc<Link>, session: String, mut events: mpsc::UnboundedReceiver<Value>) -> Self {
        let problems = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&problems);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if is_problem(&event) {
                    found.lock().push(event["params"].to_string());
                }
            }
        });
        let tab = Self {
            link,
            session,
            problems,
        };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            tab.call(domain, json!({})).await;
        }
        tab.resize(1280, 800).await;
        tab
    }

    async fn call(&self, method: &str, parameters: Value) -> Value {
        self.link.call(&self.session, method, parameters).await
    }

    /// Brings the tab to the front. A tab in the background draws nothing.
    pub(crate) async fn show(&self) {
        self.call("Page.bringToFront", json!({})).await;
    }

    /// Sets the size of the window, in CSS pixels.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Lets the system have a feature such as `forced-colors`.
    pub(crate) async fn emulate(&self, feature: &str, value: &str) {
        let features = json!({"features": [{"name": feature, "value": value}]});
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Opens an address and waits until its scripts have run.
    pub(crate) async fn open(&self, address: &str) {
        // Without this step, an address that differs only behind `#` would not load anything.
        self.leave().await;
        self.call("Page.navigate", json!({ "url": address })).await;
        self.wait_for("document.readyState === 'complete' && document.getElementById('zone')?.textContent")
            .await;
    }

    /// Leaves the page for an empty one.
    pub(crate) async fn leave(&self) {
        self.call("Page.navigate", json!({"url": "about:blank"})).await;
        self.wait_for("location.href === 'about:blank'").await;
    }

    /// Goes back to the page that was left.
    pub(crate) async fn back(&self) {
        // The browser may leave the empty page before it answers.
        let _ = self.evaluate("history.back()").await;
        self.wait_for("location.href !== 'about:blank'").await;
    }

    /// Loads the page again, as the key F5 does.
    pub(crate) async fn reload(&self) {
        self.eval("document.documentElement.dataset.old = 'yes'").await;
        self.call("Page.reload", json!({})).await;
        self.wait_for("!document.documentElement.dataset.old && document.readyState === 'complete'")
            .await;
    }

    /// Returns the value of a JavaScript expression, which may be a promise.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        let result = self.evaluate(expression).await;
        let result = result.unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Returns the outcome of an expression, or the browser's error if the page was left meanwhile.
    async fn evaluate(&self, expression: &str) -> Result<Value, Value> {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        self.link.try_call(&self.session, "Runtime.evaluate", parameters).await
    }

    /// Waits until an expression is true. It is checked in each frame of the browser, and again after the page was
    /// left.
    pub(crate) async fn wait_for(&self, condition: &str) {
        let promise = format!(
            "new Promise((resolve) => {{ const check = () => {{ let is; try {{ is = {condition}; }} catch {{ is = false; }} \
             is ? resolve(true) : requestAnimationFrame(check); }}; check(); }})"
        );
        let waiting = async {
            while !self
                .evaluate(&promise)
                .await
                .is_ok_and(|outcome| outcome["result"]["value"] == true)
            {}
        };
        if timeout(TIMEOUT / 2, waiting).await.is_err() {
            let text = self
                .evaluate("location.href + '\\n' + document.body?.innerText")
                .await
                .unwrap_or_default();
            panic!(
                "never: {condition}\n{}\n{:?}",
                text["result"]["value"].as_str().unwrap_or_default(),
                self.problems()
            );
        }
    }

    /// Waits until the text that a person sees in an element contains a part. Any white space counts as one space.
    pub(crate) async fn wait_for_text(&self, selector: &str, part: &str) {
        let (selector, part) = (json!(selector), json!(part));
        self.wait_for(&format!(
            "document.querySelector({selector})?.innerText.replace(/\\s+/g, ' ').includes({part})"
        ))
        .await;
    }

    /// Returns the text that a person sees in an element, with single spaces.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let text = self
            .eval(&format!(
                "document.querySelector({}).innerText.replace(/\\s+/g, ' ')",
                json!(selector)
            ))
            .await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Presses a key that is one character, or has a name such as `ArrowLeft`.
    pub(crate) async fn press(&self, key: &str) {
        let text = match key {
            "Enter" => "\r",
            key if key.chars().count() == 1 => key,
            _ => "",
        };
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "text": if kind == "keyDown" { text } else { "" }, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Types a text into the field that has the focus.
    pub(crate) async fn type_text(&self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Moves the focus to an element.
    pub(crate) async fn focus(&self, selector: &str) {
        self.eval(&format!("document.querySelector({}).focus()", json!(selector)))
            .await;
    }

    /// Clicks an element in its middle.
    pub(crate) async fn click(&self, selector: &str) {
        let place = self.middle(selector).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Moves the pointer over an element.
    pub(crate) async fn hover(&self, selector: &str) {
        let place = self.middle(selector).await;
        let event = json!({"type": "mouseMoved", "x": place[0], "y": place[1]});
        self.call("Input.dispatchMouseEvent", event).await;
    }

    /// Scrolls to an element and returns where its middle is.
    async fn middle(&self, selector: &str) -> Value {
        let place = format!(
            "(() => {{ const node = document.querySelector({}); node.scrollIntoView({{ block: 'center' }}); \
             const box = node.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        );
        self.eval(&place).await
    }

    /// Returns the errors and warnings that the browser has reported: violations of the policy, exceptions, console
    /// messages. Requests that failed are not among them, because the browser reports also those that the page expects
    /// to fail.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.lock().clone()
    }
}

fn is_problem(event: &Value) -> bool {
    match event["method"].as_str().unwrap_or_default() {
        "Runtime.exceptionThrown" => true,
        "Runtime.consoleAPICalled" => {
            ["error", "warning", "assert"].contains(&event["params"]["type"].as_str().unwrap_or_default())
        }
        "Log.entryAdded" => {
            let entry = &event["params"]["entry"];
            entry["source"] != "network" && (entry["level"] == "error" || entry["level"] == "warning")
        }
        _ => false,
    }
}
