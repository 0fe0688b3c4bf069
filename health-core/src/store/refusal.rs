//! Which errors mean that there are too many connections, or that the session of a connection is lost.

use tokio_postgres::{
    Error,
    error::{Severity, SqlState},
};

/// What poolers report in place of PostgreSQL's code. `PgBouncer` gives all its errors the code of a protocol violation.
const TOO_MANY_BY_POOLER: [&str; 3] = [
    "too many connections",
    "no more connections allowed",
    "query_wait_timeout",
];

/// Returns whether the database or a pooler refuses a connection because there are too many.
pub(crate) fn is_too_many_connections(error: &Error) -> bool {
    let Some(refusal) = error.as_db_error() else {
        return false;
    };
    *refusal.code() == SqlState::TOO_MANY_CONNECTIONS
        || (*refusal.code() == SqlState::PROTOCOL_VIOLATION
            && TOO_MANY_BY_POOLER.iter().any(|text| refusal.message().contains(text)))
}

/// Returns whether the prepared statements of the session are gone, belong to another program, or are out of date.
///
/// A new connection helps. If a pooler gives the session of one connection to another, it may lack our statements, or have
/// some of the same name that take other parameters.
pub(crate) fn is_session_lost(error: &Error) -> bool {
    let Some(refusal) = error.as_db_error() else {
        return false;
    };
    match *refusal.code() {
        SqlState::INVALID_SQL_STATEMENT_NAME
        | SqlState::DUPLICATE_PSTATEMENT
        | SqlState::INVALID_CURSOR_NAME
        | SqlState::DUPLICATE_CURSOR => true,
        // PgBouncer reports its own failures with this code, but as fatal.
        SqlState::PROTOCOL_VIOLATION => refusal.parsed_severity() == Some(Severity::Error),
        // The table was changed after the statement was prepared: "cached plan must not change result type".
        SqlState::FEATURE_NOT_SUPPORTED => refusal.routine() == Some("RevalidateCachedQuery"),
        _ => false,
    }
}
