//! Which path is what, and which methods it has.

use hyper::Method;

/// A known path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Ingest,
    Stats,
    Healthy,
    Ready,
    Metrics,
}

impl Route {
    pub(crate) fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/ingest" | "/ingest/" => Self::Ingest,
            "/metrics" => Self::Stats,
            "/-/healthy" => Self::Healthy,
            "/-/ready" => Self::Ready,
            "/-/metrics" => Self::Metrics,
            _ => return None,
        })
    }

    /// The methods it has, as `Allow` lists them.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Self::Ingest => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Whether it has a method, OPTIONS aside.
    pub(crate) fn allows(self, method: &Method) -> bool {
        match self {
            Self::Ingest => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    /// The path as the counters and the API's description name it.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Ingest => "/ingest",
            Self::Stats => "/metrics",
            Self::Healthy => "/-/healthy",
            Self::Ready => "/-/ready",
            Self::Metrics => "/-/metrics",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_stand() {
        for path in ["/ingest", "/metrics", "/-/ready"] {
            assert_eq!(Route::find(path).map(Route::template), Some(path));
        }
        assert_eq!(Route::find("/ingest/"), Some(Route::Ingest));
        for path in [
            "/",
            "",
            "*",
            "/metrics/",
            "/INGEST",
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
