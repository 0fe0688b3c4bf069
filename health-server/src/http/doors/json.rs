//! `POST /ingest/health-auto-export` and `POST /ingest/health-connect`.
//!
//! These apps send everything again after any other response than 200. So the response is a 200 that names the refused
//! entries.

use health_core::{
    IngestCounts, Rejection, UserId,
    formats::{Grouping, HealthAutoExport, HealthConnect, IgnoredCounts},
};
use hyper::{HeaderMap, StatusCode, body::Incoming};
use serde::Serialize;

use crate::{
    app::App,
    http::{
        auth::Caller,
        body::{BodyReader, json_encoding},
        doors::entries::{DoorOutcome, EntryReader, store_entries},
        error::HttpError,
        framing::require_body,
        query::{Query, user_id},
        response::{HttpResponse, json},
    },
};

/// The header in which Health Auto Export names its setting "time grouping".
const AGGREGATION: &str = "automation-aggregation";

/// The response to a body that was read to its end.
#[derive(Serialize)]
struct DoorResponse {
    #[serde(flatten)]
    counts: IngestCounts,
    rejected: u64,
    ignored: IgnoredCounts,
    errors: Vec<Rejection>,
}

/// Stores what the app Health Auto Export sends.
pub(crate) async fn health_auto_export(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<HttpResponse, HttpError> {
    let grouping = headers.get(AGGREGATION).and_then(|name| name.to_str().ok());
    let reader = HealthAutoExport::new(grouping.map_or(Grouping::None, Grouping::from_name));
    store_json(app, caller, query, headers, body, reader).await
}

/// Stores what the app HC Webhook sends.
pub(crate) async fn health_connect(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<HttpResponse, HttpError> {
    store_json(app, caller, query, headers, body, HealthConnect::new()).await
}

async fn store_json(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &mut Incoming,
    reader: impl EntryReader,
) -> Result<HttpResponse, HttpError> {
    let user = user_of(caller, query)?;
    require_body(headers)?;
    let body = BodyReader::new(body, json_encoding(headers)?, app.limits.body_timeout);
    let DoorOutcome {
        counts,
        rejected,
        ignored,
        errors,
        failure,
        ..
    } = store_entries(app, caller, Some(user), body, reader).await;
    if let Some(failure) = failure {
        return Err(failure);
    }
    let response = DoorResponse {
        counts,
        rejected,
        ignored,
        errors,
    };
    Ok(json(StatusCode::OK, &response))
}

/// Returns the user of a body: `user_id` of the query, or the only user of the token.
fn user_of(caller: &Caller, query: Option<&str>) -> Result<UserId, HttpError> {
    let mut query = Query::parse(query, &["user_id"]);
    let named = query.optional_or("user_id", None, |text| user_id(text).map(Some));
    let user = query.finish(named)?.or_else(|| caller.only_user()).ok_or_else(|| {
        let detail = "user_id is required: add ?user_id=101 to the URL, or use a token that is limited to one user. Nothing \
                      was stored.";
        HttpError::new(StatusCode::BAD_REQUEST, detail)
    })?;
    caller.check_user(user)?;
    Ok(user)
}
