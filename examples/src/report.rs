//! How an example ends: with its status, and with a sentence if it failed.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use health_core::embedded::EmbeddedError;

use crate::Result;

/// Returns the exit status of `program`. Prints an error and its causes in one line to stderr.
pub fn exit_code(program: &str, result: Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // If stderr is closed, the status still reports the failure.
    let _ = match error.downcast_ref::<EmbeddedError>() {
        // A message of several lines.
        Some(error) => writeln!(io::stderr(), "{error}"),
        None => writeln!(io::stderr(), "{program}: {}", chain(error.as_ref())),
    };
    ExitCode::FAILURE
}

/// Returns an error and its causes in one line. A cause that the error already names is left out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file")]
    struct Unreadable(#[source] io::Error);

    #[test]
    fn an_error_is_a_sentence_with_its_causes() {
        let error = Unreadable(io::Error::other("the disk is gone"));
        assert_eq!(chain(&error), "cannot read the file: the disk is gone");
    }
}
