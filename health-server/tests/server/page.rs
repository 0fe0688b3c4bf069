//! The files of the page, without a browser. `tests/browser` has the page as a person sees it.

use std::collections::BTreeSet;

use crate::support::Server;

/// Returns the paths of the page's files that a text names in quotation marks.
fn named_files(text: &str) -> BTreeSet<String> {
    let quoted = text.split(['"', '\'']).skip(1).step_by(2);
    let path = |name: &str| {
        let file = name.strip_prefix("./").or_else(|| name.strip_prefix("page/"))?;
        let is_file = [".js", ".css", ".svg"].iter().any(|end| file.ends_with(end)) && !file.contains(' ');
        is_file.then(|| format!("/page/{file}"))
    };
    quoted.filter_map(path).collect()
}

#[tokio::test]
async fn the_page_and_all_its_files_come_from_this_server_with_a_strict_policy() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    let mut waiting = BTreeSet::from(["/".to_owned()]);
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop_first() {
        let response = http.request("GET", &path, &[], b"").await;
        assert_eq!(response.status, 200, "{path}");
        let expected = match path.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(response.header("content-type"), Some(expected), "{path}");
        for (header, value) in [
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(response.header(header), Some(value), "{path}");
        }
        let policy = response.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{policy}"
        );
        let hosts = response
            .body
            .split("://")
            .skip(1)
            .filter(|rest| !rest.starts_with("www.w3.org/2000/svg"));
        assert_eq!(hosts.collect::<Vec<_>>(), [""; 0], "{path} names another host");
        // A proxy may serve the page below a path of its own.
        for absolute in ["src=\"/", "href=\"/", "fetch('/"] {
            assert!(!response.body.contains(absolute), "{path} needs the root of the host");
        }
        seen.insert(path);
        waiting.extend(named_files(&response.body).difference(&seen).cloned());
    }
    assert!(seen.len() > 15, "{seen:?}");
}

#[tokio::test]
async fn a_browser_that_has_the_current_version_gets_no_second_copy() {
    let server = Server::start().await;
    let mut http = server.connect().await;
    let tag = http
        .request("GET", "/", &[], b"")
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    let other = http
        .request("GET", "/page/main.js", &[], b"")
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    assert_ne!(tag, other);
    for (known, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("{other}, {tag}"), 304),
        ("*".to_owned(), 304),
        (other, 200),
        ("\"\"".to_owned(), 200),
    ] {
        let response = http.request("HEAD", "/", &[("if-none-match", &known)], b"").await;
        assert_eq!(
            (response.status, response.header("etag")),
            (status, Some(tag.as_str())),
            "{known}"
        );
    }
}
