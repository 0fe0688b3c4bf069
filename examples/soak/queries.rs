//! A client that asks what an application asks: statistics, series, percentiles, users, exports.

use chrono::TimeDelta;
use examples::Result;
use health_core::TimeRange;
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::{client::Client, erasing::range_query, recorder::Recorder};

/// The time between two queries.
const PERIOD: Duration = Duration::from_millis(250);

/// Asks until it is dropped. Each second query is that of 24 hours, whose latency is recorded.
pub(crate) async fn query(client: Client, recorder: Recorder, users: i64) -> Result<()> {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u64.. {
        ticks.tick().await;
        let user = fastrand::i64(1..=users);
        let day = range_query(user, TimeRange::last(TimeDelta::hours(24)));
        if number % 2 == 0 {
            let answer = client.get(&format!("/metrics?{day}")).await?;
            recorder.queried(answer.elapsed);
            continue;
        }
        let path = match number / 2 % 5 {
            0 => format!("/metrics/series?{day}&bucket=1h&tz=Europe/Berlin"),
            1 => format!("/metrics/series?{day}&bucket=5m"),
            2 => format!("/metrics/percentiles?{day}&p=50,95,99"),
            3 => format!("/users?limit=100&after={user}"),
            _ => format!(
                "/samples?{}",
                range_query(user, TimeRange::last(TimeDelta::minutes(10)))
            ),
        };
        client.get(&path).await?;
    }
    Ok(())
}
