//! `GET /users` and `DELETE /users/{user_id}`.

use hyper::StatusCode;

use crate::{
    app::App,
    http::{
        problem::{Refusal, Reply, empty, json},
        query::{Query, integer, quote, user_id},
    },
};

/// Users of one answer, at most.
const MOST_USERS: i64 = 1000;

/// Users of one answer, unless asked otherwise.
const USUAL_USERS: usize = 100;

/// `GET /users`
pub(crate) async fn list(app: &App, query: Option<&str>) -> Result<Reply, Refusal> {
    let mut query = Query::parse(query, &["limit", "after"]);
    let limit = query.optional_or("limit", USUAL_USERS, |text| {
        let limit = integer(text, 1..=MOST_USERS).and_then(|limit| usize::try_from(limit).ok());
        limit.ok_or_else(|| format!("{} is not an integer between 1 and {MOST_USERS}", quote(text)))
    });
    let after = query.optional_or("after", None, |text| match text {
        "0" => Ok(None), // Behind nobody: where a loop over the pages begins.
        id => user_id(id).map(Some),
    });
    let (limit, after) = query.finish(limit.zip(after))?;
    Ok(json(StatusCode::OK, &app.health.users(limit, after).await?))
}

/// `DELETE /users/{user_id}`
pub(crate) async fn erase(app: &App, id: &str) -> Result<Reply, Refusal> {
    let nobody = || Refusal::new(StatusCode::NOT_FOUND, format!("User {} has no samples.", quote(id)));
    // What cannot be an id is nobody's.
    let user = user_id(id).map_err(|_| nobody())?;
    match app.health.erase(user).await? {
        0 => Err(nobody()),
        samples => {
            tracing::info!(%user, samples, "erased a user");
            Ok(empty(StatusCode::NO_CONTENT))
        }
    }
}
