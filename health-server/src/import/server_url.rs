//! The URL of the server, as `--server` has it.

use std::{fmt, str::FromStr};

use health_core::client::port_of_authority;
use hyper::Uri;

/// The endpoints that take records. A user may have copied one of them from the page of an app.
const ENDPOINTS: [&str; 5] = [
    "/ingest",
    "/ingest/health-auto-export",
    "/ingest/health-connect",
    "/api/v2/write",
    "/write",
];

/// The URL of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerUrl {
    host: String,
    port: u16,
    pub(super) is_tls: bool,
    /// The path before every request path, without a slash at its end.
    prefix: String,
}

impl ServerUrl {
    /// Returns `HOST:PORT`. An IPv6 address stands in brackets.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Returns the target of requests that store records.
    pub(super) fn ingest_path(&self) -> String {
        format!("{}/ingest", self.prefix)
    }

    /// Returns the URL without its path, or `None` if it has none.
    pub(super) fn without_path(&self) -> Option<Self> {
        (!self.prefix.is_empty()).then(|| Self {
            prefix: String::new(),
            ..self.clone()
        })
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not the URL of a server: write it like http://127.0.0.1:8000.");
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid()),
        };
        if uri.query().is_some()
            || uri
                .authority()
                .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(invalid());
        }
        let port = uri.authority().map(|authority| port_of_authority(authority.as_str()));
        let port = port
            .transpose()
            .map_err(|reason| format!("{text:?}: {reason}."))?
            .flatten();
        let url = Self {
            host: uri
                .host()
                .filter(|host| !host.is_empty())
                .ok_or_else(invalid)?
                .to_owned(),
            port: port.unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        };
        let endpoints = ENDPOINTS
            .iter()
            .filter_map(|endpoint| url.prefix.strip_suffix(endpoint));
        if let Some(prefix) = endpoints.min_by_key(|prefix| prefix.len()) {
            let url = Self {
                prefix: prefix.to_owned(),
                ..url
            };
            return Err(format!(
                "{text:?} has the path of an endpoint, which import adds by itself: write --server {url}."
            ));
        }
        Ok(url)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.address(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_a_host_and_perhaps_a_port_and_a_path() {
        for (text, address, path) in [
            ("http://127.0.0.1:8000", "127.0.0.1:8000", "/ingest"),
            ("http://[::1]/", "[::1]:80", "/ingest"),
            ("https://health.example/h/", "health.example:443", "/h/ingest"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!((url.address().as_str(), url.ingest_path().as_str()), (address, path));
            assert_eq!(url.to_string().parse(), Ok(url));
        }
        for text in [
            "",
            "127.0.0.1:8000",
            "ftp://a",
            "http://",
            "http://a?b=c",
            "http://u:p@a",
            "http://127.0.0.1:99999",
            "http://127.0.0.1:-1",
            "http://127.0.0.1:abc/x",
            "http://[::1]:0",
            "/x",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_url_of_an_endpoint_is_answered_with_the_one_of_its_server() {
        for (text, expected) in [
            ("http://127.0.0.1:8000/ingest", "write --server http://127.0.0.1:8000."),
            ("http://127.0.0.1:8000/ingest/", "write --server http://127.0.0.1:8000."),
            (
                "https://health.example/h/ingest/health-connect",
                "write --server https://health.example:443/h.",
            ),
            ("http://a/api/v2/write", "write --server http://a:80."),
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(error.contains(text) && error.ends_with(expected), "{error}");
        }
    }
}
