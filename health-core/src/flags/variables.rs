//! Values of a command line that come from environment variables: which of them count, and errors about them.
//!
//! In an error, clap names only the flag. A user who never wrote that flag must learn which variable has the value.

use std::{env, error::Error as StdError, ffi::OsString};

use clap::{
    Arg, Command, Error, Parser,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Reads the command line and the environment of this process. Prints an error and ends the process, as
/// [`Parser::parse`] does, but says which variable has a wrong value.
///
/// A flag wins over a variable, so the variable of `--token` does not count beside the flag `--token-file`.
pub fn parse_command_line<T: Parser>() -> T {
    let argv: Vec<_> = env::args_os().collect();
    parse(&argv).unwrap_or_else(|error| name_variable(error, T::command(), &argv).exit())
}

fn parse<T: Parser>(argv: &[OsString]) -> Result<T, Error> {
    let mut command = T::command();
    if is_given("--token-file", argv) && !is_given("--token", argv) {
        command = without_variable(command, "token");
    }
    let matches = command.clone().try_get_matches_from(argv)?;
    T::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Lets a flag take its value from the command line only. `id` is that of the argument, in this command and those below
/// it.
#[must_use]
pub fn without_variable(command: Command, id: &str) -> Command {
    command
        .mut_args(|arg| {
            if arg.get_id() == id {
                arg.env(Resettable::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(|command| without_variable(command, id))
}

/// Returns an error that names the variable, if the value that clap refuses comes from one.
#[must_use]
pub fn name_variable(error: Error, command: Command, argv: &[OsString]) -> Error {
    match about_variable(&error, command, argv) {
        // A message without the usage: no argument is wrong.
        Some(message) => Error::raw(
            error.kind(),
            format!("{message}\n\nFor more information, try '--help'.\n"),
        ),
        None => error,
    }
}

/// Returns why clap refuses a value. `None` if the value is only empty.
pub fn refusal_reason(error: &Error) -> Option<String> {
    if let Some(reason) = error.source() {
        return Some(reason.to_string());
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(choices)) if !choices.is_empty() => Some(format!("write {}", choices.join(" or "))),
        _ => None,
    }
}

fn about_variable(error: &Error, mut command: Command, argv: &[OsString]) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let Some(ContextValue::String(refused)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    // Adds the flags of all commands to each command.
    command.build();
    let arg = find(&command, refused)?;
    let flag = format!("--{}", arg.get_long()?);
    if is_given(&flag, argv) {
        return None;
    }
    let variable = arg.get_env()?.display();
    let value = env::var_os(arg.get_env()?)?;
    let reason = refusal_reason(error);
    if value.is_empty() {
        let value = reason.unwrap_or_else(|| format!("write a value for {flag}"));
        return Some(format!(
            "the environment variable {variable} is empty. Unset it, or {value}"
        ));
    }
    let shown = if arg.is_hide_env_values_set() {
        String::new()
    } else {
        format!(" '{}'", value.display())
    };
    Some(format!(
        "invalid value{shown} of the environment variable {variable}, which sets {flag}: {}",
        reason.unwrap_or_default()
    ))
}

/// Finds the argument that clap shows as `shown`, such as `--writers <N>`, also in the commands below this one.
fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let mut arguments = command.get_arguments();
    arguments.find(|arg| arg.to_string() == shown).or_else(|| {
        let mut commands = command.get_subcommands();
        commands.find_map(|command| find(command, shown))
    })
}

/// Returns whether a command line has a flag, as `--flag VALUE` or `--flag=VALUE`.
fn is_given(flag: &str, argv: &[OsString]) -> bool {
    argv.iter().any(|word| {
        let word = word.to_string_lossy();
        word.strip_prefix(flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}
