//! `POST /api/v2/write` and `POST /write`: InfluxDB's line protocol.
//!
//! Telegraf drops a batch after a 4xx, and sends it again after a 5xx. So if a point is refused, the server stores the
//! others and answers 400.

use health_core::{
    Rejection, UserId, counted,
    formats::{LineProtocol, Precision},
};
use hyper::{HeaderMap, StatusCode, body::Incoming};
use serde::Serialize;

use crate::{
    app::App,
    http::{
        auth::Caller,
        body::{BodyReader, encoding},
        doors::entries::{DoorOutcome, store_entries},
        error::HttpError,
        framing::require_body,
        query::{Query, user_id},
        response::{HttpResponse, empty, json},
    },
    quote::quote,
};

/// InfluxDB's form of an error: version 2 has `code` and `message`, version 1 has `error`.
#[derive(Serialize)]
struct WriteError<'a> {
    code: &'static str,
    message: &'a str,
    error: &'a str,
}

/// Lines that the message of a partial write names.
const MAX_NAMED_LINES: usize = 5;

/// Stores the points of a body.
pub(crate) async fn line_protocol(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<HttpResponse, HttpError> {
    let mut parameters = Query::parse_known(query, &["precision", "user_id"]);
    let precision = parameters.optional_or("precision", Precision::default(), precision);
    let user = parameters.optional_or("user_id", None, |text| user_id(text).map(Some));
    let (precision, user) = match parameters.finish(precision.zip(user)) {
        Ok(values) => values,
        Err(errors) => return Ok(invalid(&errors.to_string())),
    };
    let user: Option<UserId> = user.or_else(|| caller.only_user());
    require_body(headers)?;
    let body = BodyReader::new(body, encoding(headers)?, app.limits.body_timeout);
    let outcome = store_entries(app, caller, user, body, LineProtocol::new(precision)).await;
    match outcome {
        DoorOutcome {
            failure: Some(failure), ..
        } => Err(failure),
        DoorOutcome { rejected: 0, .. } => Ok(empty(StatusCode::NO_CONTENT)),
        DoorOutcome {
            rejected,
            entries,
            errors,
            hint,
            ..
        } => Ok(invalid(&partial_write(rejected, entries, &errors, hint))),
    }
}

fn precision(text: &str) -> Result<Precision, String> {
    Precision::from_name(text)
        .ok_or_else(|| format!("is {}: ns, us, ms and s are known, and n, u, m and h", quote(text)))
}

fn invalid(message: &str) -> HttpResponse {
    let error = WriteError {
        code: "invalid",
        message,
        error: message,
    };
    json(StatusCode::BAD_REQUEST, &error)
}

/// Returns the message that names the first refused lines, and says what happened to the others.
fn partial_write(refused: u64, points: u64, errors: &[Rejection], hint: Option<&str>) -> String {
    let lines: Vec<_> = errors
        .iter()
        .take(MAX_NAMED_LINES)
        .map(|error| format!("line {}: {}", error.index + 1, error.reason))
        .collect();
    let verb = if refused == 1 { "was" } else { "were" };
    let end = match points.saturating_sub(refused) {
        0 => format!("{} {verb} refused, nothing is stored", counted(refused, "point")),
        1 => format!("{refused} of {points} points {verb} refused, the other one is stored"),
        _ => format!("{refused} of {points} points {verb} refused, the others are stored"),
    };
    let message = format!("partial write: {}; {end}", lines.join("; "));
    match hint {
        Some(hint) => format!("{message}. {hint}"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_write_names_the_first_lines_and_the_numbers() {
        let error = |index| Rejection {
            index,
            field: Some("lines".to_owned()),
            reason: "heart_rate 400 is not between 20 and 250 beats per minute".to_owned(),
        };
        let message = "line 3: heart_rate 400 is not between 20 and 250 beats per minute";
        for (refused, points, end) in [
            (1, 10, "1 of 10 points was refused, the others are stored"),
            (1, 2, "1 of 2 points was refused, the other one is stored"),
            (1, 1, "1 point was refused, nothing is stored"),
            (2, 2, "2 points were refused, nothing is stored"),
        ] {
            assert_eq!(
                partial_write(refused, points, &[error(2)], None),
                format!("partial write: {message}; {end}")
            );
        }
        let many: Vec<_> = (0..100).map(error).collect();
        let message = partial_write(100, 1_000, &many, Some("Compress it."));
        assert_eq!(message.matches("line ").count(), MAX_NAMED_LINES);
        assert!(message.ends_with("the others are stored. Compress it."), "{message}");
    }
}
