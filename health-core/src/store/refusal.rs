//! What errors of the driver mean to a caller.

use std::sync::Arc;

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::{
    cause::Cause,
    error::{Error, NotWritableReason, TemporaryReason},
};

/// What poolers report in place of PostgreSQL's code. `PgBouncer` gives all its errors the code of a protocol
/// violation.
const TOO_MANY_BY_POOLER: [&str; 3] = [
    "too many connections",
    "no more connections allowed",
    "query_wait_timeout",
];

/// The source files of Citus that talk to its nodes. PostgreSQL has none of these names.
const FILES_OF_CITUS: [&str; 8] = [
    "adaptive_executor.c",
    "connection_management.c",
    "multi_copy.c",
    "placement_connection.c",
    "remote_commands.c",
    "remote_transaction.c",
    "transaction_management.c",
    "transaction_recovery.c",
];

/// Sorts an error of the driver by what a caller can do about it.
pub(crate) fn classify(error: tokio_postgres::Error) -> Error {
    let Some(refusal) = error.as_db_error() else {
        // The error comes from the connection: refused, reset, closed.
        return Error::Unavailable(Arc::new(error));
    };
    if is_too_many_connections(&error) {
        return too_many_connections(Arc::new(error));
    }
    if is_session_lost(&error) {
        return session_lost(Arc::new(error));
    }
    let not_writable = match *refusal.code() {
        // A standby that has not been promoted yet, or a setting.
        SqlState::READ_ONLY_SQL_TRANSACTION => Some(NotWritableReason::ReadOnly),
        SqlState::DISK_FULL => Some(NotWritableReason::DiskFull),
        SqlState::INSUFFICIENT_PRIVILEGE if !is_about_one_row(refusal) => Some(NotWritableReason::MissingRight),
        _ => None,
    };
    if let Some(reason) = not_writable {
        return Error::NotWritable(reason);
    }
    match temporary_reason(refusal.code()) {
        Some(reason) => Error::Temporary {
            reason,
            cause: Arc::new(error),
        },
        None if is_out_of_reach(refusal.code()) || is_about_a_node(refusal) => Error::Unavailable(Arc::new(error)),
        None => Error::Database(Arc::new(error)),
    }
}

/// Returns whether PostgreSQL refused one row and may accept the others of the same statement.
///
/// The classes are data exceptions, violated constraints, and errors raised by a trigger. Row-level security reports a
/// row with the code of a missing right.
pub(crate) fn is_about_one_row(refusal: &DbError) -> bool {
    let code = refusal.code();
    let class = code.code().get(..2).unwrap_or_default();
    ["22", "23", "44", "P0"].contains(&class)
        || (*code == SqlState::INSUFFICIENT_PRIVILEGE && refusal.routine() == Some("ExecWithCheckOptions"))
        || is_violation_at_a_node(refusal)
}

/// Returns whether a worker of Citus refused a row that a constraint forbids. Citus inserts rows by COPY, and reports
/// what a worker refuses then as an internal error, with the worker's text and without its code.
fn is_violation_at_a_node(refusal: &DbError) -> bool {
    *refusal.code() == SqlState::INTERNAL_ERROR
        && comes_from_a_node(refusal.file(), refusal.where_())
        && refusal.message().contains(" violates ")
}

fn temporary_reason(code: &SqlState) -> Option<TemporaryReason> {
    Some(match *code {
        SqlState::QUERY_CANCELED => TemporaryReason::Cancelled,
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => TemporaryReason::Conflict,
        SqlState::LOCK_NOT_AVAILABLE => TemporaryReason::Locked,
        SqlState::IO_ERROR => TemporaryReason::Io,
        // Class 53: insufficient resources.
        _ if code.code().starts_with("53") => TemporaryReason::OutOfResources,
        _ => return None,
    })
}

/// Returns whether PostgreSQL is starting or stopping, or has lost the connection (class 08).
fn is_out_of_reach(code: &SqlState) -> bool {
    let codes = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    codes.contains(code) || code.code().starts_with("08")
}

/// Returns whether Citus reports that one of its nodes failed: as a lost connection (class 08), a shutdown (57P), or an
/// internal error. The session is as good as before, and another attempt may succeed.
///
/// A duplicate key may be an internal error too, but writers look for it first. An internal error of PostgreSQL itself
/// has another source file and no such context.
pub(crate) fn is_about_a_node(refusal: &DbError) -> bool {
    let code = refusal.code();
    let is_of_a_node =
        *code == SqlState::INTERNAL_ERROR || ["08", "57P"].iter().any(|class| code.code().starts_with(class));
    is_of_a_node && comes_from_a_node(refusal.file(), refusal.where_()) && !is_about_one_row(refusal)
}

fn comes_from_a_node(file: Option<&str>, context: Option<&str>) -> bool {
    file.is_some_and(|file| FILES_OF_CITUS.contains(&file))
        || context.is_some_and(|context| context.contains("while executing command on "))
}

/// Returns whether the database or a pooler refuses a connection because there are too many.
pub(crate) fn is_too_many_connections(error: &tokio_postgres::Error) -> bool {
    let Some(refusal) = error.as_db_error() else {
        return false;
    };
    *refusal.code() == SqlState::TOO_MANY_CONNECTIONS
        || (*refusal.code() == SqlState::PROTOCOL_VIOLATION
            && TOO_MANY_BY_POOLER.iter().any(|text| refusal.message().contains(text)))
}

/// Returns whether the prepared statements of the session are gone, belong to another program, or are out of date.
///
/// A new connection helps. If a pooler gives the session of one connection to another, it may lack our statements, or
/// have some of the same name that take other parameters.
pub(crate) fn is_session_lost(error: &tokio_postgres::Error) -> bool {
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

/// Returns the error for a connection that is refused because there are too many.
pub(crate) fn too_many_connections(cause: Cause) -> Error {
    Error::Temporary {
        reason: TemporaryReason::TooManyConnections,
        cause,
    }
}

/// Returns the error for a session whose settings and statements are gone.
pub(crate) fn session_lost(cause: Cause) -> Error {
    Error::Temporary {
        reason: TemporaryReason::SessionLost,
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_error_is_about_a_node_only_if_citus_reports_it() {
        let context = "while executing command on 10.0.0.2:5432";
        assert!(comes_from_a_node(Some("remote_transaction.c"), None));
        assert!(comes_from_a_node(Some("elog.c"), Some(context)));
        assert!(!comes_from_a_node(
            Some("heapam.c"),
            Some("PL/pgSQL function f() line 1")
        ));
        assert!(!comes_from_a_node(None, None));
    }
}
