//! `GET /users`.

use hyper::StatusCode;

use crate::{
    app::App,
    http::{
        auth::Caller,
        error::HttpError,
        query::{Query, integer, user_id},
        response::{HttpResponse, json},
    },
    quote::quote,
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
