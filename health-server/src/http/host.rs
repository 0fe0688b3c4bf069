//! Which hosts a request may name while no token exists.
//!
//! A web page can give its own name the address 127.0.0.1 (DNS rebinding) and then send requests from a user's browser
//! to a server on the same machine. The browser sends the page's name in `Host` and `Origin`, so both are checked. With
//! tokens this is not necessary: a page does not know them.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::{
    HeaderMap, StatusCode, Version,
    header::{self, HeaderName},
    http::request::Parts,
};

use crate::{http::error::HttpError, quote::quote};

/// A host and a port, as `Host`, `Origin` and absolute request targets have them.
#[derive(Debug, PartialEq, Eq)]
struct Authority<'a> {
    /// Without the brackets of an IPv6 address.
    host: &'a str,
    port: Option<u16>,
}

/// Checks that a request has exactly one `Host`, as RFC 9112, 3.2 demands. HTTP/1.0 does not know it.
pub(crate) fn check_one_host(head: &Parts) -> Result<(), HttpError> {
    let detail = match head.headers.get_all(header::HOST).iter().count() {
        0 if head.version == Version::HTTP_11 => "The request has no Host header. HTTP/1.1 needs one.",
        0 | 1 => return Ok(()),
        _ => "The request has several Host headers. Send one.",
    };
    Err(HttpError::new(StatusCode::BAD_REQUEST, detail).closing())
}

/// Checks the host that a request names, and the origin of the page that sent it.
pub(crate) fn check_host_and_origin(head: &Parts, allowed_names: &[String]) -> Result<(), HttpError> {
    let host = single(&head.headers, &header::HOST)?;
    let target = head.uri.authority().map(hyper::http::uri::Authority::as_str);
    for named in [host, target].into_iter().flatten() {
        let is_allowed = Authority::parse(named).is_some_and(|authority| authority.is_allowed(allowed_names));
        if !is_allowed {
            let detail = format!(
                "This server does not serve the host {}. While no token exists, a request must name localhost, an IP \
                 address, or an allowed name. Create a token (health-server token create --name NAME --scope ingest,read), \
                 or start the server with --allow-host NAME.",
                quote(named)
            );
            return Err(HttpError::new(StatusCode::MISDIRECTED_REQUEST, detail));
        }
    }
    let Some(origin) = single(&head.headers, &header::ORIGIN)? else {
        return Ok(());
    };
    let is_same = host.or(target).is_some_and(|host| is_same_origin(origin, host));
    if is_same {
        return Ok(());
    }
    let detail = format!(
        "The web page {} may not send requests to this server. While no token exists, only pages of this server may. Open \
         the page of this server, or create a token (health-server token create --name NAME --scope ingest,read).",
        quote(origin)
    );
    Err(HttpError::new(StatusCode::FORBIDDEN, detail))
}

/// Returns the value of a header that occurs once. `None` if it does not occur.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, HttpError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    text.map(Some).ok_or_else(|| {
        let detail = format!("The header {name} is not one line of ASCII text.");
        HttpError::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// Returns whether an `Origin` names the same host and port as `Host`. The origin `null` never does.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let (authority, default_port) = match origin.split_once("://") {
        Some(("http", authority)) => (authority, 80),
        Some(("https", authority)) => (authority, 443),
        _ => return false,
    };
    let (Some(origin), Some(host)) = (Authority::parse(authority), Authority::parse(host)) else {
        return false;
    };
    // A proxy in front of this server may speak TLS for it. So the default port is that of the origin's scheme.
    origin.host.eq_ignore_ascii_case(host.host)
        && origin.port.unwrap_or(default_port) == host.port.unwrap_or(default_port)
}

impl<'a> Authority<'a> {
    /// Parses `host`, `host:port`, `[::1]` or `[::1]:port`. Returns `None` for another form.
    fn parse(text: &'a str) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, rest)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            // RFC 3986, 3.2.3 permits a colon without a port.
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            None if rest.is_empty() => None,
            _ => return None,
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        (!host.is_empty() && host.bytes().all(is_host)).then_some(Self { host, port })
    }

    fn is_allowed(&self, names: &[String]) -> bool {
        let host = self.host.strip_suffix('.').unwrap_or(self.host);
        let is_address = host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok();
        // RFC 6761, 6.3 reserves localhost and everything below it for the own machine.
        let last_label = host.rsplit('.').next().unwrap_or_default();
        let is_loopback_name = last_label.eq_ignore_ascii_case("localhost");
        let is_named = |name: &String| name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(host);
        is_address || is_loopback_name || names.iter().any(is_named)
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn status(target: &str, headers: &[(&str, &str)]) -> u16 {
        check(target, headers).map_or_else(|error| error.status().as_u16(), |()| 200)
    }

    fn check(target: &str, headers: &[(&str, &str)]) -> Result<(), HttpError> {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let allowed = ["health.example".to_owned(), "Other.Example.".to_owned()];
        check_one_host(&head).and_then(|()| check_host_and_origin(&head, &allowed))
    }

    #[test]
    fn a_refusal_names_the_host_or_page_and_both_remedies() {
        for (origin, host, parts) in [
            ("http://my-server", "my-server", ["\"my-server\"", "--allow-host NAME"]),
            (
                "http://evil.example",
                "localhost",
                ["\"http://evil.example\"", "Open the page of this server"],
            ),
        ] {
            let refused = check("/users", &[("host", host), ("origin", origin)]).unwrap_err();
            let detail = refused.into_problem().detail;
            for part in parts
                .into_iter()
                .chain(["token create --name NAME --scope ingest,read"])
            {
                assert!(detail.contains(part), "{part} is not in {detail}");
            }
        }
    }

    #[test]
    fn loopback_names_addresses_and_allowed_names_are_served() {
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "localhost.",
            "app.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8000",
            "192.0.2.7:80",
            "[::1]",
            "[::1]:8000",
            "[2001:db8::1]:8000",
            "health.example",
            "HEALTH.example:8000",
            "other.example",
            "localhost:",
        ] {
            assert_eq!(status("/users", &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil-localhost",
            "2130706433",
            "0x7f.1",
            "user@127.0.0.1",
            "[::1",
            "::1",
            "127.0.0.1:x",
            "127.0.0.1:99999",
            "",
            "a b",
            "[evil]",
            "www.health.example",
        ] {
            assert_eq!(status("/users", &[("host", host)]), 421, "{host}");
        }
    }

    #[test]
    fn an_absolute_target_is_checked_like_host() {
        assert_eq!(
            status("http://127.0.0.1:8000/users", &[("host", "127.0.0.1:8000")]),
            200
        );
        assert_eq!(status("http://evil.example/users", &[("host", "127.0.0.1:8000")]), 421);
        assert_eq!(status("http://127.0.0.1:8000/users", &[("host", "evil.example")]), 421);
    }

    #[test]
    fn an_http_1_1_request_needs_exactly_one_host() {
        assert_eq!(status("/users", &[]), 400);
        assert_eq!(status("/users", &[("host", "localhost"), ("host", "localhost")]), 400);
    }

    #[test]
    fn an_origin_must_be_the_host_and_port_of_the_request() {
        for (origin, host, expected) in [
            ("http://localhost:8000", "localhost:8000", 200),
            ("HTTP://localhost:8000", "localhost:8000", 403),
            ("http://LOCALHOST:8000", "localhost:8000", 200),
            ("http://[::1]:8000", "[::1]:8000", 200),
            ("http://localhost", "localhost", 200),
            ("http://localhost", "localhost:80", 200),
            ("https://health.example", "health.example", 200),
            ("https://health.example", "health.example:443", 200),
            ("http://localhost:8001", "localhost:8000", 403),
            ("http://127.0.0.1:8000", "localhost:8000", 403),
            ("http://evil.example", "127.0.0.1:8000", 403),
            ("null", "127.0.0.1:8000", 403),
            ("", "127.0.0.1:8000", 403),
            ("file://", "127.0.0.1:8000", 403),
            ("http://127.0.0.1:8000@evil.example", "127.0.0.1:8000", 403),
        ] {
            assert_eq!(
                status("/users", &[("host", host), ("origin", origin)]),
                expected,
                "{origin} {host}"
            );
        }
        let two = [
            ("host", "localhost"),
            ("origin", "http://localhost"),
            ("origin", "http://localhost"),
        ];
        assert_eq!(status("/users", &two), 400);
    }
}
