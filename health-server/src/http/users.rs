//! `GET /users` and `DELETE /users/{user_id}`.

use std::sync::Arc;

use health_core::Error;
use hyper::StatusCode;

use crate::{
    app::App,
    audit,
    http::{
        auth::Caller,
        error::HttpError,
        query::{Query, integer, user_id},
        response::{HttpResponse, empty, json},
    },
    quote::quote,
    request_id::RequestId,
};

/// The largest `limit` of one page, fixed by the API.
const MAX_USERS: i64 = 1000;

/// The `limit` of one page if the request names none, fixed by the API.
const DEFAULT_USERS: usize = 100;

/// `GET /users`: one page of users, by id.
pub(crate) async fn list(app: &App, caller: &Caller, query: Option<&str>) -> Result<HttpResponse, HttpError> {
    let mut query = Query::parse(query, &["limit", "after"]);
    let limit = query.optional_or("limit", DEFAULT_USERS, |text| {
        let limit = integer(text, 1..=MAX_USERS).and_then(|limit| usize::try_from(limit).ok());
        limit.ok_or_else(|| format!("{} is not an integer between 1 and {MAX_USERS}", quote(text)))
    });
    let after = query.optional_or("after", None, |text| match text {
        "0" => Ok(None), // Below every id, so that a loop over the pages can begin with it.
        id => user_id(id).map(Some),
    });
    let (limit, after) = query.finish(limit.zip(after))?;
    let page = match caller.access.users() {
        None => app.health.users(limit, after).await?,
        Some(among) => {
            let among: Vec<_> = among.iter().copied().collect();
            app.health.users_among(&among, limit, after).await?
        }
    };
    Ok(json(StatusCode::OK, &page))
}

/// `DELETE /users/{user_id}`: erases all data of a user.
pub(crate) async fn erase(app: &App, caller: Caller, id: &str) -> Result<HttpResponse, HttpError> {
    let no_such_user = || HttpError::new(StatusCode::NOT_FOUND, format!("User {} has no samples.", quote(id)));
    // A number that cannot be an id belongs to no user.
    let user = user_id(id).map_err(|_| no_such_user())?;
    caller.check_user(user)?;
    // A started erasure runs to its end even if the client has gone, and then it has its audit line all the same.
    let (health, id) = (app.health.clone(), RequestId::current());
    let erasing = async move {
        let samples = health.erase(user).await?;
        if samples > 0 {
            audit::erased_user(&caller, user, samples);
        }
        Ok::<_, Error>(samples)
    };
    let erasing = match id {
        Some(id) => tokio::spawn(id.scope(erasing)),
        None => tokio::spawn(erasing),
    };
    let erased = erasing.await.map_err(|panic| Error::Unavailable(Arc::new(panic)))?;
    match erased? {
        0 => Err(no_such_user()),
        _ => Ok(empty(StatusCode::NO_CONTENT)),
    }
}
