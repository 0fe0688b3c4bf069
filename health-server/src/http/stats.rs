//! `GET /metrics`: one user over one range.

use health_core::StatsAnswer;
use hyper::StatusCode;

use crate::{
    http::{
        problem::{Refusal, Reply, json},
        query::Query,
    },
    server::App,
};

pub(crate) async fn stats(app: &App, query: Option<&str>) -> Result<Reply, Refusal> {
    let mut query = Query::parse(query, &["user_id", "start", "end"]);
    let found = query.user_and_range();
    let (user_id, range) = query.finish(found)?;
    let stats = app
        .health
        .stats(user_id, range)
        .await
        .map_err(|error| Refusal::of_core(&error))?;
    let message = (stats.samples == 0).then_some("No data found".into());
    Ok(json(
        StatusCode::OK,
        &StatsAnswer {
            user_id,
            start: range.start(),
            end: range.end(),
            stats,
            message,
        },
    ))
}
