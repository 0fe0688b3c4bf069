//! Runs queries over HTTP. Each query has a task of its own that can be cancelled.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use health_core::{
    Bucket, PercentilesResponse, Sample, SeriesResponse, StatsResponse, UsersResponse, format_timestamp,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::AbortHandle, time::timeout};

use crate::{
    app::{ChartData, NetworkEvent, Query, QueryError, QueryResponse, UserRangeStats, WindowResponse},
    net::http::{HttpClient, HttpConnection},
    store::RING_SAMPLES_MAX,
};

/// The timeout of a query with all its requests. Statistics of years take a few seconds.
const QUERY_TIMEOUT_SECONDS: u64 = 60;

/// The number of users in one page: the largest that the server allows.
const PAGE_USERS: u32 = 1_000;

/// The ranges that are searched for older samples, in minutes, until the sparkline is full.
///
/// Ten minutes suffice for a device that sends every second, a day for one that sends every half hour.
const HISTORY_MINUTES: [i64; 3] = [10, 120, 1_440];

/// The percentiles of the range statistics form.
const FORM_PERCENTILES: &str = "50,95,99";

/// The running queries.
pub(crate) struct QueryTasks {
    client: HttpClient,
    to: mpsc::Sender<NetworkEvent>,
    running: HashMap<u64, AbortHandle>,
}

impl Drop for QueryTasks {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

impl QueryTasks {
    pub(crate) fn new(client: HttpClient, to: mpsc::Sender<NetworkEvent>) -> Self {
        Self {
            client,
            to,
            running: HashMap::new(),
        }
    }

    /// Starts a query. Its responses arrive as [`NetworkEvent::Response`].
    pub(crate) fn start(&mut self, id: u64, query: Query) {
        self.running.retain(|_, task| !task.is_finished());
        let (client, responses) = (
            self.client.clone(),
            Responses {
                id,
                to: self.to.clone(),
            },
        );
        let task = tokio::spawn(async move {
            let run = run(&client, query, &responses);
            let result = timeout(Duration::from_secs(QUERY_TIMEOUT_SECONDS), run)
                .await
                .unwrap_or(Err(QueryError::TimedOut {
                    seconds: QUERY_TIMEOUT_SECONDS,
                }));
            responses.send(result).await;
        });
        self.running.insert(id, task.abort_handle());
    }

    pub(crate) fn cancel(&mut self, id: u64) {
        if let Some(task) = self.running.remove(&id) {
            task.abort();
        }
    }
}

/// Sends the responses of one query to the event loop.
struct Responses {
    id: u64,
    to: mpsc::Sender<NetworkEvent>,
}

impl Responses {
    async fn send(&self, result: Result<QueryResponse, QueryError>) {
        // Without a receiver the dashboard has ended, and this task ends too.
        _ = self.to.send(NetworkEvent::Response { id: self.id, result }).await;
    }

    async fn send_part(&self, samples: Vec<Sample>) {
        self.send(Ok(QueryResponse::Samples { samples, last: false })).await;
    }
}

async fn run(client: &HttpClient, query: Query, responses: &Responses) -> Result<QueryResponse, QueryError> {
    let mut connection = client.connect().await?;
    match query {
        Query::Users => connection.all_users(responses).await,
        Query::History { users } => connection.history(users, responses).await,
        Query::Window {
            user,
            start,
            end,
            bucket,
            visible,
        } => {
            let stats = connection.stats(user, visible.0, visible.1).await?;
            let percentiles = connection
                .percentiles(user, visible.0, visible.1, &all_percentiles())
                .await?;
            let chart = match bucket {
                None => ChartData::Samples(connection.samples(user, start, end).await?),
                Some(bucket) => {
                    let series = connection.series(user, start, end, bucket, Tz::UTC).await?;
                    ChartData::Buckets(series.buckets)
                }
            };
            Ok(QueryResponse::Window(Box::new(WindowResponse {
                chart,
                stats,
                percentiles,
            })))
        }
        Query::Range {
            users,
            start,
            end,
            bucket,
            tz,
        } => {
            let mut all = Vec::with_capacity(users.len());
            for user in users {
                all.push(UserRangeStats {
                    stats: connection.stats(user, start, end).await?,
                    buckets: connection.series(user, start, end, bucket, tz).await?.buckets,
                    percentiles: connection.percentiles(user, start, end, FORM_PERCENTILES).await?,
                });
            }
            Ok(QueryResponse::Range(all))
        }
    }
}

impl HttpConnection<'_> {
    /// Reads the newest sample of every user. Each page but the last is sent at once, so that the table fills early.
    async fn all_users(&mut self, responses: &Responses) -> Result<QueryResponse, QueryError> {
        let mut after = String::new();
        loop {
            let page: UsersResponse = self.get_json(&format!("/users?limit={PAGE_USERS}{after}")).await?;
            let samples = page.users.into_iter().map(|user| user.last).collect();
            let Some(next) = page.next else {
                return Ok(QueryResponse::Samples { samples, last: true });
            };
            after = format!("&after={}", next.get());
            responses.send_part(samples).await;
        }
    }

    /// Reads the older samples of each user. Each user is sent at once, so that the rows fill from the top.
    async fn history(
        &mut self,
        users: Vec<(i64, DateTime<Utc>)>,
        responses: &Responses,
    ) -> Result<QueryResponse, QueryError> {
        for (user, newest) in users {
            let end = newest + TimeDelta::microseconds(1);
            let mut samples = Vec::new();
            for minutes in HISTORY_MINUTES {
                samples = self.samples(user, end - TimeDelta::minutes(minutes), end).await?;
                if samples.len() >= RING_SAMPLES_MAX {
                    break;
                }
            }
            let excess = samples.len().saturating_sub(RING_SAMPLES_MAX);
            responses.send_part(samples.split_off(excess)).await;
        }
        Ok(QueryResponse::Samples {
            samples: Vec::new(),
            last: true,
        })
    }

    async fn stats(
        &mut self,
        user: i64,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Result<StatsResponse, QueryError> {
        let range = range_parameters(user, start, end);
        self.get_json(&format!("/metrics?{range}")).await
    }

    async fn series(
        &mut self,
        user: i64,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        bucket: Bucket,
        tz: Tz,
    ) -> Result<SeriesResponse, QueryError> {
        let range = range_parameters(user, start, end);
        let tz = utf8_percent_encode(tz.name(), NON_ALPHANUMERIC);
        self.get_json(&format!("/metrics/series?{range}&bucket={bucket}&tz={tz}"))
            .await
    }

    async fn percentiles(
        &mut self,
        user: i64,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        percentiles: &str,
    ) -> Result<PercentilesResponse, QueryError> {
        let range = range_parameters(user, start, end);
        self.get_json(&format!("/metrics/percentiles?{range}&p={percentiles}"))
            .await
    }

    async fn samples(
        &mut self,
        user: i64,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Result<Vec<Sample>, QueryError> {
        let path = format!("/samples?{}", range_parameters(user, start, end));
        let body = self.get(&path).await?;
        body.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).map_err(|error| unreadable(&path, &error)))
            .collect()
    }

    async fn get_json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, QueryError> {
        let body = self.get(path).await?;
        serde_json::from_slice(&body).map_err(|error| unreadable(path, &error))
    }
}

fn unreadable(path: &str, error: &serde_json::Error) -> QueryError {
    QueryError::Unreadable {
        path: path.split('?').next().unwrap_or(path).to_owned(),
        reason: error.to_string(),
    }
}

/// Returns `1,2,…,100`. The heart-rate zones count these percentiles.
fn all_percentiles() -> String {
    (1..=100)
        .map(|percent| percent.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

fn range_parameters(user: i64, start: DateTime<Utc>, end: DateTime<Utc>) -> String {
    // The server cuts times to microseconds. The range must not become empty by that.
    let end = end.max(start + TimeDelta::microseconds(1));
    format!(
        "user_id={user}&start={}&end={}",
        format_timestamp(start),
        format_timestamp(end)
    )
}
