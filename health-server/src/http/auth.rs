//! What an HTTP request may do: reads the token and checks the rule of the endpoint.

use std::sync::Arc;

use health_core::{
    UserId,
    access::{Access, AccessDenied, AccessEnd, NotAuthenticated},
    token::{Scope, TokenSecret},
};
use hyper::{HeaderMap, StatusCode, header};
use tokio::time::sleep;

use crate::{
    app::App,
    http::error::HttpError,
    refusals::{Attempt, Refusal, RefusalReason, Refusals},
};

/// What an endpoint demands of a request, once a token exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing.
    Public,
    /// A valid token with any scope.
    AnyToken,
    /// A token with a scope. The handler checks the users.
    Scope(Scope),
}

/// Who sent a request, and what they may do.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) access: Arc<Access>,
    pub(crate) attempt: Attempt,
    refusals: Arc<Refusals>,
}

/// Returns who sent a request.
///
/// A wrong token is answered late, see [`WrongTokens`](crate::wrong_tokens::WrongTokens).
///
/// # Errors
/// 401 if a token is needed and the request has no valid one; 429 if the token has used up its rate; 403 if it lacks
/// the scope.
pub(crate) async fn authorize(
    app: &App,
    rule: Rule,
    headers: &HeaderMap,
    attempt: Attempt,
) -> Result<Caller, HttpError> {
    let secret = secret(headers);
    let access = match app.authenticator.authenticate(secret) {
        Ok(access) => access,
        Err(_) if rule == Rule::Public => Arc::new(Access::nothing()),
        Err(reason) => {
            app.refusals.add(&Refusal::new(attempt, reason.into()));
            if reason != NotAuthenticated::Missing {
                sleep(app.wrong_tokens.add(attempt.peer)).await;
            }
            return Err(unauthorized(reason, headers));
        }
    };
    let caller = Caller {
        access,
        attempt,
        refusals: Arc::clone(&app.refusals),
    };
    if secret.is_some() && caller.access.token_id().is_none() && !app.authenticator.is_token_needed() {
        app.unneeded_tokens.warn(attempt.peer);
    }
    if rule != Rule::Public {
        caller.check_rate(app)?;
    }
    if let Rule::Scope(scope) = rule {
        caller
            .access
            .check_scope(scope)
            .map_err(|denied| caller.refuse(denied))?;
    }
    Ok(caller)
}

impl Caller {
    /// Checks that the caller may access a user.
    pub(crate) fn check_user(&self, user: UserId) -> Result<(), HttpError> {
        self.access.check_user(user).map_err(|denied| self.refuse(denied))
    }

    /// Returns the user to whom the token is limited, if it is only one.
    pub(crate) fn only_user(&self) -> Option<UserId> {
        let users = self.access.users()?;
        users.first().copied().filter(|_| users.len() == 1)
    }

    /// Notes that records of an upload were refused, because their users may not be accessed.
    pub(crate) fn note_refused_records(&self, denied: &AccessDenied, records: u64) {
        self.refusals.add(&Refusal {
            records: Some(records),
            ..Refusal::of_token(self.attempt, self.access.name(), denied)
        });
    }

    /// Returns the response to a caller whose access has ended during the request.
    pub(crate) fn access_ended(&self, end: AccessEnd) -> HttpError {
        let (reason, detail) = match end {
            AccessEnd::Expired => (
                RefusalReason::Expired,
                "The token has expired during the request. Ask the operator for a new one.",
            ),
            AccessEnd::TokensInForce => (
                RefusalReason::Missing,
                "During the request the first token was created. From now on, this server needs one: send it in the header \
                 Authorization: Bearer TOKEN.",
            ),
            _ => (
                RefusalReason::Wrong,
                "The token was revoked or changed during the request. If it is still valid, send the request again.",
            ),
        };
        self.refusals.add(&Refusal {
            token: Some(self.access.name()),
            ..Refusal::new(self.attempt, reason)
        });
        HttpError::new(StatusCode::UNAUTHORIZED, detail)
    }

    fn check_rate(&self, app: &App) -> Result<(), HttpError> {
        let Some(Err(wait)) = self.access.token_id().map(|id| app.token_rates.take(id)) else {
            return Ok(());
        };
        self.refusals.add(&Refusal {
            token: Some(self.access.name()),
            ..Refusal::new(self.attempt, RefusalReason::Rate)
        });
        let detail = format!(
            "The token {} has sent more than {} requests a second. Send the request again later.",
            self.access.name(),
            app.limits.max_token_rate
        );
        Err(HttpError::new(StatusCode::TOO_MANY_REQUESTS, detail).with_retry_after(wait))
    }

    /// Returns the response to something that the token does not permit.
    pub(crate) fn refuse(&self, denied: AccessDenied) -> HttpError {
        self.refusals
            .add(&Refusal::of_token(self.attempt, self.access.name(), &denied));
        denied.into()
    }
}

/// Returns the secret of `Authorization: Bearer SECRET`, or of `Token SECRET` as senders of line protocol write it. A
/// repeated header, or one of another form, is a wrong token.
fn secret(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some("");
    }
    Some(value.to_str().ok().and_then(after_scheme).unwrap_or_default())
}

/// Returns what follows the scheme `Bearer` or `Token`.
fn after_scheme(value: &str) -> Option<&str> {
    let (scheme, secret) = value.split_once(' ')?;
    is_scheme(scheme).then(|| secret.trim_matches(' '))
}

fn is_scheme(word: &str) -> bool {
    ["bearer", "token"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Returns the response to a request without a valid token.
fn unauthorized(reason: NotAuthenticated, headers: &HeaderMap) -> HttpError {
    let detail = match reason {
        NotAuthenticated::Missing => {
            "This server needs a token. Send it in the header Authorization: Bearer TOKEN. An operator creates one with \
             health-server token create --name NAME --scope SCOPE."
        }
        NotAuthenticated::Expired => "The token has expired. Ask the operator for a new one.",
        _ => fault_of_header(headers).unwrap_or(
            "The token is unknown or was revoked. Send a valid one in the header Authorization: Bearer TOKEN. health-server \
             token list names those that are in force.",
        ),
    };
    HttpError::new(StatusCode::UNAUTHORIZED, detail)
}

/// Returns what is wrong with the form of the header, if it contains no secret that a token could have. Never shows it.
fn fault_of_header(headers: &HeaderMap) -> Option<&'static str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().unwrap_or_default().trim();
    if values.next().is_some() {
        return Some("The request has several Authorization headers. Send one: Authorization: Bearer TOKEN.");
    }
    if is_scheme(value) {
        return Some(
            "The header Authorization has no token. Send Authorization: Bearer TOKEN, with one blank between them.",
        );
    }
    let Some(secret) = after_scheme(value) else {
        return Some(
            "The value of the header Authorization does not begin with Bearer and a blank. Send Authorization: Bearer TOKEN.",
        );
    };
    let first = secret.split(' ').next().unwrap_or_default().trim_end_matches(':');
    if is_scheme(first) {
        return Some("The header Authorization says Bearer twice. Send Authorization: Bearer TOKEN.");
    }
    (!TokenSecret::has_form(secret)).then_some(
        "The token is unknown or was revoked: it does not have the form of one, which is health_ and 64 hexadecimal digits. \
         Copy it again, without quotation marks and to its end, and send it in the header Authorization: Bearer TOKEN.",
    )
}

impl From<AccessDenied> for HttpError {
    fn from(denied: AccessDenied) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("The request is not allowed: {denied}."))
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn what_is_wrong_with_the_header_is_named_and_never_shown() {
        let token = format!("health_{}", "a1".repeat(32));
        for (value, fault) in [
            (token.clone(), "does not begin with Bearer"),
            (format!("Bearer: {token}"), "does not begin with Bearer"),
            (format!("Basic {token}"), "does not begin with Bearer"),
            (format!("Bearer{token}"), "does not begin with Bearer"),
            (format!("Bearer Bearer {token}"), "says Bearer twice"),
            (format!("Bearer bearer: {token}"), "says Bearer twice"),
            ("Bearer".to_owned(), "has no token"),
            ("Token ".to_owned(), "has no token"),
            (format!("Bearer \"{token}\""), "does not have the form"),
            (format!("Bearer {}", &token[1..]), "does not have the form"),
            (format!("Bearer {}", &token[..70]), "does not have the form"),
            (format!("Bearer {token}"), "is unknown or was revoked. Send"),
            (format!("token  {token} "), "is unknown or was revoked. Send"),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap())]);
            let response = unauthorized(NotAuthenticated::Unknown, &headers);
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            let detail = response.into_problem().detail;
            assert!(
                detail.contains(fault) && detail.contains("Authorization: Bearer TOKEN"),
                "{value}: {detail}"
            );
            assert!(!detail.contains("a1a1"), "{detail}");
        }
        let mut two = HeaderMap::new();
        two.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        two.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        let detail = unauthorized(NotAuthenticated::Unknown, &two).into_problem().detail;
        assert!(detail.contains("several Authorization headers"), "{detail}");
    }

    #[test]
    fn the_secret_follows_the_scheme_bearer_or_token_in_any_case() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER   abc ", Some("abc")),
            ("Token abc", Some("abc")),
            ("TOKEN abc", Some("abc")),
            ("Bearer", Some("")),
            ("Token", Some("")),
            ("Basic abc", Some("")),
            ("abc", Some("")),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(secret(&headers), expected, "{value}");
        }
        assert_eq!(secret(&HeaderMap::new()), None);
        let mut two = HeaderMap::new();
        two.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        two.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert_eq!(secret(&two), Some(""));
    }
}
