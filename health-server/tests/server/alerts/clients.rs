//! Clients that read too slowly, are too many, or send wrong tokens; tokens that expire.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::join;

use super::prometheus::{Prometheus, Target};
use crate::{
    client::FeedConnection,
    guarded::Guarded,
    support::{Server, records},
};

/// More wrong tokens than the alert tolerates.
const WRONG_TOKENS: usize = 110;

/// The number of samples that were sent, if none was for more than a second. The scrapes are half a second apart.
const NOTHING_SENT: &str = "health_feed_samples_total and changes(health_feed_samples_total[2s]) == 0";

/// A subscriber does not read, until samples are evicted that it has not got.
async fn misses(prometheus: &Prometheus, server: &Server) {
    let _stalled = server.subscribed("").await;
    // More than all socket buffers hold.
    for user in 1..=4 {
        assert_eq!(server.post("x-ndjson", records(user, 20_000)).await.status, 200);
    }
    prometheus.fires("HealthFeedMisses", server.http).await;
}

/// A subscriber does not read for a second, and then reads what was kept for it.
async fn slow(prometheus: &Prometheus, server: &Server) {
    let mut stalled = server.subscribed("").await;
    for user in 1..=4 {
        assert_eq!(server.post("x-ndjson", records(user, 20_000)).await.status, 200);
    }
    prometheus.reaches(NOTHING_SENT, 1.0, server.http).await;
    let read_all = async {
        for _ in 0..80_000 {
            stalled.sample().await;
        }
    };
    join!(read_all, prometheus.fires("HealthFeedSlow", server.http));
}

/// More clients connect than the limit allows.
async fn refused(prometheus: &Prometheus, server: &Server) {
    let _first = server.feed().await;
    let mut second = FeedConnection::connect(server.feed).await;
    let (event, reason) = second.event_and_reason().await;
    assert_eq!(event, "error", "{reason}");
    prometheus.fires("HealthConnectionsRefused", server.http).await;
}

/// A device goes on with a revoked token, or somebody guesses.
async fn wrong(prometheus: &Prometheus, server: &Server) {
    let guess = async || {
        let headers = [("authorization", "Bearer health_0123456789")];
        let mut http = server.connect().await;
        http.request("GET", "/users", &headers, b"").await.status
    };
    let statuses = join_all((0..WRONG_TOKENS).map(|_| guess())).await;
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    prometheus.fires("HealthWrongTokens", server.http).await;
}

/// A token of six days is made, and revoked.
async fn expires(prometheus: &Prometheus, guarded: &mut Guarded) {
    guarded.token_for("guest", Duration::from_hours(6 * 24)).await;
    prometheus.fires("HealthTokenExpires", guarded.server.http).await;
    guarded.revoke("guest").await;
    prometheus.ends("HealthTokenExpires", guarded.server.http).await;
}

#[tokio::test]
async fn alerts_about_clients_fire_at_real_faults() {
    let misses_server = Server::with_limits(|_, core| core.subscriber_queue = 1000).await;
    let slow_server = Server::start().await;
    let refused_server = Server::with_limits(|server, _| server.max_feed_connections = 1).await;
    let (mut wrong_guarded, mut expires_guarded) = (Guarded::start().await, Guarded::start().await);
    let mut targets = [misses_server.http, slow_server.http, refused_server.http]
        .map(Target::from)
        .to_vec();
    for guarded in [&mut wrong_guarded, &mut expires_guarded] {
        let token = guarded.token("prometheus", "read", None).await.secret;
        targets.push(Target {
            token: Some(token),
            ..Target::from(guarded.server.http)
        });
    }
    let Some(prometheus) = Prometheus::watch(targets).await else {
        return;
    };
    join!(
        misses(&prometheus, &misses_server),
        slow(&prometheus, &slow_server),
        refused(&prometheus, &refused_server),
        wrong(&prometheus, &wrong_guarded.server),
        expires(&prometheus, &mut expires_guarded),
    );
    prometheus.stop().await;
}
