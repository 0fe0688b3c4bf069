//! `DELETE /users/{user_id}` and `DELETE /samples`.

use std::{future::Future, panic::resume_unwind};

use health_core::{ErasedResponse, Error, Source};
use hyper::StatusCode;

use crate::{
    app::App,
    audit,
    http::{
        auth::Caller,
        error::HttpError,
        query::{Query, user_id},
        response::{HttpResponse, empty, json},
    },
    quote::quote,
    request_id::RequestId,
};

/// `DELETE /users/{user_id}`: erases all data of a user.
pub(crate) async fn user(app: &App, caller: Caller, id: &str) -> Result<HttpResponse, HttpError> {
    let no_such_user = || HttpError::new(StatusCode::NOT_FOUND, format!("User {} has no samples.", quote(id)));
    // A number that cannot be an id belongs to no user.
    let user = user_id(id).map_err(|_| no_such_user())?;
    caller.check_user(user)?;
    let health = app.health.clone();
    let erased = to_its_end(async move {
        let samples = health.erase(user).await?;
        if samples > 0 {
            audit::erased_user(&caller, user, samples);
        }
        Ok(samples)
    });
    match erased.await? {
        0 => Err(no_such_user()),
        _ => Ok(empty(StatusCode::NO_CONTENT)),
    }
}

/// `DELETE /samples`: erases the samples of a user in a range, of one source if it is named.
pub(crate) async fn samples(app: &App, caller: Caller, query: Option<&str>) -> Result<HttpResponse, HttpError> {
    let mut query = Query::parse(query, &["user_id", "start", "end", "source"]);
    let user_and_range = query.user_and_range();
    let source = query.optional_or("source", None, |text| {
        Source::new(text).map(Some).map_err(|fault| fault.to_string())
    });
    let ((user, range), source) = query.finish(user_and_range.zip(source))?;
    caller.check_user(user)?;
    let health = app.health.clone();
    let erased = to_its_end(async move {
        let is_one_source = source.is_some();
        let samples = health.erase_range(user, range, source).await?;
        if samples > 0 {
            audit::erased_range(&caller, user, range, is_one_source, samples);
        }
        Ok(samples)
    });
    let erased = erased.await?;
    Ok(json(StatusCode::OK, &ErasedResponse { erased }))
}

/// Runs an erasure to its end even if the client has gone, so that it has its audit line all the same.
async fn to_its_end(erasing: impl Future<Output = Result<u64, Error>> + Send + 'static) -> Result<u64, HttpError> {
    let erasing = match RequestId::current() {
        Some(id) => tokio::spawn(id.scope(erasing)),
        None => tokio::spawn(erasing),
    };
    // Nothing aborts the task, so it ends early only by a panic, which is then that of the handler.
    let erased = erasing
        .await
        .unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()));
    Ok(erased?)
}
