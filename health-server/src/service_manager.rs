//! What the program tells systemd if systemd started it (`Type=notify`): that it serves, that it stops, and that it
//! lives.
//!
//! Without systemd, these functions do nothing. For a unit with `Type=notify` and `WatchdogSec=`, systemd sets the
//! variables `NOTIFY_SOCKET` and `WATCHDOG_USEC`.

use std::{
    convert::Infallible,
    future::pending,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// How many round trips there are in the time after which systemd ends a silent service. More than two, so that one
/// slow round trip does not end it.
const ROUND_TRIPS: u32 = 3;

/// What a round trip asks for. It needs neither a token nor the database.
const REQUEST: &[u8] = b"GET /-/healthy HTTP/1.0\r\nHost: localhost\r\n\r\n";

/// Says that the program serves. From now on the services that were waiting for it may start.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the program stops, so that what it still stores does not count as a hang.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells systemd again and again that the program lives, if systemd asks for it. Each time the task first sends a
/// request to our own HTTP port, so systemd restarts a server that does not accept or answer.
///
/// The database does not matter here: if it is out of reach, a restart of this program cures nothing.
pub(crate) async fn keep_watchdog(http: SocketAddr) -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    let interval = limit / ROUND_TRIPS;
    loop {
        match round_trip(http, interval).await {
            Ok(()) => tell(&[NotifyState::Watchdog]),
            Err(error) => {
                tracing::error!(%error, "the HTTP port does not answer; systemd restarts this server if it stays so");
            }
        }
        sleep(interval).await;
    }
}

/// Sends a request to our own port and waits for an answer, whatever it is: a port that speaks TLS answers with a
/// refusal.
async fn round_trip(http: SocketAddr, limit: Duration) -> io::Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(reachable(http)).await?;
        stream.write_all(REQUEST).await?;
        let mut answer = [0; 1];
        stream.read(&mut answer).await
    };
    match timeout(limit, exchange).await {
        Ok(answered) => answered.map(|_| ()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Returns an address at which this machine reaches a listening socket that may be bound to all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager about the state of this server");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_round_trip_fails_if_nobody_answers_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let error = round_trip(address, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(listener);
        assert!(round_trip(address, Duration::from_secs(30)).await.is_err());
    }

    #[test]
    fn a_socket_that_is_bound_to_all_addresses_is_reached_through_the_loopback_interface() {
        for (bound, reached) in [
            ("0.0.0.0:8000", "127.0.0.1:8000"),
            ("[::]:8000", "[::1]:8000"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
