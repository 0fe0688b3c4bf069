//! What a token costs a query: the same query with a token, and without one before the token was created.

use chrono::TimeDelta;
use examples::{
    Connection, Result,
    bench::{Latencies, Row},
    server_process::ServerProcess,
};
use health_core::{Config, access::TokenAdmin, token::NewToken};

use crate::Bench;

/// Calls of each turn.
const CALLS: usize = 500;

/// Turns with and without a token, one after the other.
const TURNS: usize = 6;

/// Measures `/metrics` over an hour in turns, each with a server of its own: a server that has seen a token asks for
/// one for ever.
pub(crate) async fn compare(bench: &mut Bench<'_>, mut server: ServerProcess, database_url: &str) -> Result<Row> {
    let path = format!("/metrics?{}", bench.last(TimeDelta::hours(1)));
    server.stop().await?;
    let (mut without, mut with) = (Latencies::default(), Latencies::default());
    for turn in 0..TURNS {
        bench
            .progress
            .show(format!("/metrics with a token, turn {} of {TURNS}", turn + 1));
        let has_token = turn % 2 == 1;
        bench.sql.batch_execute("DELETE FROM health_tokens").await?;
        let token = if has_token {
            Some(create_token(database_url).await?)
        } else {
            None
        };
        let mut server = ServerProcess::start(database_url).await?;
        let mut http = Connection::open(server.http()).await?;
        if let Some(token) = &token {
            http = http.with_token(token);
        }
        for _ in 0..CALLS / 5 {
            http.get(&path).await?;
        }
        let latencies = if has_token { &mut with } else { &mut without };
        for _ in 0..CALLS {
            latencies.measure(http.get(&path)).await?;
        }
        server.stop().await?;
    }
    bench.sql.batch_execute("DELETE FROM health_tokens").await?;
    let (without, with) = (without.percentile_ms(50), with.percentile_ms(50));
    let row = Row::new(
        "/metrics, an hour, p50 with a token, to without",
        format!("{with:.3} to {without:.3} ms"),
    );
    Ok(row.at_most(with / without, 1.03, ""))
}

async fn create_token(database_url: &str) -> Result<String> {
    let mut admin = TokenAdmin::connect(&Config::from_url(database_url)?).await?;
    let token = NewToken {
        name: "bench".parse()?,
        scopes: "read".parse()?,
        users: None,
        valid_for: None,
    };
    Ok(admin.create(&token).await?.as_str().to_owned())
}
