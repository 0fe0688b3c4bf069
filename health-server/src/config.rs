//! The configuration of one run: the command line, the environment and the configuration file, combined.
//!
//! clap knows the order "flag, variable, default". The values of the file become the defaults of a second parse, so
//! that every flag has the same rules in all three places.

mod alternatives;
mod error;
mod file;
mod print;
mod setting;

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, error::ErrorKind, parser::ValueSource};
use health_core::flags::name_variable;

pub(crate) use self::{error::ConfigError, print::print, setting::SECRET_KEYS};
use self::{
    file::FileValues,
    setting::{Setting, arguments, settings},
};
use crate::args::Args;

/// The values of all settings of a command that have one, by key, as texts.
pub(crate) type Values = BTreeMap<String, Vec<OsString>>;

/// A configuration that was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) args: Args,
    /// What is in force, to compare it with a later reading.
    pub(crate) values: Values,
    /// The configuration file has a password, and others can read it.
    pub(crate) shows_password: Option<PathBuf>,
    /// `--data-dir` has no effect, because another database is set.
    pub(crate) ignores_data_dir: bool,
    pub(crate) sources: Sources,
}

/// Where the settings come from, apart from the command line and the defaults.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) file: Option<PathBuf>,
    /// The names of the variables that set something.
    pub(crate) variables: Vec<String>,
}

/// Combines the command line with the environment and the configuration file.
///
/// # Errors
/// [`ConfigError`], also for `--help` and `--version`.
pub(crate) fn load(argv: &[OsString]) -> Result<Loaded, ConfigError> {
    let command = Args::command();
    let matches = parse(&command, argv)?;
    check_order(&command, &matches)?;
    let mut file = match matches.get_one::<PathBuf>("config") {
        // It shows defaults only.
        _ if matches.get_flag("print_config") => FileValues::default(),
        Some(path) => FileValues::read(path, &settings(&command))?,
        None => FileValues::default(),
    };
    let shows_password = file.shows_password();
    let ignores_data_dir = alternatives::ignores_data_dir(&matches, &file);
    let command = alternatives::choose(command, &matches, &mut file)?;
    let command = with_defaults(command, &file);
    let matches = parse(&command, argv)?;
    let parsed = Args::from_arg_matches(&matches)?;
    Ok(Loaded {
        sources: Sources {
            file: parsed.config.clone(),
            variables: variables_in_force(&command, &matches),
        },
        args: parsed,
        values: values_in_force(&matches),
        shows_password,
        ignores_data_dir,
    })
}

/// Reads the command line and the environment.
fn parse(command: &Command, argv: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let matches = command.clone().try_get_matches_from(argv);
    matches.map_err(|error| name_variable(error, command.clone(), argv))
}

/// Makes the values of the file the defaults of their flags, in all commands.
fn with_defaults(command: Command, file: &FileValues) -> Command {
    command
        .mut_args(|arg| match arg.get_long().and_then(|key| file.get(key)) {
            Some(values) => arg.default_values(values.to_vec()),
            None => arg,
        })
        .mut_subcommands(|command| with_defaults(command, file))
}

/// Refuses flags of `serve` before another command, where they would have no effect.
fn check_order(command: &Command, matches: &ArgMatches) -> Result<(), ConfigError> {
    let Some(name) = matches.subcommand_name() else {
        return Ok(());
    };
    for arg in command.get_arguments().filter(|arg| !arg.is_global_set()) {
        if matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
            let flag = arg.get_long().unwrap_or_default();
            let message = format!("--{flag} stands before the command `{name}`. Write it after the command.");
            return Err(command.clone().error(ErrorKind::ArgumentConflict, message).into());
        }
    }
    Ok(())
}

/// Returns the values of the settings that the chosen command has.
fn values_in_force(matches: &ArgMatches) -> Values {
    let matches = chosen(matches);
    let known = settings(&Args::command());
    let values = known.iter().filter_map(|setting| {
        let raw = matches.try_get_raw(&setting.id).ok().flatten()?;
        Some((setting.key.clone(), raw.map(ToOwned::to_owned).collect()))
    });
    values.collect()
}

/// Returns the names of the variables that set something for the chosen command.
fn variables_in_force(command: &Command, matches: &ArgMatches) -> Vec<String> {
    let matches = chosen(matches);
    let mut names: Vec<String> = arguments(command)
        .filter(|arg| Setting::new(arg).is_some())
        .filter(|arg| {
            let id = arg.get_id().as_str();
            // A command does not know the settings of others.
            matches!(matches.try_contains_id(id), Ok(true))
                && matches.value_source(id) == Some(ValueSource::EnvVariable)
        })
        .filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns the matches of the innermost command.
fn chosen(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| chosen(matches))
}

#[cfg(test)]
mod tests;
