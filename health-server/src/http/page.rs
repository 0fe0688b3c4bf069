//! `GET /` and `/page/…`: the page for browsers. Its files are part of the program, in `health-server/page/`.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use bytes::Bytes;
use health_core::AlertThresholds;
use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderName, HeaderValue},
};

use crate::http::response::{HttpResponse, empty, with_body};

/// The folder of all files but `/` itself.
pub(crate) const FOLDER: &str = "/page/";

/// Only files and answers of this server, no script or style in the HTML, no frame around the page. `trusted-types`
/// without a policy lets no text become HTML: a browser that knows it refuses `innerHTML` as a whole.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// The files by path, in the order in which a browser meets them.
static FILES: LazyLock<Vec<PageFile>> = LazyLock::new(|| {
    const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
    let script = |path, text: &'static str| PageFile::new(path, JAVASCRIPT, Bytes::from_static(text.as_bytes()));
    vec![
        PageFile::new(
            "/",
            "text/html; charset=utf-8",
            include_str!("../../page/index.html").into(),
        ),
        PageFile::new(
            "/page/style.css",
            "text/css; charset=utf-8",
            include_str!("../../page/style.css").into(),
        ),
        PageFile::new(
            "/page/icon.svg",
            "image/svg+xml",
            include_str!("../../page/icon.svg").into(),
        ),
        script("/page/main.js", include_str!("../../page/main.js")),
        script("/page/alarms.js", include_str!("../../page/alarms.js")),
        script("/page/connection.js", include_str!("../../page/connection.js")),
        script("/page/erasures.js", include_str!("../../page/erasures.js")),
        script("/page/keys.js", include_str!("../../page/keys.js")),
        script("/page/minutes.js", include_str!("../../page/minutes.js")),
        script("/page/token.js", include_str!("../../page/token.js")),
        script("/page/answer.js", include_str!("../../page/answer.js")),
        script("/page/chart.js", include_str!("../../page/chart.js")),
        script("/page/dom.js", include_str!("../../page/dom.js")),
        script("/page/events.js", include_str!("../../page/events.js")),
        script("/page/feed.js", include_str!("../../page/feed.js")),
        script("/page/live.js", include_str!("../../page/live.js")),
        script("/page/notice.js", include_str!("../../page/notice.js")),
        script("/page/range.js", include_str!("../../page/range.js")),
        script("/page/server.js", include_str!("../../page/server.js")),
        script("/page/sparkline.js", include_str!("../../page/sparkline.js")),
        script("/page/table.js", include_str!("../../page/table.js")),
        script("/page/text.js", include_str!("../../page/text.js")),
        script("/page/user.js", include_str!("../../page/user.js")),
        script("/page/users.js", include_str!("../../page/users.js")),
        PageFile::new("/page/thresholds.js", JAVASCRIPT, thresholds().into()),
    ]
});

/// A file of the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PageFile {
    pub(crate) path: &'static str,
    media_type: &'static str,
    content: Bytes,
    /// Changes with the content, so that a browser sees the next version of the program at once.
    entity_tag: HeaderValue,
}

/// Returns the file of a path.
pub(crate) fn find(path: &str) -> Option<&'static PageFile> {
    FILES.iter().find(|file| file.path == path)
}

/// `GET /` and `/page/…`: the file, or 304 if the browser has it.
pub(crate) fn page(file: &PageFile, request: &HeaderMap) -> HttpResponse {
    let mut response = if file.is_known(request) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        with_body(StatusCode::OK, file.media_type, file.content.clone())
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, file.entity_tag.clone());
    for (name, value) in [
        // The browser asks each time whether its copy is current.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns a script with the thresholds of the alerts, which are the defaults of the dashboard.
fn thresholds() -> String {
    let AlertThresholds { high, low, stale_s } = AlertThresholds::default();
    format!(
        "// The thresholds of the alerts: health_core::AlertThresholds.\n\
         export const thresholds = Object.freeze({{ high: {high}, low: {low}, stale_s: {stale_s} }});\n"
    )
}

impl PageFile {
    fn new(path: &'static str, media_type: &'static str, content: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let entity_tag = format!("\"{:016x}\"", hasher.finish());
        Self {
            path,
            media_type,
            entity_tag: HeaderValue::try_from(entity_tag).unwrap_or(HeaderValue::from_static("\"\"")),
            content,
        }
    }

    /// Returns whether `If-None-Match` names this version of the file (RFC 9110, 13.1.2).
    fn is_known(&self, request: &HeaderMap) -> bool {
        let lists = request.get_all(header::IF_NONE_MATCH).iter();
        let mut tags = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
        tags.any(|tag| {
            let tag = tag.trim_ascii();
            tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.entity_tag.as_bytes()
        })
    }
}
