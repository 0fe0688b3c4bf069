//! The table of paths and the methods of each.

use health_core::token::Scope;
use hyper::Method;

use crate::http::{
    auth::Rule,
    page::{self, PageFile},
};

/// An endpoint, as its path names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Ingest,
    HealthAutoExport,
    HealthConnect,
    WriteV2,
    WriteV1,
    Stats,
    Series,
    Percentiles,
    Users,
    User(&'a str),
    Samples,
    Feed,
    Healthy,
    Ready,
    Prometheus,
    OpenApi,
    /// A file of the page for browsers.
    Page(&'static PageFile),
}

impl<'a> Route<'a> {
    /// The paths that a client may have misspelt. Those of the page's files are not among them.
    pub(crate) const TEMPLATES: [&'static str; 16] = [
        "/ingest",
        "/ingest/health-auto-export",
        "/ingest/health-connect",
        "/api/v2/write",
        "/write",
        "/metrics",
        "/metrics/series",
        "/metrics/percentiles",
        "/users",
        "/users/{user_id}",
        "/samples",
        "/feed",
        "/-/healthy",
        "/-/ready",
        "/-/metrics",
        "/openapi.json",
    ];

    /// Returns the endpoint of a path. Paths are compared byte by byte, without decoding.
    pub(crate) fn find(path: &'a str) -> Option<Self> {
        Some(match path {
            "/ingest" | "/ingest/" => Self::Ingest,
            "/ingest/health-auto-export" | "/ingest/health-auto-export/" => Self::HealthAutoExport,
            "/ingest/health-connect" | "/ingest/health-connect/" => Self::HealthConnect,
            "/api/v2/write" | "/api/v2/write/" => Self::WriteV2,
            "/write" | "/write/" => Self::WriteV1,
            "/metrics" => Self::Stats,
            "/metrics/series" => Self::Series,
            "/metrics/percentiles" => Self::Percentiles,
            "/users" => Self::Users,
            "/samples" => Self::Samples,
            "/feed" => Self::Feed,
            "/-/healthy" => Self::Healthy,
            "/-/ready" => Self::Ready,
            "/-/metrics" => Self::Prometheus,
            "/openapi.json" => Self::OpenApi,
            _ if path == "/" || path.starts_with(page::FOLDER) => Self::Page(page::find(path)?),
            _ => {
                let id = path.strip_prefix("/users/")?;
                let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
                return digits.then_some(Self::User(id));
            }
        })
    }

    /// Returns the supported methods, in the form of the `Allow` header.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            route if route.takes_samples() => "POST, OPTIONS",
            Self::User(_) => "DELETE, OPTIONS",
            Self::Samples => "GET, HEAD, DELETE, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Returns whether the endpoint has a handler for the method. `OPTIONS` needs none.
    pub(crate) fn allows(self, method: &Method) -> bool {
        match self {
            route if route.takes_samples() => method == Method::POST,
            Self::User(_) => method == Method::DELETE,
            Self::Samples => [Method::GET, Method::HEAD, Method::DELETE].contains(method),
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    /// Returns what a request needs once a token exists. Each endpoint has a rule for each of its methods.
    pub(crate) fn rule(self, method: &Method) -> Rule {
        match self {
            Self::Ingest | Self::HealthAutoExport | Self::HealthConnect | Self::WriteV2 | Self::WriteV1 => {
                Rule::Scope(Scope::Ingest)
            }
            Self::Samples if *method == Method::DELETE => Rule::Scope(Scope::Erase),
            Self::Stats
            | Self::Series
            | Self::Percentiles
            | Self::Users
            | Self::Samples
            | Self::Feed
            | Self::Prometheus => Rule::Scope(Scope::Read),
            Self::User(_) => Rule::Scope(Scope::Erase),
            // The files are in every copy of the program. The page asks the person for a token and sends it with its
            // requests.
            Self::Healthy | Self::Ready | Self::Page(_) => Rule::Public,
            Self::OpenApi => Rule::AnyToken,
        }
    }

    /// Returns whether the endpoint stores the samples of a body.
    fn takes_samples(self) -> bool {
        matches!(
            self,
            Self::Ingest | Self::HealthAutoExport | Self::HealthConnect | Self::WriteV2 | Self::WriteV1
        )
    }

    /// Returns whether the endpoint takes query parameters. Its handler then checks them.
    pub(crate) fn has_parameters(self) -> bool {
        matches!(
            self,
            Self::HealthAutoExport
                | Self::HealthConnect
                | Self::WriteV2
                | Self::WriteV1
                | Self::Stats
                | Self::Series
                | Self::Percentiles
                | Self::Users
                | Self::Samples
                | Self::Feed
        )
    }

    /// Returns the path as `openapi.json` and the labels of the metrics have it.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Ingest => "/ingest",
            Self::HealthAutoExport => "/ingest/health-auto-export",
            Self::HealthConnect => "/ingest/health-connect",
            Self::WriteV2 => "/api/v2/write",
            Self::WriteV1 => "/write",
            Self::Stats => "/metrics",
            Self::Series => "/metrics/series",
            Self::Percentiles => "/metrics/percentiles",
            Self::Users => "/users",
            Self::User(_) => "/users/{user_id}",
            Self::Samples => "/samples",
            Self::Feed => "/feed",
            Self::Healthy => "/-/healthy",
            Self::Ready => "/-/ready",
            Self::Prometheus => "/-/metrics",
            Self::OpenApi => "/openapi.json",
            Self::Page(file) if file.path == "/" => "/",
            Self::Page(_) => "/page/{file}",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_not_normalized() {
        for path in Route::TEMPLATES.into_iter().chain(["/"]) {
            let found = Route::find(&path.replace("{user_id}", "7")).map(Route::template);
            assert_eq!(found, Some(path));
        }
        assert_eq!(Route::find("/ingest/"), Some(Route::Ingest));
        assert_eq!(Route::find("/page/main.js").map(Route::template), Some("/page/{file}"));
        assert_eq!(Route::find("/ingest/health-connect/"), Some(Route::HealthConnect));
        assert_eq!(Route::find("/write/"), Some(Route::WriteV1));
        assert_eq!(Route::find("/users/101"), Some(Route::User("101")));
        for path in [
            "",
            "/page",
            "/page/",
            "/page/../main.js",
            "/page/openapi.json",
            "*",
            "/metrics/",
            "/INGEST",
            "/ingest/health",
            "/api/v2",
            "//ingest",
            "/users/",
            "/users/abc",
            "/users/-1",
            "/users/1/",
        ] {
            assert_eq!(Route::find(path), None, "{path}");
        }
    }
}
