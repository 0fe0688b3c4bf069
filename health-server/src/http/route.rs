//! Which path is what, and which methods it has.

use hyper::Method;

/// A known path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Ingest,
    Stats,
    Series,
    Percentiles,
    Users,
    User(&'a str),
    Samples,
    Healthy,
    Ready,
    Counters,
    OpenApi,
}

impl<'a> Route<'a> {
    pub(crate) fn find(path: &'a str) -> Option<Self> {
        Some(match path {
            "/ingest" | "/ingest/" => Self::Ingest,
            "/metrics" => Self::Stats,
            "/metrics/series" => Self::Series,
            "/metrics/percentiles" => Self::Percentiles,
            "/users" => Self::Users,
            "/samples" => Self::Samples,
            "/-/healthy" => Self::Healthy,
            "/-/ready" => Self::Ready,
            "/-/metrics" => Self::Counters,
            "/openapi.json" => Self::OpenApi,
            _ => {
                let id = path.strip_prefix("/users/")?;
                let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
                return digits.then_some(Self::User(id));
            }
        })
    }

    /// The methods it has, as `Allow` lists them.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Self::Ingest => "POST, OPTIONS",
            Self::User(_) => "DELETE, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Whether it has a method, OPTIONS aside.
    pub(crate) fn allows(self, method: &Method) -> bool {
        match self {
            Self::Ingest => method == Method::POST,
            Self::User(_) => method == Method::DELETE,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    /// The path as the counters and the API's description name it.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Ingest => "/ingest",
            Self::Stats => "/metrics",
            Self::Series => "/metrics/series",
            Self::Percentiles => "/metrics/percentiles",
            Self::Users => "/users",
            Self::User(_) => "/users/{user_id}",
            Self::Samples => "/samples",
            Self::Healthy => "/-/healthy",
            Self::Ready => "/-/ready",
            Self::Counters => "/-/metrics",
            Self::OpenApi => "/openapi.json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_stand() {
        for path in [
            "/ingest",
            "/metrics",
            "/metrics/series",
            "/users",
            "/samples",
            "/-/ready",
            "/openapi.json",
        ] {
            assert_eq!(Route::find(path).map(Route::template), Some(path));
        }
        assert_eq!(Route::find("/ingest/"), Some(Route::Ingest));
        assert_eq!(Route::find("/users/101"), Some(Route::User("101")));
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
