//! The address of the feed, and whether it is reached by TLS.

use std::{fmt, net::IpAddr, str::FromStr};

use super::transport::host_and_port;

/// The port of the feed if the address has none.
const FEED_PORT: u16 = 8001;

/// An address of the feed: `HOST:PORT`, `tls://HOST:PORT` or `tcp://HOST:PORT`.
///
/// ```
/// use health_core::client::FeedAddress;
///
/// let address: FeedAddress = "tls://health.example:8001".parse()?;
/// assert!(address.is_tls(false));
/// assert!("health.example".parse::<FeedAddress>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedAddress {
    host_and_port: String,
    /// What the scheme says. `None` without a scheme.
    tls: Option<bool>,
}

impl FeedAddress {
    /// Returns the address of the feed of a server whose HTTP is at `host`. An IPv6 address stands in brackets.
    pub fn of_server(host: &str) -> Self {
        Self {
            host_and_port: format!("{host}:{FEED_PORT}"),
            tls: None,
        }
    }

    /// Returns `HOST:PORT`.
    pub fn host_and_port(&self) -> &str {
        &self.host_and_port
    }

    /// Returns whether the feed is reached by TLS. Without a scheme it is as `server_is_tls` says, because a server
    /// with a certificate uses it on both ports.
    pub fn is_tls(&self, server_is_tls: bool) -> bool {
        self.tls.unwrap_or(server_is_tls)
    }
}

impl FromStr for FeedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("tls", rest)) => (Some(true), rest),
            Some(("tcp", rest)) => (Some(false), rest),
            Some(_) => return Err("write an address like 127.0.0.1:8001 or tls://health.example:8001".to_owned()),
            None => (None, text),
        };
        Ok(Self {
            host_and_port: host_and_port(rest)?,
            tls,
        })
    }
}

impl fmt::Display for FeedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.tls {
            Some(true) => "tls://",
            Some(false) => "tcp://",
            None => "",
        };
        write!(f, "{scheme}{}", self.host_and_port)
    }
}

/// Returns whether nothing that is sent to a host leaves this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_decides_about_tls_and_without_one_the_server_does() {
        for (text, with_http, with_https) in [
            ("a:1", false, true),
            ("tls://a:1", true, true),
            ("tcp://[::1]:1", false, false),
        ] {
            let address: FeedAddress = text.parse().unwrap();
            assert_eq!(
                (address.is_tls(false), address.is_tls(true)),
                (with_http, with_https),
                "{text}"
            );
            assert_eq!(address.to_string(), text);
        }
        for text in ["http://a:1", "tls://a", "a:0", ":1", ""] {
            assert!(text.parse::<FeedAddress>().is_err(), "{text}");
        }
        assert_eq!(FeedAddress::of_server("[::1]").host_and_port(), "[::1]:8001");
    }

    #[test]
    fn only_names_and_addresses_of_this_machine_are_loopback() {
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "::1",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "10.0.0.1",
            "0.0.0.0",
            "[2001:db8::1]",
            "health",
            "",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
