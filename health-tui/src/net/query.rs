//! Questions over HTTP: each in a task of its own that can be cancelled.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use health_core::{
    Calories, PercentilesResponse, Sample, SeriesResponse, StatsResponse, UsersResponse, format_timestamp,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::AbortHandle, time::timeout};

use crate::{
    app::{Answer, BucketWidth, Net, Point, Query, QueryError, UserRange},
    net::http::{Client, Connection},
    store::RING_SAMPLES_MAX,
};

/// For one question, however many requests it takes.
const ANSWER_SECONDS: u64 = 60;

/// Users a page: the most the server gives.
const PAGE: u32 = 1_000;

/// How far back is looked for the past of a sparkline: until it is full, so little of a watch that sends every second, and
/// a day of one that sends every half hour.
const PAST_MINUTES: [i64; 3] = [10, 120, 1_440];

/// The questions under way.
pub(crate) struct Queries {
    client: Client,
    to: mpsc::Sender<Net>,
    running: HashMap<u64, AbortHandle>,
}

impl Drop for Queries {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

impl Queries {
    pub(crate) fn new(client: Client, to: mpsc::Sender<Net>) -> Self {
        Self {
            client,
            to,
            running: HashMap::new(),
        }
    }

    pub(crate) fn ask(&mut self, id: u64, query: Query) {
        self.running.retain(|_, task| !task.is_finished());
        let (client, to) = (self.client.clone(), self.to.clone());
        let task = tokio::spawn(async move {
            let answer = timeout(Duration::from_secs(ANSWER_SECONDS), answer(&client, query, id, &to)).await;
            let result = answer.unwrap_or(Err(QueryError::TooSlow {
                seconds: ANSWER_SECONDS,
            }));
            // Without a receiver the dashboard has ended.
            _ = to.send(Net::Answer { id, result }).await;
        });
        self.running.insert(id, task.abort_handle());
    }

    pub(crate) fn cancel(&mut self, id: u64) {
        if let Some(task) = self.running.remove(&id) {
            task.abort();
        }
    }
}

async fn answer(client: &Client, query: Query, id: u64, to: &mpsc::Sender<Net>) -> Result<Answer, QueryError> {
    let mut connection = client.connect().await?;
    match query {
        Query::Users => everyone(&mut connection, id, to).await,
        Query::Past { users } => past(&mut connection, users, id, to).await,
        Query::Window {
            user,
            start,
            end,
            bucket,
            seen,
        } => {
            let stats = stats(&mut connection, user, seen.0, seen.1).await?;
            let points = match bucket {
                None => points(&samples(&mut connection, user, start, end).await?),
                Some(bucket) => {
                    let series = series(&mut connection, user, start, end, bucket, Tz::UTC).await?;
                    series.buckets.iter().map(Point::of_bucket).collect()
                }
            };
            Ok(Answer::Window {
                points,
                stats: Some(Box::new(stats)),
            })
        }
        Query::Range {
            users,
            start,
            end,
            bucket,
            tz,
        } => {
            let mut answer = Vec::with_capacity(users.len());
            for user in users {
                let stats = stats(&mut connection, user, start, end).await?;
                let buckets = series(&mut connection, user, start, end, bucket, tz).await?.buckets;
                let percentiles = percentiles(&mut connection, user, start, end).await?;
                answer.push(UserRange {
                    stats,
                    buckets,
                    percentiles,
                });
            }
            Ok(Answer::Range(answer))
        }
    }
}

/// Page by page; all but the last are sent as they come, so that a long list fills the table while it is read.
async fn everyone(connection: &mut Connection<'_>, id: u64, to: &mpsc::Sender<Net>) -> Result<Answer, QueryError> {
    let mut after = String::new();
    loop {
        let page: UsersResponse = json(connection, &format!("/users?limit={PAGE}{after}")).await?;
        let samples: Vec<Sample> = page.users.into_iter().map(|u| u.last).collect();
        let Some(next) = page.next else {
            return Ok(Answer::Known { samples, last: true });
        };
        after = format!("&after={}", next.get());
        let result = Ok(Answer::Known { samples, last: false });
        // Without a receiver the dashboard has ended, and this task with it.
        _ = to.send(Net::Answer { id, result }).await;
    }
}

/// User by user, each sent as soon as it is there: rows fill from the top.
async fn past(
    connection: &mut Connection<'_>,
    users: Vec<(i64, DateTime<Utc>)>,
    id: u64,
    to: &mpsc::Sender<Net>,
) -> Result<Answer, QueryError> {
    for (user, newest) in users {
        let end = newest + TimeDelta::microseconds(1);
        let mut samples = Vec::new();
        for minutes in PAST_MINUTES {
            samples = self::samples(connection, user, end - TimeDelta::minutes(minutes), end).await?;
            if samples.len() >= RING_SAMPLES_MAX {
                break;
            }
        }
        let samples = samples.split_off(samples.len().saturating_sub(RING_SAMPLES_MAX));
        let result = Ok(Answer::Known { samples, last: false });
        // Without a receiver the dashboard has ended, and this task with it.
        _ = to.send(Net::Answer { id, result }).await;
    }
    let samples = Vec::new();
    Ok(Answer::Known { samples, last: true })
}

async fn stats(
    c: &mut Connection<'_>,
    user: i64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<StatsResponse, QueryError> {
    json(c, &format!("/metrics?{}", range(user, start, end))).await
}

async fn series(
    c: &mut Connection<'_>,
    user: i64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    bucket: BucketWidth,
    tz: Tz,
) -> Result<SeriesResponse, QueryError> {
    let tz = utf8_percent_encode(tz.name(), NON_ALPHANUMERIC);
    json(
        c,
        &format!(
            "/metrics/series?{}&bucket={}&tz={tz}",
            range(user, start, end),
            bucket.name()
        ),
    )
    .await
}

async fn percentiles(
    c: &mut Connection<'_>,
    user: i64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<PercentilesResponse, QueryError> {
    json(
        c,
        &format!("/metrics/percentiles?{}&p=50,95,99", range(user, start, end)),
    )
    .await
}

async fn samples(
    c: &mut Connection<'_>,
    user: i64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<Vec<Sample>, QueryError> {
    let path = format!("/samples?{}", range(user, start, end));
    let body = c.get(&path).await?;
    body.split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect::<Result<Vec<Sample>, _>>()
        .map_err(|e| QueryError::Unreadable {
            path: "/samples".to_owned(),
            why: e.to_string(),
        })
}

/// What several devices counted at once is counted once, by the server's own rule: in each quarter of an hour the source
/// with the most counts, ties go to the first by name.
fn points(samples: &[Sample]) -> Vec<Point> {
    type Sums<'a> = HashMap<(i64, &'a str), (f64, f64)>;
    let slice = |s: &Sample| s.timestamp().timestamp().div_euclid(900);
    let mut sums: Sums<'_> = HashMap::new();
    for sample in samples {
        let sum = sums.entry((slice(sample), sample.source().as_str())).or_default();
        sum.0 += sample.steps().map_or(0.0, |v| f64::from(v.get()));
        sum.1 += sample.calories().map_or(0.0, Calories::get);
    }
    let mut best: HashMap<i64, (&str, &str)> = HashMap::new();
    for ((slice, source), (steps, calories)) in &sums {
        let winner = best.entry(*slice).or_insert((source, source));
        let ahead = |mine: f64, theirs: f64, name: &str| mine > theirs || (mine >= theirs && *source < name);
        if ahead(*steps, sums.get(&(*slice, winner.0)).map_or(0.0, |s| s.0), winner.0) {
            winner.0 = source;
        }
        if ahead(*calories, sums.get(&(*slice, winner.1)).map_or(0.0, |s| s.1), winner.1) {
            winner.1 = source;
        }
    }
    let mut previous: HashMap<&str, DateTime<Utc>> = HashMap::new();
    samples
        .iter()
        .map(|sample| {
            let source = sample.source().as_str();
            let mut point = Point::of_sample(sample, previous.insert(source, sample.timestamp()));
            let winner = best.get(&slice(sample));
            point.steps = point.steps.filter(|_| winner.is_some_and(|w| w.0 == source));
            point.calories = point.calories.filter(|_| winner.is_some_and(|w| w.1 == source));
            point
        })
        .collect()
}

async fn json<T: DeserializeOwned>(connection: &mut Connection<'_>, path: &str) -> Result<T, QueryError> {
    let body = connection.get(path).await?;
    serde_json::from_slice(&body).map_err(|e| QueryError::Unreadable {
        path: path.split('?').next().unwrap_or(path).to_owned(),
        why: e.to_string(),
    })
}

fn range(user: i64, start: DateTime<Utc>, end: DateTime<Utc>) -> String {
    // The server keeps microseconds; a range must not be empty for having been cut.
    let end = end.max(start + TimeDelta::microseconds(1));
    format!(
        "user_id={user}&start={}&end={}",
        format_timestamp(start),
        format_timestamp(end)
    )
}

#[cfg(test)]
mod tests {
    use health_core::{Readings, Source, Steps, UserId};

    use super::*;

    #[test]
    fn two_devices_are_not_counted_twice() {
        let sample = |s: i64, steps, source| {
            let readings = Readings {
                steps: Steps::new(steps).ok(),
                ..Readings::default()
            };
            let at = DateTime::from_timestamp(1_740_938_400 + s, 0).unwrap();
            Sample::new(UserId::new(1).unwrap(), at, Source::new(source).unwrap(), readings).unwrap()
        };
        let points = points(&[
            sample(0, 10, "watch"),
            sample(1, 8, "phone"),
            sample(8, 10, "watch"),
            sample(900, 5, "phone"),
        ]);
        assert_eq!(
            points.iter().map(|p| p.steps).collect::<Vec<_>>(),
            [Some(10.0), None, Some(10.0), Some(5.0)]
        );
        assert_eq!((points[2].to - points[2].from).num_seconds(), 8);
    }
}
